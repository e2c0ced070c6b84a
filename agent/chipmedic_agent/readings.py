"""The newest value of every quantity, for as long as it says something about now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chipmedic.metric import Metric
from chipmedic.model import Component, Scan
from chipmedic_agent.coverage import STALE_PERIODS

SLOW_SECONDS = 60.0
"""A collector may ask for some values less often than it scans: so long apart at most."""


@dataclass(frozen=True, slots=True)
class Value:
    """One reading, when it was made, and until when it holds."""

    value: float
    at: float
    source: str
    holds_until: float


class Readings:
    """What was read last, by component and metric. Values too old to tell anything are dropped."""

    def __init__(self) -> None:
        self._values: dict[tuple[Component, Metric], Value] = {}
        self._swept_at = -SLOW_SECONDS

    def take(self, scan: Scan, *, period_seconds: float) -> None:
        """Take in a scan; what it says it could not read is known no longer."""
        for gap in scan.gaps:
            if gap.metric is not None:
                self._values.pop((gap.component, gap.metric), None)
        for reading in scan.readings:
            key = (reading.component, reading.metric)
            before = self._values.get(key)
            spacing = SLOW_SECONDS if before is None else min(scan.at - before.at, SLOW_SECONDS)
            holds = STALE_PERIODS * max(period_seconds, spacing)
            self._values[key] = Value(reading.value, scan.at, scan.source, scan.at + holds)
        if not 0 <= scan.at - self._swept_at < SLOW_SECONDS:
            self._sweep(scan.at)

    def _sweep(self, now: float) -> None:
        """Let go of what holds no longer; `current` does not show it anyway."""
        self._swept_at = now
        self._values = {k: v for k, v in self._values.items() if v.holds_until >= now}

    def current(self, now: float) -> Iterator[tuple[Component, Metric, Value]]:
        """Yield what still holds; may be called from another thread."""
        for (component, metric), value in self._values.copy().items():
            if value.holds_until >= now:
                yield component, metric, value
