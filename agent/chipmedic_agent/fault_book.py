"""The open faults of this node: one for each (component, kind), whoever sees it.

Several detectors may see one condition (an Xid from NVML and from the kernel log): they hold one
fault open together, and it ends when the last of them lets go. What is only a repeat is told at
most every 30 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from chipmedic.model import (
    EVIDENCE_MAX,
    Action,
    Change,
    Cleared,
    Component,
    Fault,
    Raised,
    Severity,
    Updated,
)

REPEAT_SECONDS = 30.0
"""How often the mere repeats of a fault are told."""
CODES_MAX = 32
ORPHAN = "?"
"""Holds a fault whose detector lost its memory; see `disown_all_but`."""
ORPHAN_SECONDS = 600.0
"""How long a warning that no detector remembers stays open while its check sees nothing of it."""

Key = tuple[Component, str]
_ACTIONS = list(Action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One open fault and who holds it."""

    fault: Fault
    """What all holders together have seen."""
    holders: dict[str, Fault]
    """The last word of each detector that holds it, by the detector's name."""
    past_count: int = 0
    """Sightings by holders that let go since."""
    told_at: float
    has_repeats: bool = False
    """Whether `fault` has something that was not told yet."""
    orphaned_at: float | None = None
    sources: tuple[str, ...] = field(default=())
    """Every check that saw it."""


class FaultBook:
    """Keeps what is open and tells what changed."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[Key, Entry] = {entry.fault.key: entry for entry in entries}

    def entries(self) -> tuple[Entry, ...]:
        """Return everything, to be saved."""
        return tuple(self._entries.values())

    def open(self) -> list[Fault]:
        """Return the open faults."""
        return [entry.fault for entry in list(self._entries.values())]

    def is_open_for(self, source: str) -> bool:
        """Tell whether a fault that this check saw is open."""
        return any(source in entry.sources for entry in list(self._entries.values()))

    def apply(self, detector: str, changes: Iterable[Change], at: float) -> list[Change]:
        """Take in what a detector says; return what is to be told."""
        told: list[Change] = []
        for change in changes:
            match change:
                case Raised(fault) | Updated(fault):
                    told += self._seen(detector, fault, at, is_raise=isinstance(change, Raised))
                case Cleared(fault, cleared_at, reason):
                    told += self._let_go(detector, fault.key, cleared_at, reason)
        return told

    def repeats_due(self, at: float) -> list[Change]:
        """Return the repeats that have been held back long enough."""
        return [
            self._tell(entry, at)
            for entry in list(self._entries.values())
            if entry.has_repeats and not 0 <= at - entry.told_at < REPEAT_SECONDS
        ]

    def retire(self, is_gone: Callable[[Component], bool], at: float, reason: str) -> list[Change]:
        """End the faults of components that are no longer part of this node."""
        gone = [entry for entry in self._entries.values() if is_gone(entry.fault.component)]
        return [self._end(entry, at, reason) for entry in gone]

    def disown_all_but(self, detectors: Iterable[str], at: float) -> None:
        """Take faults from detectors that lost their state and will never clear them."""
        remember = {ORPHAN, *detectors}
        for key, entry in list(self._entries.items()):
            holders = {name: f for name, f in entry.holders.items() if name in remember}
            if len(holders) == len(entry.holders):
                continue
            holders[ORPHAN] = entry.fault
            self._entries[key] = replace(entry, holders=holders, orphaned_at=at)

    def expire_orphans(self, at: float, looks: Callable[[str], bool]) -> list[Change]:
        """End orphaned warnings that nobody has seen again though their check `looks`.

        Critical ones wait for the next boot: what was seen once (an uncorrectable error) is not
        over because nobody remembers it.
        """
        told: list[Change] = []
        for entry in list(self._entries.values()):
            if entry.orphaned_at is None or entry.fault.severity is Severity.CRITICAL:
                continue
            is_due = not 0 <= at - entry.orphaned_at < ORPHAN_SECONDS
            if is_due and all(looks(source) for source in entry.sources):
                told += self._let_go(ORPHAN, entry.fault.key, at, "not seen again")
        return told

    def rebooted(self, at: float) -> list[Change]:
        """End what only an orphan's holder kept open: a reboot cleared it, or it is seen anew."""
        told: list[Change] = []
        for entry in list(self._entries.values()):
            if ORPHAN in entry.holders:
                told += self._let_go(ORPHAN, entry.fault.key, at, "rebooted")
        return told

    def replay(self, change: Change, at: float) -> None:
        """Take in a transition that was told but is not in the saved book."""
        match change:
            case Raised(fault) | Updated(fault):
                self._entries[fault.key] = Entry(
                    fault=fault,
                    holders={ORPHAN: fault},
                    told_at=at,
                    orphaned_at=at,
                    sources=(fault.source,),
                )
            case Cleared(fault, _, _):
                self._entries.pop(fault.key, None)

    def _seen(self, detector: str, fault: Fault, at: float, *, is_raise: bool) -> list[Change]:
        entry = self._entries.get(fault.key)
        if entry is None:
            fresh = Entry(
                fault=_bounded(fault),
                holders={detector: fault},
                told_at=at,
                sources=(fault.source,),
            )
            self._entries[fault.key] = fresh
            return [Raised(fresh.fault)]
        entry = _merged(entry, detector, fault, is_raise=is_raise)
        before = self._entries[fault.key].fault
        self._entries[fault.key] = entry
        is_due = not 0 <= at - entry.told_at < REPEAT_SECONDS
        if _is_news(before, entry.fault) or (entry.has_repeats and is_due):
            return [self._tell(entry, at)]
        return []

    def _let_go(self, detector: str, key: Key, at: float, reason: str) -> list[Change]:
        entry = self._entries.get(key)
        if entry is None or detector not in entry.holders:
            return []
        holders = dict(entry.holders)
        past = entry.past_count + holders.pop(detector).count
        if not holders:
            return [self._end(entry, at, reason)]
        orphaned_at = entry.orphaned_at if ORPHAN in holders else None
        self._entries[key] = replace(
            entry, holders=holders, past_count=past, orphaned_at=orphaned_at
        )
        return []

    def _tell(self, entry: Entry, at: float) -> Change:
        told = replace(entry, told_at=at, has_repeats=False)
        self._entries[entry.fault.key] = told
        return Updated(told.fault)

    def _end(self, entry: Entry, at: float, reason: str) -> Change:
        del self._entries[entry.fault.key]
        return Cleared(entry.fault, at, reason)


