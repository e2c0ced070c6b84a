"""A scan while it is being written from the reports of a vendor's tool."""

from __future__ import annotations

from collections.abc import Collection

from chipmedic import (
    Chip,
    ChipProcess,
    Component,
    ComponentKind,
    Event,
    Gap,
    GapReason,
    Metric,
    Reading,
    Scan,
)
from chipmedic.model import collector_component
from chipmedic.tool_report import ChipReport, Health

HEALTH_CODES = {Health.OK: 0.0, Health.WARNING: 1.0, Health.CRITICAL: 2.0}
FIELDS: dict[Metric, str] = {
    Metric.TEMPERATURE: "temperature_celsius",
    Metric.MEMORY_TEMPERATURE: "memory_temperature_celsius",
    Metric.POWER: "power_watts",
    Metric.POWER_LIMIT: "power_limit_watts",
    Metric.UTILIZATION: "utilization_ratio",
    Metric.MEMORY_USED: "memory_used_bytes",
    Metric.MEMORY_TOTAL: "memory_total_bytes",
    Metric.ECC_CORRECTED: "ecc_corrected_total",
    Metric.ECC_UNCORRECTED: "ecc_uncorrected_total",
    Metric.RETIRED_PAGES: "retired_pages",
    Metric.REMAP_PENDING: "remap_pending",
    Metric.REMAP_FAILED: "remap_failed",
}
"""Which field of a row is which metric; health, links and processes are read apart."""


class ScanDraft:
    """Collects what one scan saw; a later statement about the same value replaces the earlier."""

    def __init__(self, source: str, at: float, steady_at: float | None = None) -> None:
        self.at = at
        self.steady_at = at if steady_at is None else steady_at
        """The same for schedules, which go on when the clock is set back (`SteadyClock`)."""
        self.source = source
        self.collector = collector_component(source)
        self.is_inventory = False
        self._chips: dict[str, Chip] = {}
        self._readings: dict[tuple[Component, Metric], float] = {}
        self._gaps: dict[tuple[Component, Metric | None], Gap] = {}
        self._events: list[Event] = []
        self._processes: dict[tuple[str, int], ChipProcess] = {}

    def read(self, component: Component, metric: Metric, value: float) -> None:
        """Note a reading."""
        self._gaps.pop((component, metric), None)
        self._readings[component, metric] = float(value)

    def gap(
        self, component: Component, metric: Metric | None, reason: GapReason, detail: str
    ) -> None:
        """Note what could not be read; a value that another question did read stays."""
        if (component, metric) not in self._readings:
            self._gaps[component, metric] = Gap(component, metric, reason, detail)

    def event(self, event: Event) -> None:
        """Note an event."""
        self._events.append(event)

    def show(self, chip: Chip) -> None:
        """Note that the tool lists a chip."""
        self._chips[chip.uid] = chip

    def chip(self, chip: Chip, row: ChipReport) -> bool:
        """Note a chip and what its row says; return False for a row that is no answer."""
        self.show(chip)
        if row.lost:
            self.lost(chip.component, "the tool says that this chip is lost")
            return False
        if not has_values(row):
            self.gap(chip.component, None, GapReason.FAILED, "the tool shows no value of this chip")
            return False
        self._gaps.pop((chip.component, None), None)
        self.read(chip.component, Metric.PRESENT, 1)
        self.more(chip, row)
        return True

    def more(self, chip: Chip, row: ChipReport) -> None:
        """Note what a further answer says of a chip."""
        if row.lost:
            self.lost(chip.component, "the tool says that this chip is lost")
            return
        for metric, field in FIELDS.items():
            if (value := getattr(row, field)) is not None:
                self.read(chip.component, metric, value)
        if row.memory_used_bytes is None and row.memory_used_ratio is not None:
            total = row.memory_total_bytes
            if total is not None:
                self.read(chip.component, Metric.MEMORY_USED, row.memory_used_ratio * total)
        self.health(chip.component, row.health)
        for position, link in enumerate(row.links or []):
            number = link.index if link.index is not None else position
            port = Component(ComponentKind.LINK, f"{chip.uid}/{number}")
            self.read(port, Metric.LINK_UP, link.is_up)
        for process in row.processes or []:
            key = (chip.uid, process.pid)
            self._processes[key] = ChipProcess(chip.uid, process.pid, process.memory_bytes)

    def unread(
        self, component: Component, metrics: Collection[Metric], reason: GapReason, detail: str
    ) -> None:
        """Note which of the metrics that were asked for did not come."""
        for metric in metrics:
            self.gap(component, metric, reason, detail)

    def shows(self, chip: Chip) -> bool:
        """Say whether the tool showed this chip, and it answered, in this scan."""
        return chip.uid in self._chips and (chip.component, None) not in self._gaps

    def has(self, component: Component, metric: Metric) -> bool:
        """Say whether a value was read."""
        return (component, metric) in self._readings

    def health(self, component: Component, health: Health | None) -> None:
        """Note a state of a chip; of two statements in one scan the worse counts."""
        if health is None:
            return
        key = (component, Metric.HEALTH)
        code = HEALTH_CODES.get(health)
        if code is None:
            detail = "the tool does not know the state of this chip"
            if self._readings.get(key, 0.0) == 0:  # ok, then unknown, is not ok
                self._readings.pop(key, None)
                self.gap(*key, GapReason.FAILED, detail)
        elif code > 0 or key not in self._gaps:  # unknown, then ok, is not ok either
            self.read(*key, max(code, self._readings.get(key, 0.0)))

    def lost(self, component: Component, detail: str) -> None:
        """Note that a chip is known and gone: whatever was said of it before does not hold."""
        for key in [key for key in self._readings if key[0] == component]:
            del self._readings[key]
        self._chips.pop(component.name, None)
        self._gaps[component, None] = Gap(component, None, GapReason.MISSING, detail)
        self._readings[component, Metric.PRESENT] = 0.0

    def scan(self) -> Scan:
        """Return the scan."""
        return Scan(
            source=self.source,
            at=self.at,
            chips=tuple(self._chips.values()),
            readings=tuple(Reading(*key, value) for key, value in self._readings.items()),
            events=tuple(self._events),
            gaps=tuple(self._gaps.values()),
            processes=tuple(self._processes.values()),
            is_inventory=self.is_inventory,
        )


def has_values(row: ChipReport) -> bool:
    """Say whether a row states anything of the chip's present state."""
    if row.health in HEALTH_CODES or row.memory_used_ratio is not None:
        return True
    return any(
        getattr(row, field) is not None
        for metric, field in FIELDS.items()
        if metric is not Metric.POWER_LIMIT and metric is not Metric.MEMORY_TOTAL
    )
