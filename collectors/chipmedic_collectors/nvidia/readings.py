"""One chip's answers as readings and gaps: units, placeholders, what belongs together. Pure.

A metric is either read or a gap with a reason. A value outside its bounds is what NVML writes for
"no value" (all bits set) or nonsense: a gap too.
"""

from __future__ import annotations

from collections.abc import Mapping

from chipmedic.metric import Metric
from chipmedic_collectors.nvidia.chip_readings import COUNTER_MAX, ChipReadings, is_row, is_whole
from chipmedic_collectors.nvidia.codes import NOT_SUPPORTED
from chipmedic_collectors.nvidia.links import read_c2c, read_nvlinks
from chipmedic_collectors.nvidia.partitions import read_partitions
from chipmedic_collectors.nvidia.reply import SUCCESS, Answer
from chipmedic_collectors.nvidia.wear import read_banks, read_unrepairable, read_wear

COLUMNS: Mapping[str, tuple[Metric, float, int]] = {
    "temperature": (Metric.TEMPERATURE, 1.0, 250),
    "power": (Metric.POWER, 1e-3, 100_000_000),
    "power_limit": (Metric.POWER_LIMIT, 1e-3, 100_000_000),
    "utilization": (Metric.UTILIZATION, 1e-2, 100),
    "recovery_action": (Metric.RECOVERY_ACTION, 1.0, 255),
    "ecc_corrected": (Metric.ECC_CORRECTED, 1.0, COUNTER_MAX),
    "ecc_uncorrected": (Metric.ECC_UNCORRECTED, 1.0, COUNTER_MAX),
    "pcie_replays": (Metric.PCIE_REPLAYS, 1.0, (1 << 32) - 2),
    "sram_threshold": (Metric.SRAM_THRESHOLD, 1.0, 1),
}
"""Name: metric, what to multiply by, the largest raw value that can be true."""

PCIE_TRANSFERS_PER_SECOND = {1: 2.5e9, 2: 5e9, 3: 8e9, 4: 16e9, 5: 32e9, 6: 64e9, 7: 128e9}

IDLE, HW_SLOWDOWN, SW_THERMAL, HW_THERMAL, POWER_BRAKE = 0x1, 0x8, 0x20, 0x40, 0x80
"""Bits of the reasons for lower clocks; the others are settings, not troubles."""


def read_chip(uid: str, answers: Mapping[str, Answer]) -> ChipReadings:
    """Turn the answers of one chip into readings and gaps; only what was asked appears."""
    chip = ChipReadings(uid, answers)
    for name, (metric, scale, largest) in COLUMNS.items():
        if name in answers:
            chip.judge(metric, answers[name], largest=largest, scale=scale)
    for name, reader in _READERS.items():
        if name in answers:
            reader(chip)
    return chip


def _memory_temperature(chip: ChipReadings) -> None:
    """Read field 82; cards without a sensor answer 0 with success."""
    if chip.answers["memory_temperature"] == (SUCCESS, 0):
        chip.skip(Metric.MEMORY_TEMPERATURE, "0 degrees: the card has no such sensor")
    else:
        chip.judge(Metric.MEMORY_TEMPERATURE, chip.answers["memory_temperature"], largest=250)


def _memory(chip: ChipReadings) -> None:
    code, value = chip.answers["memory"]
    metrics = (Metric.MEMORY_USED, Metric.MEMORY_TOTAL)
    if code != SUCCESS:
        for metric in metrics:
            chip.miss(metric, code)
    elif is_row(value, 2) and value[1] > 0 and value[0] <= value[1]:
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


def _pcie_width(chip: ChipReadings) -> None:
    chip.judge(Metric.PCIE_WIDTH, chip.answers["pcie_width"], largest=64)
    if "pcie_width_max" in chip.answers:
        chip.judge(Metric.PCIE_WIDTH_MAX, chip.answers["pcie_width_max"], largest=64)


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


_READERS = {
    "memory_temperature": _memory_temperature,
    "memory": _memory,
    "throttle": _throttle,
    "remap_pending": read_wear,
    "row_banks": read_banks,
    "unrepairable_memory": read_unrepairable,
    "pcie_width": _pcie_width,
    "pcie_generation": _pcie_speed,
    "links": read_nvlinks,
    "c2c": read_c2c,
    "mig": read_partitions,
}
