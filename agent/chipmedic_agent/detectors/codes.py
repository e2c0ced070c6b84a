"""Vendor codes from logs and tools: Xid, SXid, Ascend events, and what else sources say once.

The catalog says what a code means; an event may know better by its own text. What a code opened
ends
- when it asked for nothing more than a look at the program or a restart of the job: after a quiet
  time;
- when it asked for a reset: with a sign that the chip was reset (see `resets`), or a boot;
- when it asked for more: with a boot. A chip that was lost is back when it has answered for a
  while;
- when a tool states it for as long as it is true: when the tool has stopped stating it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from chipmedic.faults.catalog import CatalogRow, lookup
from chipmedic.metric import Metric
from chipmedic.model import (
    HOST,
    Action,
    Change,
    Component,
    Event,
    Fault,
    Reading,
    Scan,
    Severity,
    collector_component,
)
from chipmedic_agent.detectors.board import BOOT, FORGET, Board, forgotten, is_boot, key_of
from chipmedic_agent.detectors.escalations import BY_CODE, SOFTWARE_SECONDS, Escalation
from chipmedic_agent.detectors.occurrences import (
    Occurrence,
    is_repeat,
    program_of,
    pruned,
    quiet_seconds_of,
    with_occurrence,
    with_repeat,
)
from chipmedic_agent.detectors.resets import ResetWatch, watch_resets
from chipmedic_agent.detectors.settings import DetectorSettings

SHOWN_INFOS = frozenset({"chip.reset", "node.rebooted"})
"""Infos that open a (short) fault, because they explain what is seen around them."""
WELL_SECONDS = 30.0
"""A chip that was ill by its tool's word and has been well for so long shows no code any more."""
ANSWERS_SECONDS = 60.0
"""A lost chip that has answered for so long is back."""
_EXPIRING: dict[Action, float] = {
    Action.NONE: 1.0,
    Action.CHECK_APP: 1.0,
    Action.RESTART_JOB: 1.0,
    Action.FIX_NETWORK: 6.0,
    Action.FIX_HOST: 6.0,
}
"""Actions whose faults end by themselves, and after how many expiry times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is remembered of an open fault to find its end."""

    seen_at: float
    quiet_seconds: float | None = None
    """Set while every word of it came from a tool that states a code as long as it is true."""
    answers_since: float | None = None
    was_ill: bool = False
    well_since: float | None = None
    """What the tool's own word of the chip's health has been since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodesState:
    """State of `Codes`."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """By the key of the fault."""
    occurrences: Mapping[str, tuple[Occurrence, ...]] = field(default_factory=dict)
    """By `<component> <code>`, the newest first."""
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Job by process id, as of the last scan of the jobs."""
    resets: ResetWatch = field(default_factory=ResetWatch)


