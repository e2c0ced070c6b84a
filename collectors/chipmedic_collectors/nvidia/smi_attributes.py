"""One GPU of `nvidia-smi -q` as a chip: which node of the tree states which fact.

Names are those of the XML; where the text form or another version has another name, both stand
there.
Sources: nvsmi_device_v10.dtd to v13, and the text of the drivers 290 to 610.
"""

from __future__ import annotations

from collections.abc import Iterator

from chipmedic.tool_report import ChipReport, Health, ProcessReport, ToolReport
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.nvidia.smi_process_table import add_process
from chipmedic_collectors.reading.judging import worsen
from chipmedic_collectors.reading.tree import Node
from chipmedic_collectors.values import (
    identity,
    is_placeholder,
    memory_bytes,
    normalise_pci,
    number,
    process_id,
)

_NOTHING = Node("")
_PROCESSES = ("processes", "compute_processes")
_FREE_TEXT = frozenset({*_PROCESSES, "fabric", "accounted_processes", "supported_clocks"})
"""Sections whose words say nothing about whether the chip answers."""


def read_gpu(gpu: Node, chip: ChipReport, report: ToolReport) -> None:
    """Fill the chip with what its node states; a node that was cut off gives no health `ok`."""
    chip.name = identity(gpu.value("product_name"))
    chip.uuid = identity(gpu.value("uuid", "gpu_uuid"))
    chip.serial = identity(gpu.value("serial", "serial_number"))
    bus_id = _section(gpu, "pci").value("pci_bus_id", "bus_id")
    chip.pci = chip.pci or normalise_pci(bus_id)
    _read_sensors(gpu, chip)
    _read_errors(_section(gpu, "ecc_errors"), chip)
    _read_retirement(gpu, chip)
    _read_states(gpu, chip)
    chip.processes = _processes(gpu.child(*_PROCESSES))
    trouble = facts.trouble_of(gpu.leaves(without=_FREE_TEXT))
    facts.note_trouble(report, chip, trouble, is_silent=not facts.has_reading(chip))
    if not gpu.is_closed and chip.health is Health.OK:
        chip.health = None


def _section(node: Node, *keys: str) -> Node:
    return node.child(*keys) or _NOTHING


def _read_sensors(gpu: Node, chip: ChipReport) -> None:
    temperature = _section(gpu, "temperature")
    chip.temperature_celsius = number(temperature.value("gpu_temp", "gpu_current_temp", "gpu"))
    chip.memory_temperature_celsius = number(
        temperature.value("memory_temp", "memory_current_temp")
    )
    power = _section(gpu, "gpu_power_readings", "power_readings")
    chip.power_watts = _first_number(
        power, "power_draw", "average_power_draw", "instant_power_draw", "instantaneous_power_draw"
    )
    chip.power_limit_watts = _first_number(
        power, "enforced_power_limit", "current_power_limit", "power_limit"
    )
    chip.utilization_ratio = facts.ratio_of_percent(
        _section(gpu, "utilization").value("gpu_util", "gpu")
    )
    memory = _section(gpu, "fb_memory_usage", "memory_usage")
    chip.memory_used_bytes = memory_bytes(memory.value("used"))
    chip.memory_total_bytes = memory_bytes(memory.value("total"))


def _first_number(section: Node, *keys: str) -> float | None:
    values = (number(section.value(key)) for key in keys)
    return next((value for value in values if value is not None), None)


def _read_errors(errors: Node, chip: ChipReport) -> None:
    """Take the lifetime counters; those since boot only for a kind that has no lifetime one."""
    lifetime = errors.child("aggregate")
    if lifetime is None and not errors.is_closed:
        return  # the lifetime counters were still to come
    if lifetime is not None and not _is_whole(lifetime):
        return
    periods = [lifetime or _NOTHING, _section(errors, "volatile")]
    chip.ecc_corrected_total = _first_count(periods, "single_bit", "correctable")
    chip.ecc_uncorrected_total = _first_count(periods, "double_bit", "uncorrectable")


def _is_whole(period: Node) -> bool:
    """Say whether the last counter is there: without it the sum would be too small."""
    last = period.child("double_bit", "dram_uncorrectable")
    return period.is_closed and (not period.children or (last is not None and last.is_closed))


