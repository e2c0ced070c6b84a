"""What every part has beside its own work: the clocks, the metrics, and where to say trouble."""

from __future__ import annotations

from dataclasses import dataclass, field

from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.version import own_version


@dataclass(frozen=True, slots=True)
class Instruments:
    """One set per daemon."""

    clock: Clock = field(default_factory=Clock)
    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.metrics.set_build(own_version())
