"""One chip's answers as readings and gaps: units, placeholders, what belongs together. Pure.

A metric is either read or a gap with a reason. A value outside its bounds is what NVML writes for
"no value" (all bits set) or nonsense: a gap too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, Gap, GapReason, Reading, chip_component
from chipmedic_collectors.nvidia.codes import NOT_SUPPORTED, gap_reason, words
from chipmedic_collectors.nvidia.reply import SUCCESS, Answer

COUNTER_MAX = (1 << 63) - 1

COLUMNS: Mapping[str, tuple[Metric, float, int]] = {
    "temperature": (Metric.TEMPERATURE, 1.0, 250),
    "power": (Metric.POWER, 1e-3, 100_000_000),
    "power_limit": (Metric.POWER_LIMIT, 1e-3, 100_000_000),
    "utilization": (Metric.UTILIZATION, 1e-2, 100),
    "recovery_action": (Metric.RECOVERY_ACTION, 1.0, 255),
    "ecc_corrected": (Metric.ECC_CORRECTED, 1.0, COUNTER_MAX),
    "ecc_uncorrected": (Metric.ECC_UNCORRECTED, 1.0, COUNTER_MAX),
    "pcie_replays": (Metric.PCIE_REPLAYS, 1.0, (1 << 32) - 2),
    "remap_failed": (Metric.REMAP_FAILED, 1.0, 1),
}
"""Name: metric, what to multiply by, the largest raw value that can be true."""

PCIE_TRANSFERS_PER_SECOND = {1: 2.5e9, 2: 5e9, 3: 8e9, 4: 16e9, 5: 32e9, 6: 64e9, 7: 128e9}

IDLE, HW_SLOWDOWN, SW_THERMAL, HW_THERMAL, POWER_BRAKE = 0x1, 0x8, 0x20, 0x40, 0x80
"""Bits of the reasons for lower clocks; the others are settings, not troubles."""


@dataclass(slots=True)
class ChipReadings:
    """What has been made of one chip's answers so far."""

    uid: str
    answers: Mapping[str, Answer]
    readings: list[Reading] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def component(self) -> Component:
        """The chip."""
        return chip_component(self.uid)

    def read(self, metric: Metric, value: float, component: Component | None = None) -> None:
        """Note a value."""
        self.readings.append(Reading(component or self.component, metric, value))

    def miss(self, metric: Metric, code: int, component: Component | None = None) -> None:
        """Note a value whose call answered a code."""
        self._gap(metric, gap_reason(code), words(code), component)

    def doubt(self, metric: Metric, value: Any, component: Component | None = None) -> None:
        """Note a value that cannot be true."""
        self._gap(metric, GapReason.MALFORMED, f"{value!r} cannot be true", component)

    def skip(self, metric: Metric, why: str) -> None:
        """Note a value that says nothing here."""
        self._gap(metric, GapReason.UNSUPPORTED, why, None)

    def _gap(
        self, metric: Metric, reason: GapReason, detail: str, component: Component | None
    ) -> None:
        self.gaps.append(Gap(component or self.component, metric, reason, detail))


def read_chip(uid: str, answers: Mapping[str, Answer]) -> ChipReadings:
    """Turn the answers of one chip into readings and gaps; only what was asked appears."""
    chip = ChipReadings(uid, answers)
    for name, (metric, scale, largest) in COLUMNS.items():
        if name in answers:
            _read_number(chip, name, metric, scale, largest)
    for name, reader in _READERS.items():
        if name in answers:
            reader(chip)
    return chip


def is_whole(value: Any, largest: int = COUNTER_MAX) -> bool:
    """Say whether a raw value is a whole number from 0 to `largest`."""
    return type(value) is int and 0 <= value <= largest


def _read_number(chip: ChipReadings, name: str, metric: Metric, scale: float, largest: int) -> None:
    code, value = chip.answers[name]
    if code != SUCCESS:
        chip.miss(metric, code)
    elif is_whole(value, largest):
        chip.read(metric, value * scale)
    else:
        chip.doubt(metric, value)


def _memory_temperature(chip: ChipReadings) -> None:
    """Read field 82; cards without a sensor answer 0 with success."""
    if chip.answers["memory_temperature"] == (SUCCESS, 0):
        chip.skip(Metric.MEMORY_TEMPERATURE, "0 degrees: the card has no such sensor")
    else:
        _read_number(chip, "memory_temperature", Metric.MEMORY_TEMPERATURE, 1.0, 250)


def _memory(chip: ChipReadings) -> None:
    code, value = chip.answers["memory"]
    metrics = (Metric.MEMORY_USED, Metric.MEMORY_TOTAL)
    if code != SUCCESS:
        for metric in metrics:
            chip.miss(metric, code)
    elif _is_row(value, 2) and value[1] > 0 and value[0] <= value[1]:
        for metric, size in zip(metrics, value, strict=True):
            chip.read(metric, size)
    else:
        for metric in metrics:
            chip.doubt(metric, value)