def _first_count(periods: list[Node], old: str, new: str) -> int | None:
    counts = (_count(period, old, new) for period in periods)
    return next((count for count in counts if count is not None), None)


def _count(period: Node, old: str, new: str) -> int | None:
    """Add up one kind: `dram_correctable` since Turing, `single_bit` with its memories before."""
    section = period.child(old)
    if section is not None:
        whole = facts.counter(section.value("total"))
        parts = (facts.counter(node.text) for node in section.children)
        return whole if whole is not None else facts.total(parts)
    return facts.total(
        facts.counter(node.text) for node in period.children if new in node.key.split("_")
    )


def _read_retirement(gpu: Node, chip: ChipReport) -> None:
    pages = _section(gpu, "retired_pages")
    rows = _section(gpu, "remapped_rows")
    if gpu.is_closed or (rows is not _NOTHING and rows.is_closed):
        chip.retired_pages = facts.total(_retired(pages, rows))
    chip.remap_pending = facts.answer(rows.value("remapped_row_pending", "pending"))
    chip.remap_failed = facts.answer(
        rows.value("remapped_row_failure", "remapping_failure_occurred")
    )
    facts.judge_remapping(chip)
    for key in ("pending_retirement", "pending_blacklist", "pending_page_blacklist", "pending"):
        if facts.answer(pages.value(key)):
            worsen(chip, Health.WARNING)


def _retired(pages: Node, rows: Node) -> Iterator[int | None]:
    """Yield the counts of retired pages (until Turing) and remapped rows (since Ampere).

    Each has two causes; where the output was cut between them neither counts.
    """
    for section, *causes in (
        (pages, "multiple_single_bit_retirement", "double_bit_retirement"),
        (pages, "single_bit_ecc", "double_bit_ecc"),
        (rows, "remapped_row_corr", "remapped_row_unc"),
        (rows, "correctable_error", "uncorrectable_error"),
    ):
        found = [node for node in map(section.child, causes) if node is not None]
        if len(found) == len(causes):
            yield from (facts.counter(node.value("retired_count") or node.text) for node in found)


def _read_states(gpu: Node, chip: ChipReport) -> None:
    facts.judge_recovery_action(chip, gpu.value("gpu_recovery_action"))
    reset = _section(gpu, "gpu_reset_status")
    if facts.answer(reset.value("reset_required")):
        worsen(chip, Health.CRITICAL)
    if facts.answer(reset.value("drain_and_reset_recommended")):
        worsen(chip, Health.WARNING)
    errors = _section(gpu, "ecc_errors")
    if facts.answer(_section(errors, "aggregate").value("sram_threshold_exceeded")):
        worsen(chip, Health.WARNING)
    for key in ("channel_repair_pending", "tpc_repair_pending"):
        if facts.answer(errors.value(key)):
            worsen(chip, Health.WARNING)
    banks = _section(gpu, "remapped_banks")
    if facts.answer(banks.value("bank_remapper_pending", "pending")):
        worsen(chip, Health.WARNING)
    if facts.answer(errors.value("unrepairable_memory")):
        worsen(chip, Health.CRITICAL)
    fabric = _section(gpu, "fabric")
    facts.judge_fabric_registration(chip, fabric.value("state"), fabric.value("status"))
    for leaf in _section(fabric, "health").children:
        facts.judge_fabric(chip, leaf.key, leaf.text)


def _processes(section: Node | None) -> list[ProcessReport] | None:
    """Return the processes of a GPU; None when the tool does not list them here."""
    if section is None or (not section.children and _withholds(section.text)):
        return None
    if not section.is_closed and not section.children:
        return None
    found: dict[int, ProcessReport] = {}
    for node in section.children:
        if node.key not in {"process_info", "process_id"}:
            continue
        pid = process_id(node.value("pid") or node.text)
        if pid is None:
            continue
        name = identity(node.value("process_name", "name"))
        memory = memory_bytes(node.value("used_memory", "used_gpu_memory"))
        add_process(found, ProcessReport(pid, name, memory))
    return list(found.values())


def _withholds(text: str) -> bool:
    return bool(text) and text.strip(" []").lower() != "none" and is_placeholder(text)
