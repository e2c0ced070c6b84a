"""The columns of `nvidia-smi --query-gpu` and `--query-remapped-rows` as facts of a chip.

Source: `nvidia-smi --help-query-gpu` of the drivers 418 to 610.
"""

from __future__ import annotations

from collections.abc import Mapping

from chipmedic.tool_report import ChipReport, Health
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.reading.judging import worsen
from chipmedic_collectors.values import identity, integer, memory_bytes, normalise_pci, number

_POWER = ("power.draw", "power.draw.average", "power.draw.instant")
_POWER_LIMIT = ("power.limit.enforced", "power.limit")
_RETIRED = (
    "retired_pages.single_bit_ecc.count",
    "retired_pages.double_bit.count",
    "remapped_rows.correctable",
    "remapped_rows.uncorrectable",
)
_STATES = {
    "reset_status.reset_required": Health.CRITICAL,
    "reset_status.drain_and_reset_recommended": Health.WARNING,
    "retired_pages.pending": Health.WARNING,
}


def fill_chip(chip: ChipReport, row: Mapping[str, str]) -> None:
    """Fill the chip with what the cells of one row state."""
    chip.index = integer(row.get("index", ""))
    chip.pci = normalise_pci(row.get("pci", ""))
    chip.uuid = identity(row.get("uuid", ""))
    chip.serial = identity(row.get("serial", ""))
    chip.name = identity(row.get("name", ""))
    chip.temperature_celsius = number(row.get("temperature.gpu", ""))
    chip.memory_temperature_celsius = number(row.get("temperature.memory", ""))
    chip.power_watts = _first_number(row, _POWER)
    chip.power_limit_watts = _first_number(row, _POWER_LIMIT)
    chip.utilization_ratio = facts.ratio_of_percent(row.get("utilization.gpu", ""))
    chip.memory_used_bytes = memory_bytes(row.get("memory.used", ""))
    chip.memory_total_bytes = memory_bytes(row.get("memory.total", ""))
    chip.ecc_corrected_total = _errors(row, "corrected")
    chip.ecc_uncorrected_total = _errors(row, "uncorrected")
    chip.retired_pages = facts.total(facts.counter(row.get(column, "")) for column in _RETIRED)
    _judge(chip, row)


def _first_number(row: Mapping[str, str], columns: tuple[str, ...]) -> float | None:
    values = (number(row.get(column, "")) for column in columns)
    return next((value for value in values if value is not None), None)


def _errors(row: Mapping[str, str], kind: str) -> int | None:
    """Return the errors of one kind over the chip's life, else since boot."""
    for period in ("aggregate", "volatile"):
        prefix = f"ecc.errors.{kind}.{period}."
        cells = {
            column.removeprefix(prefix): facts.counter(cell)
            for column, cell in row.items()
            if column.startswith(prefix)
        }
        count = cells.pop("total", None)
        if count is None:
            count = _sum_of_memories(cells)
        if count is not None:
            return count
    return None


def _sum_of_memories(cells: dict[str, int | None]) -> int | None:
    """Add counters by place: `dram` is the new name of `device_memory`, `sram` sums the rest."""
    memory = cells.pop("device_memory", None)
    dram = cells.pop("dram", None)
    sram = cells.pop("sram", None)
    inside = sram if sram is not None else facts.total(cells.values())
    return facts.total([dram if dram is not None else memory, inside])


def _judge(chip: ChipReport, row: Mapping[str, str]) -> None:
    chip.remap_pending = facts.answer(row.get("remapped_rows.pending", ""))
    chip.remap_failed = facts.answer(row.get("remapped_rows.failure", ""))
    facts.judge_remapping(chip)
    facts.judge_recovery_action(chip, row.get("gpu_recovery_action", ""))
    for column, health in _STATES.items():
        if facts.answer(row.get(column, "")):
            worsen(chip, health)
    facts.judge_fabric_registration(chip, row.get("fabric.state", ""), row.get("fabric.status", ""))
    for column, cell in row.items():
        if column.startswith("fabric.health."):
            facts.judge_fabric(chip, column.removeprefix("fabric.health."), cell)
