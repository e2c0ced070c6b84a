"""Counters that must not grow at all: one more is a fault.

The baseline is part of the state, so what grew while the agent was down is seen; the first sight
ever is only a baseline, because a count of last year is no news. A fall is a reset: the new
baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmedic.faults.kinds import KINDS
from chipmedic.metric import Metric
from chipmedic.model import Action, Change, Component, Fault, Scan, Severity
from chipmedic_agent.detectors.board import Board, forgotten, is_boot, key_of


def growth(previous: float | None, value: float) -> float:
    """Return by how much a counter grew; nothing at first sight and after a reset."""
    return 0.0 if previous is None or value < previous else value - previous


@dataclass(frozen=True, slots=True)
class GrowthState:
    """State of a `Growth`."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)
    grew_at: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A counter whose growth is a fault."""

    name: str
    metric: Metric
    kind: str
    words: str
    """What grew, as in `3 <words>`."""
    severity: Severity | None = None
    action: Action | None = None
    quiet_seconds: float | None = None
    """Over after so long without growth; None: only a boot or a reset of the counter ends it."""

    def start(self) -> GrowthState:
        """See `Detector.start`."""
        return GrowthState()

    def step(self, state: GrowthState, scan: Scan) -> tuple[GrowthState, list[Change]]:
        """See `Detector.step`."""
        values = scan.values(self.metric)
        if not (values or state.open or state.grew_at or scan.events):
            return state, []
        board = Board(state.open)
        baseline, grew_at = dict(state.baseline), dict(state.grew_at)
        if is_boot(scan):
            board.clear_all(scan.at, "rebooted")
        for component, value in values.items():
            key = str(component)
            known = baseline.get(key)
            baseline[key] = value
            if known is not None and value < known:
                board.clear(key_of(component, self.kind), scan.at, "counter was reset")
            elif grown := growth(known, value):
                grew_at[key] = scan.at
                board.report(self._fault(component, grown, value, scan))
        self._expire(board, grew_at, scan.at)
        for component in forgotten(scan):
            baseline.pop(str(component), None)
            board.clear(key_of(component, self.kind), scan.at, "forgotten")
        return GrowthState(board.open, baseline, grew_at), board.changes

    def _expire(self, board: Board, grew_at: dict[str, float], at: float) -> None:
        for fault in list(board.open.values()):
            last = grew_at.get(str(fault.component), fault.since)
            if self.quiet_seconds is not None and at - last >= self.quiet_seconds:
                board.clear(key_of(fault.component, self.kind), at, "expired")
        for key in list(grew_at):
            if not any(str(fault.component) == key for fault in board.open.values()):
                del grew_at[key]

    def _fault(self, component: Component, grown: float, value: float, scan: Scan) -> Fault:
        defaults = KINDS[self.kind]
        return Fault(
            component=component,
            kind=self.kind,
            severity=defaults.severity if self.severity is None else self.severity,
            action=defaults.action if self.action is None else self.action,
            since=scan.at,
            summary=f"{grown:.0f} new {self.words} ({value:.0f} in all)",
            source=scan.source,
            evidence=(f"{self.metric.value} {value - grown:.0f} -> {value:.0f}",),
        )
