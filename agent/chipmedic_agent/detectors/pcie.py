"""PCI Express: fewer lanes or a lower speed than could be, and errors of the link.

Width is judged always, speed only under load (an idle link slows down by design). A virtual machine
sees links that are not there (T4, L40S and A10G on public clouds show 8 of 16 lanes and are well),
so there the `pcie` source says so with a gap and nothing is judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from chipmedic.metric import Metric
from chipmedic.model import HOST, Action, Change, Component, GapReason, Scan, Severity
from chipmedic_agent.detectors.growth import Growth
from chipmedic_agent.detectors.level import Hold, Level, LevelState, Sight
from chipmedic_agent.detectors.rate import Rate
from chipmedic_agent.detectors.settings import DetectorSettings

BREAKS_SECONDS = 3600.0
"""A PCIe error that was not corrected is over after so long without another."""


@dataclass(frozen=True, slots=True)
class PcieState:
    """State of `PcieLink`."""

    level: LevelState = field(default_factory=LevelState)
    is_virtual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PcieLink:
    """Fewer lanes, or under load a lower speed, than device and slot could have."""

    name: str
    busy_ratio: float
    hold_seconds: float

    def start(self) -> PcieState:
        """See `Detector.start`."""
        return PcieState()

    def step(self, state: PcieState, scan: Scan) -> tuple[PcieState, list[Change]]:
        """See `Detector.step`."""
        is_virtual = state.is_virtual or any(
            gap.component == HOST
            and gap.metric is Metric.PCIE_WIDTH
            and gap.reason is GapReason.UNSUPPORTED
            for gap in scan.gaps
        )
        hold = Hold(
            raise_seconds=self.hold_seconds,
            sightings=2,
            forgive_seconds=self.hold_seconds / 2,
            clear_seconds=self.hold_seconds / 2,
        )
        level = Level(
            name=self.name,
            kind="pcie.degraded",
            judge=lambda seen: self._sights(seen, is_virtual=is_virtual),
            hold=hold,
        )
        next_level, changes = level.step(state.level, scan)
        return replace(state, level=next_level, is_virtual=is_virtual), changes

    def _sights(self, scan: Scan, *, is_virtual: bool) -> Iterator[Sight]:
        widths, widths_max = scan.values(Metric.PCIE_WIDTH), scan.values(Metric.PCIE_WIDTH_MAX)
        speeds, speeds_max = scan.values(Metric.PCIE_SPEED), scan.values(Metric.PCIE_SPEED_MAX)
        load = scan.values(Metric.UTILIZATION)
        for component, width in widths.items():
            width_max = widths_max.get(component)
            if width_max is None or width <= 0:
                continue
            if is_virtual:
                yield Sight(component, is_bad=False, is_good=True)
            elif width < width_max:
                yield _narrow(component, width, width_max)
            elif _is_slow(component, speeds, speeds_max):
                if load.get(component, 0.0) >= self.busy_ratio:
                    yield _slow(component, speeds[component], speeds_max[component])
            else:
                yield Sight(component, is_bad=False, is_good=True)


def _is_slow(
    component: Component, speeds: Mapping[Component, float], speeds_max: Mapping[Component, float]
) -> bool:
    return speeds.get(component, 0.0) < speeds_max.get(component, 0.0)


def _narrow(component: Component, width: float, width_max: float) -> Sight:
    return Sight(
        component,
        is_bad=True,
        is_good=False,
        summary=f"{component} runs on {width:.0f} of {width_max:.0f} PCIe lanes",
        evidence=(f"{Metric.PCIE_WIDTH.value} {width:.0f} of {width_max:.0f}",),
    )


def _slow(component: Component, speed: float, speed_max: float) -> Sight:
    rate, rate_max = speed / 1e9, speed_max / 1e9
    return Sight(
        component,
        is_bad=True,
        is_good=False,
        summary=f"{component} runs its PCIe link at {rate:g} of {rate_max:g} GT/s under load",
        evidence=(f"{Metric.PCIE_SPEED.value} {speed:.0f} of {speed_max:.0f}",),
    )


def pcie_detectors(settings: DetectorSettings) -> list[PcieLink | Rate | Growth]:
    """Return the detectors of PCI Express."""
    return [
        PcieLink(
            name="pcie_link",
            busy_ratio=settings.pcie_busy_ratio,
            hold_seconds=settings.pcie_hold_seconds,
        ),
        Rate(
            name="pcie_correctable",
            metric=Metric.PCIE_ERRORS_CORRECTABLE,
            kind="pcie.errors",
            words="corrected PCIe errors",
            per_hour=settings.pcie_correctable_per_hour,
            clear_per_hour=settings.pcie_correctable_per_hour / 4,
        ),
        Rate(
            name="pcie_replays",
            metric=Metric.PCIE_REPLAYS,
            kind="pcie.errors",
            words="PCIe replays",
            per_hour=settings.pcie_replays_per_hour,
            clear_per_hour=settings.pcie_replays_per_hour / 4,
        ),
        Growth(
            name="pcie_nonfatal",
            metric=Metric.PCIE_ERRORS_NONFATAL,
            kind="pcie.errors",
            words="uncorrected PCIe errors (not fatal)",
            quiet_seconds=BREAKS_SECONDS,
        ),
        Growth(
            name="pcie_fatal",
            metric=Metric.PCIE_ERRORS_FATAL,
            kind="pcie.errors",
            words="fatal PCIe errors",
            severity=Severity.CRITICAL,
            action=Action.RESET_CHIP,
            quiet_seconds=BREAKS_SECONDS,
        ),
    ]
