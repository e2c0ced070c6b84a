"""Heat and power: clocks held down, and temperatures that no chip should reach."""

from __future__ import annotations

from collections.abc import Iterator

from chipmedic.metric import Metric
from chipmedic.model import Scan
from chipmedic_agent.detectors.level import Hold, Judge, Level, Sight
from chipmedic_agent.detectors.settings import DetectorSettings


def flag(metric: Metric, words: str) -> Judge:
    """Return a judge of a reading that is 1 while something is wrong."""

    def judge(scan: Scan) -> Iterator[Sight]:
        for component, value in scan.values(metric).items():
            yield Sight(
                component,
                is_bad=value >= 1,
                is_good=value < 1,
                summary=f"{component} {words}",
                evidence=(f"{metric.value} {value:g}",),
            )

    return judge


def too_hot(metric: Metric, limit_celsius: float, margin_celsius: float) -> Judge:
    """Return a judge of a temperature, with a margin below the limit."""

    def judge(scan: Scan) -> Iterator[Sight]:
        for component, celsius in scan.values(metric).items():
            yield Sight(
                component,
                is_bad=celsius >= limit_celsius,
                is_good=celsius < limit_celsius - margin_celsius,
                summary=f"{component} is at {celsius:.0f} °C (limit {limit_celsius:.0f} °C)",
                evidence=(f"{metric.value} {celsius:g}",),
            )

    return judge


def thermal_detectors(settings: DetectorSettings) -> list[Level]:
    """Return the detectors of heat and power."""
    throttling = Hold(
        raise_seconds=settings.throttle_hold_seconds,
        forgive_seconds=settings.throttle_hold_seconds / 4,
        clear_seconds=settings.throttle_clear_seconds,
    )
    critical = Hold(raise_seconds=settings.critical_hold_seconds)
    margin = settings.critical_margin_celsius
    return [
        Level(
            name="thermal_throttle",
            kind="thermal.throttle",
            judge=flag(Metric.THROTTLE_THERMAL, "lowers its clock because of heat"),
            hold=throttling,
        ),
        Level(
            name="power_throttle",
            kind="power.throttle",
            judge=flag(Metric.THROTTLE_POWER, "lowers its clock because of a power brake"),
            hold=throttling,
        ),
        Level(
            name="temperature",
            kind="thermal.critical",
            judge=too_hot(Metric.TEMPERATURE, settings.critical_celsius, margin),
            hold=critical,
        ),
        Level(
            name="memory_temperature",
            kind="thermal.critical",
            judge=too_hot(Metric.MEMORY_TEMPERATURE, settings.critical_memory_celsius, margin),
            hold=critical,
        ),
    ]
