"""When a code was said of a component, and whether one more word of it is a new occurrence.

One event often arrives twice: NVML's event set and the kernel log both tell of an Xid, a restart
of the agent may read a record again, a polled tool lists a code for as long as it is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from chipmedic.faults.escalation import TIMES_MAX, WINDOW_SECONDS_MAX
from chipmedic.model import Component, Event

SAME_SECONDS = 5.0
"""Two sources within this time speak of one event."""
BURST_SECONDS = 60.0
"""One event often prints a line per channel or process: lines so near escalate as one."""
KEPT_CODES = 512

SEVERAL_UNITS = "several"
"""The unit of a burst that names more than one: then it is none of them."""

_PID = re.compile(r"\bpid[=: ]+'?(\d+)")
_UNIT = re.compile(
    r"\bGPC ?(?P<gpc>\d{1,3})(?:, TPC (?P<tpc>\d{1,3})(?:, SM (?P<sm>\d{1,3}))?|"
    r" GPCCLIENT_(?P<client>\w{1,16}))"
)
"""Xid 13: `(GPC 2, TPC 4, SM 1)`, in old drivers without SM. Xid 31: `GPC2 GPCCLIENT_T4_1`; drivers
that leave out the GPC there name no unit."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time that a code was said of a component."""

    at: float
    source: str
    id: str = ""
    program: str = ""
    """The job where it is known, else the process; empty: the text names none."""
    unit: str = ""
    """The part of the chip that the text names, `SEVERAL_UNITS`, or empty for none."""
    began_at: float | None = None
    """When it was first stated, where it lasted or came in a burst; None: at `at`."""
    is_hidden: bool = False
    """True: taken for a companion of another fault, so far."""
    is_lasting: bool = False
    """True: its source states it for as long as it is true."""

    @property
    def begin(self) -> float:
        """When it was first stated."""
        return self.at if self.began_at is None else self.began_at


def key_of_code(component: Component, code: str) -> str:
    """Return the key of a part's occurrences: `<component> <code>`, the code without blanks."""
    return f"{component} {'_'.join(code.split())}"


def program_of(event: Event, jobs: Mapping[str, str]) -> str:
    """Return which program an event names: its job if known, else its process."""
    match = _PID.search(event.message)
    if match is None:
        return ""
    return jobs.get(match[1], f"pid:{match[1]}")


def unit_of(message: str) -> str:
    """Return which unit of its chip a message names."""
    units = {match.group() for match in _UNIT.finditer(message)}
    return SEVERAL_UNITS if len(units) > 1 else next(iter(units), "")


def repeated_by(event: Event, source: str, known: Iterable[Occurrence]) -> Occurrence | None:
    """Return the occurrence that an event tells a second time, or None for a new one.

    What counts is when it happened, not when it was told: one source may be held up for minutes.
    """
    for occurrence in known:
        if source != occurrence.source:
            first = occurrence.at if occurrence.is_lasting else occurrence.begin
            if first - SAME_SECONDS <= event.at <= occurrence.at + SAME_SECONDS:
                return occurrence
        elif event.id:
            if event.id == occurrence.id:
                return occurrence
        elif event.quiet_seconds is not None:
            return occurrence if abs(event.at - occurrence.at) < event.quiet_seconds else None
    return None


def with_details(
    known: tuple[Occurrence, ...], occurrence: Occurrence, *, program: str, unit: str
) -> tuple[Occurrence, ...]:
    """Add what another word of an occurrence knows of it: NVML tells the bare number of an Xid."""
    fuller = replace(
        occurrence, program=occurrence.program or program, unit=occurrence.unit or unit
    )
    return tuple(fuller if one is occurrence else one for one in known)


def with_occurrence(
    known: tuple[Occurrence, ...], occurrence: Occurrence
) -> tuple[Occurrence, ...]:
    """Add an occurrence, the newest first; one of a burst takes the place of the one before."""
    newest = known[0] if known else None
    if (
        newest is not None
        and (newest.source, newest.program) == (occurrence.source, occurrence.program)
        and 0 <= occurrence.at - newest.at < BURST_SECONDS
    ):
        units = {newest.unit, occurrence.unit} - {""}
        unit = SEVERAL_UNITS if len(units) > 1 else next(iter(units), "")
        return (replace(occurrence, unit=unit, began_at=newest.begin), *known[1:])
    return (occurrence, *known)[:TIMES_MAX]


def with_repeat(known: tuple[Occurrence, ...], event: Event) -> tuple[Occurrence, ...]:
    """Move the newest occurrence of a lasting code to when it was stated last."""
    if not known or event.quiet_seconds is None:
        return known
    newest = replace(known[0], at=max(known[0].at, event.at), began_at=known[0].begin)
    return (newest, *known[1:])


def pruned(
    occurrences: Mapping[str, tuple[Occurrence, ...]], at: float
) -> dict[str, tuple[Occurrence, ...]]:
    """Forget what is older than a day, and the oldest of too many."""
    recent = {
        key: kept
        for key, several in occurrences.items()
        if (kept := tuple(o for o in several if at - o.at < WINDOW_SECONDS_MAX))
    }
    if len(recent) <= KEPT_CODES:
        return recent
    newest = sorted(recent, key=lambda key: recent[key][0].at, reverse=True)[:KEPT_CODES]
    return {key: recent[key] for key in newest}