def _merged(entry: Entry, detector: str, fault: Fault, *, is_raise: bool) -> Entry:
    """Add one detector's word to a fault that is open."""
    holders = dict(entry.holders)
    past = entry.past_count
    orphan = holders.pop(ORPHAN, None)  # somebody remembers it again
    if orphan is not None:
        past += orphan.count
    former = holders.get(detector)
    if is_raise and former is not None:
        past += former.count
    holders[detector] = fault
    old = entry.fault
    is_worse = fault.severity > old.severity
    is_alone = orphan is None and len(holders) == 1  # whose last word counts, a milder one too
    merged = replace(
        old,
        severity=fault.severity if is_alone else max(old.severity, fault.severity),
        action=fault.action if is_alone else _stronger(old, fault),
        since=min(old.since, fault.since),
        summary=fault.summary if is_worse or len(holders) == 1 else old.summary,
        codes=tuple(dict.fromkeys((*old.codes, *fault.codes)))[:CODES_MAX],
        evidence=_evidence(old.evidence, fault.evidence),
        count=past + sum(holder.count for holder in holders.values()),
        job=old.job or fault.job,
    )
    return replace(
        entry,
        fault=merged,
        holders=holders,
        past_count=past,
        has_repeats=entry.has_repeats or merged != old,
        orphaned_at=None,
        sources=tuple(dict.fromkeys((*entry.sources, fault.source))),
    )


def _stronger(old: Fault, new: Fault) -> Action:
    """Return the action of the worse fault; of two equally bad ones the more drastic."""
    if old.severity != new.severity:
        return old.action if old.severity > new.severity else new.action
    return max(old.action, new.action, key=_ACTIONS.index)


def _is_news(old: Fault, new: Fault) -> bool:
    """Tell whether a change is more than a repeat."""
    return (old.severity, old.action, old.codes, old.job) != (
        new.severity,
        new.action,
        new.codes,
        new.job,
    )


def _bounded(fault: Fault) -> Fault:
    return replace(fault, codes=fault.codes[:CODES_MAX], evidence=_evidence((), fault.evidence))


def _evidence(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """Join evidence: the first lines tell the cause, the newest the present."""
    lines = tuple(dict.fromkeys((*old, *new)))
    if len(lines) <= EVIDENCE_MAX:
        return lines
    first = EVIDENCE_MAX // 2
    return lines[:first] + lines[-(EVIDENCE_MAX - first) :]