class _Step:
    """One step at work: the parts of the state while they change."""

    def __init__(self, state: CodesState, scan: Scan) -> None:
        self.scan = scan
        self.board = Board(state.open)
        self.marks = dict(state.marks)
        self.occurrences = dict(state.occurrences)
        self.jobs = state.jobs
        if scan.source == "jobs":
            self.jobs = {str(pid): status.job for status in scan.jobs for pid in status.pids}

    def take(self, event: Event, expiry_seconds: float) -> None:
        """Take in one event."""
        row = lookup(event.code)
        key = f"{event.component} {event.code}"
        known = self.occurrences.get(key, ())
        if is_repeat(event, self.scan.source, known):
            self.occurrences[key] = with_repeat(known, event, self.scan.source)
            self._see_again(event, row)
            return
        program = program_of(event, self.jobs)
        occurrence = Occurrence(event.at, self.scan.source, event.id, program)
        self.occurrences[key] = with_occurrence(known, occurrence)
        kind = event.kind or row.kind
        severity = row.severity if event.severity is None else event.severity
        action = row.action if event.action is None else event.action
        if row.is_companion and self._attach(event, action):
            return
        if kind == "info" or (severity is Severity.INFO and kind not in SHOWN_INFOS):
            return
        is_old = self.scan.at - event.at >= _EXPIRING.get(action, 0.0) * expiry_seconds
        if action in _EXPIRING and is_old and quiet_seconds_of(event, self.scan.source) is None:
            return  # it was over before anybody looked (the kernel log of a host long up)
        self._report(_fault(event, row, kind, severity, action, self.scan.source), event)
        self._escalate(event)

    def _see_again(self, event: Event, row: CatalogRow) -> None:
        """Take in another source's word, or a tool's lasting one, of what is open already."""
        key = key_of(event.component, event.kind or row.kind)
        mark = self.marks.get(key)
        if mark is None or key not in self.board.open:
            return
        self.marks[key] = replace(mark, seen_at=max(mark.seen_at, event.at), answers_since=None)
        if quiet_seconds_of(event, self.scan.source) is None:
            action = Action.NONE if event.action is None else event.action
            self.board.attach(key, code=event.code, evidence=event.message, action=action)

    def _attach(self, event: Event, action: Action) -> bool:
        """Add a companion to the worst open fault of its component; False: there is none."""
        mine = [key for key, f in self.board.open.items() if f.component == event.component]
        if not mine:
            return False
        worst = max(mine, key=lambda key: (self.board.open[key].severity, self.marks[key].seen_at))
        wish = action if event.action is not None else Action.NONE
        self.board.attach(worst, code=event.code, evidence=event.message, action=wish)
        return True

    def _report(self, fault: Fault, event: Event) -> None:
        self.board.report(fault)
        known = self.marks.get(fault_key := key_of(fault.component, fault.kind))
        quiet = quiet_seconds_of(event, self.scan.source)
        if known is not None and known.quiet_seconds is None:
            quiet = None
        seen_at = event.at if known is None else max(known.seen_at, event.at)
        self.marks[fault_key] = Mark(seen_at=seen_at, quiet_seconds=quiet)

    def _escalate(self, event: Event) -> None:
        """Open the fault of the chip itself when a code has come too often."""
        row = BY_CODE.get(event.code)
        if row is None:
            return
        mine = [o for code in row.codes for o in self._of(event.component, code)]
        recent = [o for o in mine if event.at - o.at < row.window_seconds]
        times = len({o.program for o in recent if o.program}) if row.by_program else len(recent)
        if times < row.times or self._is_software(event.component, row, recent):
            return
        self._report(_escalated(event, row, times, self.scan.source), event)

    def _of(self, component: Component, code: str) -> tuple[Occurrence, ...]:
        return self.occurrences.get(f"{component} {code}", ())

    def _is_software(self, component: Component, row: Escalation, recent: list[Occurrence]) -> bool:
        """Say whether another part of this node said the same at the same time."""
        for key, several in self.occurrences.items():
            other, _, code = key.rpartition(" ")
            if code not in row.codes or other == str(component):
                continue
            if any(abs(o.at - p.at) <= SOFTWARE_SECONDS for o in several for p in recent):
                return True
        return False

    def end(self, expiry_seconds: float, resets: Mapping[str, str]) -> None:
        """Clear what is over."""
        values = self.scan.values(Metric.PRESENT)
        present = {str(component): value >= 1 for component, value in values.items()}
        for key, fault in list(self.board.open.items()):
            mark = self.marks[key]
            if mark.quiet_seconds is not None:
                mark = self.marks[key] = self._with_health(fault, mark)
                if self._has_stopped(fault, mark):
                    self.board.clear(key, self.scan.at, "not stated any more")
                continue
            component = str(fault.component)
            factor = _EXPIRING.get(fault.action)
            if factor is not None and self.scan.at - mark.seen_at >= factor * expiry_seconds:
                self.board.clear(key, self.scan.at, "expired")
            elif component in resets and fault.action is Action.RESET_CHIP:
                self.board.clear(key, self.scan.at, resets[component])
            elif fault.kind == "chip.lost" and component in present:
                self._watch_answers(key, mark, is_present=present[component])

    def _with_health(self, fault: Fault, mark: Mark) -> Mark:
        """Follow the tool's word of health: it is ok only when the chip shows no code."""
        health = self.scan.values(Metric.HEALTH).get(fault.component)
        if health is None:
            return mark
        if health > 0:
            return replace(mark, was_ill=True, well_since=None)
        return mark if mark.well_since is not None else replace(mark, well_since=self.scan.at)

    def _has_stopped(self, fault: Fault, mark: Mark) -> bool:
        """Say whether a tool that stated a code has looked again and states it no more."""
        at = self.scan.at
        if self.scan.source != fault.source or not any(map(_is_sign_of_life, self.scan.readings)):
            return False
        if any(gap.component == collector_component(fault.source) for gap in self.scan.gaps):
            return False
        if mark.was_ill:
            return mark.well_since is not None and at - mark.well_since >= WELL_SECONDS
        return at - mark.seen_at >= (mark.quiet_seconds or 0.0)

    def _watch_answers(self, key: str, mark: Mark, *, is_present: bool) -> None:
        """Clear a lost chip that has answered for a while."""
        since = mark.answers_since if mark.answers_since is not None else self.scan.at
        if not is_present:
            self.marks[key] = replace(mark, answers_since=None)
        elif self.scan.at - since >= ANSWERS_SECONDS:
            self.board.clear(key, self.scan.at, "answers again")
        else:
            self.marks[key] = replace(mark, answers_since=since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Faults from codes."""

    name: str
    expiry_seconds: float

    def start(self) -> CodesState:
        """See `Detector.start`."""
        return CodesState()

    def step(self, state: CodesState, scan: Scan) -> tuple[CodesState, list[Change]]:
        """See `Detector.step`."""
        watch, resets = watch_resets(state.resets, scan)
        work = _Step(state, scan)
        if is_boot(scan):
            work.board.clear_all(scan.at, "rebooted")
            work.marks.clear()
        for event in sorted(scan.events, key=lambda event: event.at):
            if event.code == BOOT:
                work.board.report(_rebooted(event, scan))
                work.marks[key_of(HOST, "node.rebooted")] = Mark(seen_at=scan.at)
            elif event.code != FORGET:
                work.take(event, self.expiry_seconds)
        work.end(self.expiry_seconds, resets)
        work.board.clear_components(forgotten(scan), scan.at, "forgotten")
        next_state = CodesState(
            open=work.board.open,
            marks={key: mark for key, mark in work.marks.items() if key in work.board.open},
            occurrences=pruned(work.occurrences, scan.at),
            jobs=work.jobs,
            resets=watch,
        )
        return next_state, work.board.changes


def _is_sign_of_life(reading: Reading) -> bool:
    return reading.metric is not Metric.PRESENT or reading.value >= 1


def _fault(
    event: Event, row: CatalogRow, kind: str, severity: Severity, action: Action, source: str
) -> Fault:
    named = row.name if row.is_known else f"unknown code {event.code}: {event.message[:200]}"
    return Fault(
        component=event.component,
        kind=kind,
        severity=severity,
        action=action,
        since=event.at,
        summary=f"{named} ({event.code})" if row.is_known else named,
        source=source,
        codes=(event.code,),
        evidence=(event.message,),
    )


def _escalated(event: Event, row: Escalation, times: int, source: str) -> Fault:
    return Fault(
        component=event.component,
        kind=row.kind,
        severity=row.severity,
        action=row.action,
        since=event.at,
        summary=f"{event.component} {row.words} ({event.code}, {times} times)",
        source=source,
        codes=(event.code,),
        evidence=(event.message,),
    )


def _rebooted(event: Event, scan: Scan) -> Fault:
    return Fault(
        component=HOST,
        kind="node.rebooted",
        severity=Severity.INFO,
        action=Action.NONE,
        since=event.at,
        summary="the host has booted",
        source=scan.source,
        evidence=(event.message,),
    )


def code_detectors(settings: DetectorSettings) -> list[Codes]:
    """Return the detector of codes."""
    return [Codes(name="codes", expiry_seconds=settings.expiry_seconds)]
