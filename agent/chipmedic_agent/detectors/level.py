"""Faults that a reading shows for as long as they last: with hold times and hysteresis.

A `Level` is a detector made of a judge (scan -> what is bad, what is good) and a `Hold`. A
component that the judge does not mention keeps its state: silence is no cure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from chipmedic.faults.kinds import KINDS
from chipmedic.model import Action, Change, Component, ComponentKind, Fault, Scan, Severity
from chipmedic_agent.detectors.board import Board, forgotten, key_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """How long a condition must last to count, and to be over."""

    raise_seconds: float = 0.0
    """Bad for at least this long..."""
    sightings: int = 1
    """...and in at least so many scans."""
    forgive_seconds: float = 0.0
    """A good spell shorter than this does not start the hold again."""
    clear_seconds: float = 0.0
    """Good for at least this long, without a break."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one scan shows of one component."""

    component: Component
    is_bad: bool
    is_good: bool
    """Neither bad nor good: inside the margin of the hysteresis."""
    summary: str = ""
    severity: Severity | None = None
    """None: as the kind says."""
    action: Action | None = None
    evidence: tuple[str, ...] = ()
    is_certain: bool = False
    """True: the source itself decided; the hold does not apply."""


Judge = Callable[[Scan], Iterable[Sight]]


@dataclass(frozen=True, slots=True)
class Timer:
    """How long a component has been bad, or good again."""

    bad_since: float | None = None
    good_since: float | None = None
    sightings: int = 0


@dataclass(frozen=True, slots=True)
class LevelState:
    """State of a `Level`."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    timers: Mapping[str, Timer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A condition that is judged anew in every scan."""

    name: str
    kind: str
    judge: Judge
    hold: Hold = Hold()
    listed: ComponentKind | None = None
    """A kind of which each scan with any readings names all that there are: one that is not named
    is not there any more."""

    def start(self) -> LevelState:
        """See `Detector.start`."""
        return LevelState()

    def step(self, state: LevelState, scan: Scan) -> tuple[LevelState, list[Change]]:
        """See `Detector.step`."""
        sights = list(self.judge(scan))
        if not (sights or state.open or scan.events):  # most scans say nothing of most conditions
            return state, []
        board = Board(state.open)
        timers = dict(state.timers)
        for sight in sights:
            key = str(sight.component)
            timer = self._advance(board, timers.get(key, Timer()), sight, scan)
            if timer == Timer():
                timers.pop(key, None)
            else:
                timers[key] = timer
        for component in forgotten(scan):
            timers.pop(str(component), None)
            board.clear(key_of(component, self.kind), scan.at, "forgotten")
        for fault in self._gone(board, scan):
            timers.pop(str(fault.component), None)
            board.clear(key_of(fault.component, self.kind), scan.at, "not there any more")
        return LevelState(board.open, timers), board.changes

    def _gone(self, board: Board, scan: Scan) -> list[Fault]:
        """Return the faults of components that their source has stopped to list."""
        readings = {r.component for r in scan.readings if r.component.kind is self.listed}
        if not readings:
            return []
        named = readings | {gap.component for gap in scan.gaps}
        mine = [fault for fault in board.open.values() if fault.source == scan.source]
        return [fault for fault in mine if fault.component not in named]

    def _advance(self, board: Board, timer: Timer, sight: Sight, scan: Scan) -> Timer:
        """Return the timer after one sight, and raise or clear when its time has come."""
        is_open = board.is_open(sight.component, self.kind)
        if sight.is_bad:
            since = _since(timer.bad_since, scan.at)
            timer = Timer(since, None, timer.sightings + 1)
            lasted = scan.at - since >= self.hold.raise_seconds
            is_due = lasted and timer.sightings >= self.hold.sightings
            if is_open or sight.is_certain or is_due:
                board.hold(self._fault(sight, since, scan.source))
            return timer
        if is_open and not sight.is_good:
            return replace(timer, good_since=None)
        good_since = _since(timer.good_since, scan.at)
        wait = self.hold.clear_seconds if is_open else self.hold.forgive_seconds
        if scan.at - good_since < wait:
            idle = timer.bad_since is None and not is_open
            return Timer() if idle else replace(timer, good_since=good_since)
        board.clear(key_of(sight.component, self.kind), scan.at)
        return Timer()

    def _fault(self, sight: Sight, since: float, source: str) -> Fault:
        defaults = KINDS[self.kind]
        return Fault(
            component=sight.component,
            kind=self.kind,
            severity=defaults.severity if sight.severity is None else sight.severity,
            action=defaults.action if sight.action is None else sight.action,
            since=since,
            summary=sight.summary,
            source=source,
            evidence=sight.evidence,
        )


def _since(known: float | None, at: float) -> float:
    """Return when a condition began; a clock that was set back starts it anew."""
    return at if known is None or known > at else known
