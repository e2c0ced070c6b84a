"""A scan while it is being written."""

from __future__ import annotations

from chipmedic import (
    Chip,
    ChipProcess,
    Component,
    Event,
    Gap,
    GapReason,
    Metric,
    Reading,
    Scan,
)
from chipmedic.model import collector_component
from chipmedic.tool_report import ChipReport, Health

SOURCE = "ascend"
COLLECTOR = collector_component(SOURCE)

HEALTH_CODES = {Health.OK: 0.0, Health.WARNING: 1.0, Health.CRITICAL: 2.0}
_METRICS = (
    (Metric.TEMPERATURE, "temperature_celsius"),
    (Metric.POWER, "power_watts"),
    (Metric.UTILIZATION, "utilization_ratio"),
    (Metric.MEMORY_USED, "memory_used_bytes"),
    (Metric.MEMORY_TOTAL, "memory_total_bytes"),
)
_ECC = (
    (Metric.ECC_CORRECTED, "ecc_corrected_total"),
    (Metric.ECC_UNCORRECTED, "ecc_uncorrected_total"),
    (Metric.RETIRED_PAGES, "retired_pages"),
)


class Draft:
    """Collects what one scan saw; a later statement about the same value replaces the earlier."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.is_inventory = False
        self._chips: dict[str, Chip] = {}
        self._readings: dict[tuple[Component, Metric], float] = {}
        self._gaps: dict[tuple[Component, Metric | None], Gap] = {}
        self._events: list[Event] = []
        self._processes: list[ChipProcess] = []

    def read(self, component: Component, metric: Metric, value: float) -> None:
        """Note a reading."""
        self._readings[component, metric] = float(value)

    def gap(
        self, component: Component, metric: Metric | None, reason: GapReason, detail: str
    ) -> None:
        """Note what could not be read."""
        self._gaps[component, metric] = Gap(component, metric, reason, detail)

    def event(self, event: Event) -> None:
        """Note an event."""
        self._events.append(event)

    def chip(self, chip: Chip, row: ChipReport) -> None:
        """Note a chip and what its row of the tool says; a row without any value is no answer."""
        self._chips[chip.uid] = chip
        values = [(metric, getattr(row, field)) for metric, field in _METRICS]
        if row.health not in HEALTH_CODES and all(value is None for _, value in values):
            self.gap(chip.component, None, GapReason.FAILED, "the tool shows no value of this chip")
            return
        self.read(chip.component, Metric.PRESENT, 1)
        self.health(chip, row.health)
        for metric, value in values:
            if value is not None:
                self.read(chip.component, metric, value)
            else:
                reason = _reason(chip, metric)
                self.gap(chip.component, metric, reason, "printed as 0, NA or -: not measured")
        for process in row.processes or []:
            self._processes.append(ChipProcess(chip.uid, process.pid, process.memory_bytes))

    def shows(self, chip: Chip) -> bool:
        """Say whether the tool showed this chip in this scan."""
        return chip.uid in self._chips

    def health(self, chip: Chip, health: Health | None) -> None:
        """Note a state of a chip; of two samples in one scan the worse counts."""
        code = HEALTH_CODES.get(health) if health is not None else None
        key = (chip.component, Metric.HEALTH)
        if code is None:
            self.gap(*key, GapReason.FAILED, "the tool does not know the state of this chip")
        elif code > 0 or key not in self._gaps:  # unknown, then ok, is not ok
            self._gaps.pop(key, None)
            self._readings[key] = max(code, self._readings.get(key, 0.0))

    def ecc(self, chip: Chip, row: ChipReport) -> None:
        """Note the memory error counters of a chip."""
        for metric, field in _ECC:
            value = getattr(row, field)
            if value is not None:
                self.read(chip.component, metric, value)
            else:
                self.gap(chip.component, metric, GapReason.UNSUPPORTED, "not printed for this chip")
        if row.remap_pending is not None:
            self.read(chip.component, Metric.REMAP_PENDING, row.remap_pending)

    def lost(self, component: Component, detail: str) -> None:
        """Note that a chip is known and gone: whatever was said of it before does not hold."""
        for key in [key for key in self._readings if key[0] == component]:
            del self._readings[key]
        self._chips.pop(component.name, None)
        self.gap(component, None, GapReason.MISSING, detail)
        self.read(component, Metric.PRESENT, 0)

    def scan(self) -> Scan:
        """Return the scan."""
        return Scan(
            source=SOURCE,
            at=self.at,
            chips=tuple(self._chips.values()),
            readings=tuple(Reading(*key, value) for key, value in self._readings.items()),
            events=tuple(self._events),
            gaps=tuple(self._gaps.values()),
            processes=tuple(self._processes),
            is_inventory=self.is_inventory,
        )


def _reason(chip: Chip, metric: Metric) -> GapReason:
    """310 chips do not measure power; of the pair on an A3 card, die 0 prints it for both."""
    if metric is Metric.POWER and (chip.die > 0 or "310" in chip.model):
        return GapReason.UNSUPPORTED
    return GapReason.FAILED