def _throttle(chip: ChipReadings) -> None:
    """Split the reasons: heat, and what the board does against the supply.

    A hardware slowdown comes with the bit of its cause; without one it counts as power, which is
    what it then is (power brake or fast trigger).
    """
    code, reasons = chip.answers["throttle"]
    metrics = (Metric.THROTTLE_THERMAL, Metric.THROTTLE_POWER)
    if code != SUCCESS or not is_whole(reasons):
        for metric in metrics:
            if code != SUCCESS:
                chip.miss(metric, code)
            else:
                chip.doubt(metric, reasons)
        return
    is_hot = bool(reasons & (SW_THERMAL | HW_THERMAL))
    is_braked = bool(reasons & POWER_BRAKE) or (bool(reasons & HW_SLOWDOWN) and not is_hot)
    chip.read(Metric.THROTTLE_THERMAL, float(is_hot))
    chip.read(Metric.THROTTLE_POWER, float(is_braked))


def _retired(chip: ChipReadings) -> None:
    """Add up retired pages (Volta, Turing) and remapped rows (Ampere on): a chip has one of them.

    A part that failed spoils the sum, which would look like a counter that fell.
    """
    _combine(
        chip,
        Metric.RETIRED_PAGES,
        ("retired_single", "retired_double", "remapped_corrected", "remapped_uncorrected"),
        (1 << 32) - 2,
    )
    _combine(chip, Metric.REMAP_PENDING, ("retired_pending", "remap_pending"), 1)


def _combine(chip: ChipReadings, metric: Metric, names: tuple[str, ...], largest: int) -> None:
    parts = [chip.answers.get(name, (NOT_SUPPORTED, None)) for name in names]
    troubles = [code for code, _ in parts if code != SUCCESS]
    failed = [code for code in troubles if gap_reason(code) is not GapReason.UNSUPPORTED]
    values = [value for code, value in parts if code == SUCCESS]
    if failed or not values:
        chip.miss(metric, (failed or troubles)[0])
    elif all(is_whole(value, largest) for value in values):
        chip.read(metric, min(sum(values), largest))
    else:
        chip.doubt(metric, values)


def _pcie_width(chip: ChipReadings) -> None:
    _read_number(chip, "pcie_width", Metric.PCIE_WIDTH, 1.0, 64)
    if "pcie_width_max" in chip.answers:
        _read_number(chip, "pcie_width_max", Metric.PCIE_WIDTH_MAX, 1.0, 64)


def _pcie_speed(chip: ChipReadings) -> None:
    """Read the link's speed; an idle chip lowers it by design, which says nothing of the link."""
    speed = _generation(chip, "pcie_generation", Metric.PCIE_SPEED)
    largest = _generation(chip, "pcie_generation_max", Metric.PCIE_SPEED_MAX)
    if largest is not None:
        chip.read(Metric.PCIE_SPEED_MAX, largest)
    if speed is None:
        return
    if largest is not None and speed < largest and _is_idle(chip.answers):
        chip.skip(Metric.PCIE_SPEED, "an idle GPU lowers the speed of its link by design")
    else:
        chip.read(Metric.PCIE_SPEED, speed)


def _generation(chip: ChipReadings, name: str, metric: Metric) -> float | None:
    code, generation = chip.answers.get(name, (NOT_SUPPORTED, None))
    if code != SUCCESS:
        chip.miss(metric, code)
        return None
    speed = PCIE_TRANSFERS_PER_SECOND.get(generation) if is_whole(generation) else None
    if speed is None:
        chip.doubt(metric, generation)
    return speed


def _is_idle(answers: Mapping[str, Answer]) -> bool:
    reasons_code, reasons = answers.get("throttle", (NOT_SUPPORTED, None))
    if reasons_code == SUCCESS and is_whole(reasons) and reasons & IDLE:
        return True
    return answers.get("utilization", (NOT_SUPPORTED, None)) == (SUCCESS, 0)


def _links(chip: ChipReadings) -> None:
    """Read each NVLink. A link that is down is not asked for its errors; it may be so by design."""
    code, rows = chip.answers["links"]
    if code != SUCCESS:
        chip.miss(Metric.LINK_UP, code)
        return
    if not isinstance(rows, list):
        chip.doubt(Metric.LINK_UP, rows)
        return
    for row in rows:
        if not isinstance(row, list) or len(row) != 5 or not is_whole(row[0], 255):
            chip.doubt(Metric.LINK_UP, row)
            continue
        number, up_code, is_up, errors_code, errors = row
        link = Component(ComponentKind.LINK, f"{chip.uid}/{number}")
        _link_value(chip, link, Metric.LINK_UP, (up_code, is_up), 1)
        if is_up:
            _link_value(chip, link, Metric.LINK_ERRORS, (errors_code, errors), COUNTER_MAX)


def _link_value(
    chip: ChipReadings, link: Component, metric: Metric, answer: Answer, largest: int
) -> None:
    code, value = answer
    if code != SUCCESS:
        chip.miss(metric, code if is_whole(code) else -1, link)
    elif is_whole(value, largest):
        chip.read(metric, value, link)
    else:
        chip.doubt(metric, value, link)


def _is_row(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(is_whole(v) for v in value)


_READERS = {
    "memory_temperature": _memory_temperature,
    "memory": _memory,
    "throttle": _throttle,
    "remap_pending": _retired,
    "pcie_width": _pcie_width,
    "pcie_generation": _pcie_speed,
    "links": _links,
}
