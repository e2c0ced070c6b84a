"""Chips that are gone, that ask for a reset, or whose tool states ill health."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chipmedic.metric import Metric
from chipmedic.model import Action, Change, ComponentKind, GapReason, Scan, Severity
from chipmedic_agent.detectors.level import Hold, Level, LevelState, Sight
from chipmedic_agent.detectors.settings import DetectorSettings

_RECOVERY: dict[int, tuple[Severity, Action, str]] = {
    1: (Severity.CRITICAL, Action.RESET_CHIP, "a reset"),
    2: (Severity.CRITICAL, Action.REBOOT_NODE, "a reboot of the host"),
    3: (Severity.WARNING, Action.RESTART_JOB, "a drain of its peer-to-peer traffic"),
    4: (Severity.CRITICAL, Action.RESET_CHIP, "a drain and a reset"),
    5: (Severity.WARNING, Action.FIX_HOST, "a restart of the IMEX service"),
    6: (Severity.CRITICAL, Action.RESET_CHIP, "a reset of its bus"),
    7: (Severity.CRITICAL, Action.REBOOT_NODE, "a reboot of the system"),
}
"""NVML field 230, as of driver 595."""


def lost(scan: Scan) -> Iterator[Sight]:
    """Judge which chips are gone.

    Where the driver's own code says so, one look is enough: it stays so until a reboot. Where the
    chip is only missing from a list (a table row that a busy tool left out), it takes two looks in
    a row.
    """
    missing = {gap.component for gap in scan.gaps if gap.reason is GapReason.MISSING}
    words = {gap.component: gap.detail for gap in scan.gaps if gap.metric is None}
    for component, present in scan.values(Metric.PRESENT).items():
        detail = words.get(component, "")
        yield Sight(
            component,
            is_bad=present < 1,
            is_good=present >= 1,
            summary=f"{component} does not answer any more" + (f": {detail}" if detail else ""),
            evidence=(f"{Metric.PRESENT.value} 0", *((detail,) if detail else ())),
            is_certain=component not in missing,
        )


def wishes_recovery(scan: Scan) -> Iterator[Sight]:
    """Judge what the driver asks for."""
    for component, value in scan.values(Metric.RECOVERY_ACTION).items():
        severity, action, words = _RECOVERY.get(
            int(value), (Severity.CRITICAL, Action.RESET_CHIP, f"recovery action {value:g}")
        )
        yield Sight(
            component,
            is_bad=value != 0,
            is_good=value == 0,
            summary=f"the driver asks for {words}",
            severity=severity,
            action=action,
            evidence=(f"{Metric.RECOVERY_ACTION.value} {value:g}",),
        )


@dataclass(frozen=True, slots=True)
class HealthState:
    """State of `Health`."""

    level: LevelState = field(default_factory=LevelState)
    explained_at: Mapping[str, float] = field(default_factory=dict)
    """When a code or a flag last said what ails the chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Ill health that the vendor's tool states and that nothing more exact explains.

    A word alone is a hint: boards exist that say "Alarm" for ever and work (Ascend 310B), so a
    code of that chip, even a harmless one, takes its place.
    """

    name: str
    hold_seconds: float
    explained_seconds: float

    def start(self) -> HealthState:
        """See `Detector.start`."""
        return HealthState()

    def step(self, state: HealthState, scan: Scan) -> tuple[HealthState, list[Change]]:
        """See `Detector.step`."""
        explained_at = {
            key: at
            for key, at in state.explained_at.items()
            if scan.at - at < self.explained_seconds
        }
        for event in scan.events:
            if event.component.kind is ComponentKind.CHIP:
                explained_at[str(event.component)] = scan.at
        explained_at.update(dict.fromkeys(_flagged(scan), scan.at))
        level = Level(
            name=self.name,
            kind="chip.internal",
            judge=lambda seen: _ill(seen, explained_at),
            hold=Hold(raise_seconds=self.hold_seconds, sightings=2),
        )
        next_level, changes = level.step(state.level, scan)
        return HealthState(next_level, explained_at), changes


def _flagged(scan: Scan) -> Iterator[str]:
    """Yield the chips of which a reading says more than the word."""
    for metric in (Metric.REMAP_PENDING, Metric.REMAP_FAILED, Metric.RECOVERY_ACTION):
        yield from (str(component) for component, value in scan.values(metric).items() if value)
    present = scan.values(Metric.PRESENT)
    yield from (str(component) for component, value in present.items() if value < 1)


def _ill(scan: Scan, explained_at: Mapping[str, float]) -> Iterator[Sight]:
    for component, value in scan.values(Metric.HEALTH).items():
        is_ill = value >= 1 and str(component) not in explained_at
        is_critical = value >= 2
        yield Sight(
            component,
            is_bad=is_ill,
            is_good=not is_ill,
            summary=f"the vendor's tool calls {component} "
            + ("critical" if is_critical else "unwell")
            + " and names no code",
            severity=Severity.CRITICAL if is_critical else Severity.WARNING,
            action=Action.RESET_CHIP if is_critical else Action.NONE,
            evidence=(f"{Metric.HEALTH.value} {value:g}",),
        )


def presence_detectors(settings: DetectorSettings) -> list[Level | Health]:
    """Return the detectors of chips as a whole."""
    return [
        Level(name="chip_lost", kind="chip.lost", judge=lost, hold=Hold(sightings=2)),
        Level(name="chip_recovery", kind="chip.reset_required", judge=wishes_recovery),
        Health(
            name="chip_health",
            hold_seconds=settings.health_hold_seconds,
            explained_seconds=settings.health_explained_seconds,
        ),
    ]
