"""Memory of the chips: uncorrected and corrected errors, rows and pages taken out of use.

An uncorrected error stays a fault until the chip is reset or the host boots; the corrected ones are
judged by their number within an hour. What the chip says of itself (a row waits for a reset, no
spare row is left) counts at once, also when seen for the first time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

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
from chipmedic_agent.detectors.board import Board, forgotten, is_boot, key_of
from chipmedic_agent.detectors.growth import growth
from chipmedic_agent.detectors.level import Level, LevelState, Sight
from chipmedic_agent.detectors.rate import Rate
from chipmedic_agent.detectors.resets import ResetWatch, watch_resets
from chipmedic_agent.detectors.settings import DetectorSettings, PageLimits
from chipmedic_agent.detectors.thermal import flag

UNCORRECTABLE, CONTAINED = "memory.uncorrectable", "memory.contained"


@dataclass(frozen=True, slots=True)
class UncorrectedState:
    """State of `Uncorrected`."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)
    contained_at: Mapping[str, float] = field(default_factory=dict)
    """When a source last said that an error of this chip was contained (Xid 94)."""
    grew_at: Mapping[str, float] = field(default_factory=dict)
    resets: ResetWatch = field(default_factory=ResetWatch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncorrected:
    """Growth of the uncorrected errors of a chip."""

    name: str
    contained_seconds: float
    expiry_seconds: float

    def start(self) -> UncorrectedState:
        """See `Detector.start`."""
        return UncorrectedState()

    def step(self, state: UncorrectedState, scan: Scan) -> tuple[UncorrectedState, list[Change]]:
        """See `Detector.step`."""
        board = Board(state.open)
        baseline, grew_at = dict(state.baseline), dict(state.grew_at)
        if is_boot(scan):
            board.clear_all(scan.at, "rebooted")
        watch, resets = watch_resets(state.resets, scan)
        contained_at = self._contained(state.contained_at, scan)
        for component, value in scan.values(Metric.ECC_UNCORRECTED).items():
            key = str(component)
            known, baseline[key] = baseline.get(key), value
            if known is not None and value < known:
                resets.setdefault(key, "counter was reset")
            elif grown := growth(known, value):
                grew_at[key] = scan.at
                board.report(_uncorrected(component, grown, value, scan, key in contained_at))
        for key, why in resets.items():
            board.clear(f"{key} {UNCORRECTABLE}", scan.at, why)
        for fault in list(board.open.values()):
            quiet = scan.at - grew_at.get(str(fault.component), fault.since)
            if fault.kind == CONTAINED and quiet >= self.expiry_seconds:
                board.clear(key_of(fault.component, fault.kind), scan.at, "expired")
        gone = forgotten(scan)
        board.clear_components(gone, scan.at, "forgotten")
        for component in gone:
            baseline.pop(str(component), None)
        still = {str(fault.component) for fault in board.open.values()}
        grew_at = {key: at for key, at in grew_at.items() if key in still}
        return UncorrectedState(board.open, baseline, contained_at, grew_at, watch), board.changes

    def _contained(self, known: Mapping[str, float], scan: Scan) -> dict[str, float]:
        """Return which chips have lately been said to have contained an error."""
        recent = {key: at for key, at in known.items() if scan.at - at < self.contained_seconds}
        for event in scan.events:
            if event.kind == CONTAINED or event.code == "xid:94":
                recent[str(event.component)] = event.at
            elif event.kind == UNCORRECTABLE or event.code == "xid:95":
                recent.pop(str(event.component), None)
        return recent


def _uncorrected(
    component: Component, grown: float, value: float, scan: Scan, is_contained: bool
) -> Fault:
    kind = CONTAINED if is_contained else UNCORRECTABLE
    words = "contained memory errors" if is_contained else "uncorrectable memory errors"
    return Fault(
        component=component,
        kind=kind,
        severity=KINDS[kind].severity,
        action=KINDS[kind].action,
        since=scan.at,
        summary=f"{grown:.0f} new {words} ({value:.0f} over the chip's life)",
        source=scan.source,
        evidence=(f"{Metric.ECC_UNCORRECTED.value} {value - grown:.0f} -> {value:.0f}",),
    )


@dataclass(frozen=True, slots=True)
class PagesState:
    """State of `Pages`."""

    level: LevelState = field(default_factory=LevelState)
    vendors: Mapping[str, str] = field(default_factory=dict)
    """Vendor by component; a scan may hold readings of a chip that it does not list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Retired or isolated pages over the limits of the chip's vendor."""

    name: str
    kind: str
    limits: Mapping[str, PageLimits]
    is_spent: bool
    """True: judge by the limit that sends the chip back, else by the one that asks for a reset."""

    def start(self) -> PagesState:
        """See `Detector.start`."""
        return PagesState()

    def step(self, state: PagesState, scan: Scan) -> tuple[PagesState, list[Change]]:
        """See `Detector.step`."""
        vendors = dict(state.vendors)
        vendors.update({str(chip.component): chip.vendor for chip in scan.chips})
        level = Level(
            name=self.name,
            kind=self.kind,
            judge=lambda seen: self._sights(seen, vendors),
        )
        next_level, changes = level.step(state.level, scan)
        return replace(state, level=next_level, vendors=vendors), changes

    def _sights(self, scan: Scan, vendors: Mapping[str, str]) -> Iterator[Sight]:
        for component, pages in scan.values(Metric.RETIRED_PAGES).items():
            limits = self.limits.get(vendors.get(str(component), ""))
            if limits is None:
                continue
            limit = limits.spent if self.is_spent else limits.worn
            yield Sight(
                component,
                is_bad=pages >= limit,
                is_good=pages < limit,
                summary=f"{pages:.0f} memory pages are out of use (limit {limit})",
                evidence=(f"{Metric.RETIRED_PAGES.value} {pages:.0f}",),
            )


def spent_sram(scan: Scan) -> Iterator[Sight]:
    """Judge what the chip says of its SRAM: beyond this limit the vendor takes it back.

    The errors themselves were told as they came; this one says what they mean together.
    """
    for component, value in scan.values(Metric.SRAM_THRESHOLD).items():
        yield Sight(
            component,
            is_bad=value >= 1,
            is_good=value < 1,
            summary=f"{component} has had more uncorrectable SRAM errors than its vendor accepts",
            severity=Severity.WARNING,
            action=Action.REPLACE_CHIP,
            evidence=(f"{Metric.SRAM_THRESHOLD.value} {value:g}",),
        )


def memory_detectors(settings: DetectorSettings) -> list[Uncorrected | Rate | Level | Pages]:
    """Return the detectors of the chips' memory."""
    limits = settings.page_limits
    return [
        Uncorrected(
            name="memory_uncorrected",
            contained_seconds=settings.contained_seconds,
            expiry_seconds=settings.expiry_seconds,
        ),
        Rate(
            name="memory_corrected",
            metric=Metric.ECC_CORRECTED,
            kind="memory.correctable",
            words="corrected memory errors",
            per_hour=settings.corrected_per_hour,
            clear_per_hour=settings.corrected_per_hour / 4,
            component_kinds=frozenset({ComponentKind.CHIP}),
        ),
        Rate(
            name="memory_deferred",
            metric=Metric.ECC_DEFERRED,
            kind="memory.correctable",
            words="deferred memory errors (marked as bad, fatal to the job that reads them)",
            per_hour=1,
            clear_per_hour=0,
            component_kinds=frozenset({ComponentKind.CHIP}),
        ),
        Level(
            name="remap_pending",
            kind="memory.remap_pending",
            judge=flag(Metric.REMAP_PENDING, "has memory rows that wait for a reset"),
        ),
        Level(
            name="remap_failed",
            kind="memory.remap_failed",
            judge=flag(Metric.REMAP_FAILED, "has no spare memory row left"),
        ),
        Level(name="sram_spent", kind=UNCORRECTABLE, judge=spent_sram),
        Pages(name="pages_worn", kind="memory.remap_pending", limits=limits, is_spent=False),
        Pages(name="pages_spent", kind="memory.remap_failed", limits=limits, is_spent=True),
    ]
