"""The sources themselves: one that blocks, one that fails, a driver that does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmedic.faults.kinds import KINDS
from chipmedic.model import (
    Change,
    Fault,
    Gap,
    GapReason,
    Scan,
    collector_component,
)
from chipmedic_agent.detectors.board import Board, key_of
from chipmedic_agent.detectors.settings import DetectorSettings

_FAILURES = frozenset({GapReason.FAILED, GapReason.DENIED, GapReason.MALFORMED})


@dataclass(frozen=True, slots=True)
class Trouble:
    """How long a source has been blocked or failing."""

    since: float
    scans: int
    detail: str
    asks_driver: bool = False
    """Whether the source asks the driver of chips: a site's own check of a file system does not."""


@dataclass(frozen=True, slots=True)
class SourcesState:
    """State of `Sources`; the mappings are by source."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    blocked: Mapping[str, Trouble] = field(default_factory=dict)
    failing: Mapping[str, Trouble] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Judges the gaps that the scanner puts on the sources."""

    name: str
    failures: int
    driver_blocked_seconds: float

    def start(self) -> SourcesState:
        """See `Detector.start`."""
        return SourcesState()

    def step(self, state: SourcesState, scan: Scan) -> tuple[SourcesState, list[Change]]:
        """See `Detector.step`.

        A stuck source gives no second scan before it is done, so the scans of the others tell how
        long it has been stuck.
        """
        board = Board(state.open)
        blocked, failing = dict(state.blocked), dict(state.failing)
        component = collector_component(scan.source)
        whole = [gap for gap in scan.gaps if gap.component == component and gap.metric is None]
        is_blocked = any(gap.reason is GapReason.TIMED_OUT for gap in whole)
        is_failing = any(gap.reason in _FAILURES for gap in whole)
        _count(blocked, scan, whole, is_trouble=is_blocked)
        _count(failing, scan, whole, is_trouble=is_failing and not is_blocked)
        if not is_blocked:
            board.clear(key_of(component, "collector.blocked"), scan.at)
        if not is_blocked and not is_failing:
            board.clear(key_of(component, "collector.failed"), scan.at)
            board.clear(key_of(component, "driver.fault"), scan.at)
        for source, trouble in blocked.items():
            self._judge_blocked(board, source, trouble, scan.at)
        for source, trouble in failing.items():
            if trouble.scans >= self.failures:
                words = f"source {source} has failed {trouble.scans} times in a row"
                board.hold(_fault(source, "collector.failed", trouble, words))
        return SourcesState(board.open, blocked, failing), board.changes

    def _judge_blocked(self, board: Board, source: str, trouble: Trouble, at: float) -> None:
        words = f"source {source} has not answered within its deadline"
        board.hold(_fault(source, "collector.blocked", trouble, words))
        is_long = trouble.scans >= 2 or at - trouble.since >= self.driver_blocked_seconds
        if trouble.asks_driver and is_long:
            words = f"driver or tool of {source} does not answer"
            board.hold(_fault(source, "driver.fault", trouble, words))


def _count(troubles: dict[str, Trouble], scan: Scan, gaps: list[Gap], *, is_trouble: bool) -> None:
    """Count one more scan of a troubled source, or end its trouble."""
    if not is_trouble:
        troubles.pop(scan.source, None)
        return
    known = troubles.get(scan.source)
    detail = "; ".join(gap.detail for gap in gaps if gap.detail)
    troubles[scan.source] = Trouble(
        since=scan.at if known is None or known.since > scan.at else known.since,
        scans=1 if known is None else known.scans + 1,
        detail=detail or (known.detail if known else ""),
        asks_driver=scan.asks_driver or (known is not None and known.asks_driver),
    )


def _fault(source: str, kind: str, trouble: Trouble, words: str) -> Fault:
    return Fault(
        component=collector_component(source),
        kind=kind,
        severity=KINDS[kind].severity,
        action=KINDS[kind].action,
        since=trouble.since,
        summary=words,
        source=source,
        evidence=(trouble.detail,) if trouble.detail else (),
    )


def collector_detectors(settings: DetectorSettings) -> list[Sources]:
    """Return the detector of the sources."""
    return [
        Sources(
            name="sources",
            failures=settings.collector_failures,
            driver_blocked_seconds=settings.driver_blocked_seconds,
        )
    ]
