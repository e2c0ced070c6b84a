"""Counters that may grow, but not fast: judged by their growth within the last hour.

Healthy hardware counts too (a good H100 shows 150 PCIe replays); so the hourly growth is compared
with two limits, one to raise and a lower one to clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from chipmedic.faults.kinds import KINDS
from chipmedic.metric import Metric
from chipmedic.model import (
    Action,
    Change,
    Component,
    ComponentKind,
    Fault,
    Scan,
    Severity,
)
from chipmedic_agent.detectors.board import Board, forgotten, key_of

WINDOW_SECONDS = 3600.0
SAMPLE_SECONDS = 300.0
"""Samples nearer than this to the one before are not kept, save the newest: 13 per counter."""
Sample = tuple[float, float]
"""When, and the counter then."""


def with_sample(samples: tuple[Sample, ...], at: float, value: float) -> tuple[Sample, ...]:
    """Return the samples of the last hour with a new one; a fall or a clock set back starts new.

    A value that has not moved since the last sample is not kept, so a counter at rest leaves the
    state as it is (and the agent nothing to save).
    """
    if samples and (value < samples[-1][1] or at < samples[-1][0]):
        return ((at, value),)
    if samples and value == samples[-1][1] and at - samples[-1][0] < SAMPLE_SECONDS:
        return samples
    kept = samples
    if len(kept) >= 2 and kept[-1][0] - kept[-2][0] < SAMPLE_SECONDS:
        kept = kept[:-1]
    kept = (*kept, (at, value))
    while len(kept) > 2 and kept[1][0] <= at - WINDOW_SECONDS:
        kept = kept[1:]
    return kept


def hourly_growth(samples: tuple[Sample, ...], at: float) -> float:
    """Return the growth within the hour before `at`.

    Where the samples reach further back (the agent was down), their growth is shared out evenly.
    """
    begin = at - WINDOW_SECONDS
    value = samples[-1][1]
    for (old_at, old), (new_at, new) in pairwise(samples):
        if new_at > begin:
            share = min(1.0, (new_at - begin) / (new_at - old_at)) if new_at > old_at else 1.0
            return value - new + (new - old) * share
    return 0.0


@dataclass(frozen=True, slots=True)
class RateState:
    """State of a `Rate`."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    samples: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A counter whose growth per hour is limited."""

    name: str
    metric: Metric
    kind: str
    words: str
    """What grows, as in `300 <words> within an hour`."""
    per_hour: float
    clear_per_hour: float
    component_kinds: frozenset[ComponentKind] = frozenset(ComponentKind)
    severity: Severity | None = None
    action: Action | None = None

    def start(self) -> RateState:
        """See `Detector.start`."""
        return RateState()

    def step(self, state: RateState, scan: Scan) -> tuple[RateState, list[Change]]:
        """See `Detector.step`."""
        values = scan.values(self.metric)
        if not (values or scan.events):  # most scans are of something else
            return state, []
        board = Board(state.open)
        series = dict(state.samples)
        for component, value in values.items():
            if component.kind not in self.component_kinds:
                continue
            samples = with_sample(series.get(str(component), ()), scan.at, value)
            series[str(component)] = samples
            self._judge(board, component, hourly_growth(samples, scan.at), scan)
        for component in forgotten(scan):
            series.pop(str(component), None)
            board.clear(key_of(component, self.kind), scan.at, "forgotten")
        return RateState(board.open, series), board.changes

    def _judge(self, board: Board, component: Component, grown: float, scan: Scan) -> None:
        if grown >= self.per_hour:
            board.hold(self._fault(component, grown, scan))
        elif grown <= self.clear_per_hour:
            board.clear(key_of(component, self.kind), scan.at)

    def _fault(self, component: Component, grown: float, scan: Scan) -> Fault:
        defaults = KINDS[self.kind]
        return Fault(
            component=component,
            kind=self.kind,
            severity=defaults.severity if self.severity is None else self.severity,
            action=defaults.action if self.action is None else self.action,
            since=scan.at,
            summary=f"{grown:.0f} {self.words} within an hour (limit {self.per_hour:.0f})",
            source=scan.source,
            evidence=(f"{self.metric.value} grew by {grown:.0f} within an hour",),
        )
