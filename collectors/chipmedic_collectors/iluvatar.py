"""Iluvatar CoreX: the reader of `ixsmi`, and the collector that polls it.

Two chips of one board share its serial number, and only the first or second of them shows the
board's power; a chip that prints none is no fault.
"""

from __future__ import annotations

import re
from typing import ClassVar

from chipmedic import Metric
from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReader, ToolReport
from chipmedic_collectors.pci_bus import ACCELERATORS, PciPattern
from chipmedic_collectors.reading import box, cells, fields, listing
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.csv_rows import read_query
from chipmedic_collectors.reading.judging import note_silence
from chipmedic_collectors.reading.language import Language, Layout
from chipmedic_collectors.reading.topology import matrix_of
from chipmedic_collectors.reading.tree import Node, read_xml
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import LOAD
from chipmedic_collectors.values import identity, integer, memory_bytes, normalise_pci, process_id

VENDOR = "iluvatar"
WORD = "GPU"
ONE_CHIP = ("-i", "--id")
_LOG_VERSION = re.compile(r"^IX-ML Version\s*:\s*(?P<tool>\S+)", re.IGNORECASE | re.MULTILINE)
_BANNER = re.compile(r"IX-ML:\s*(?P<tool>\S+)\s+Driver Version:\s*(?P<driver>\S+)")


def _is_xml(text: str, command: CommandLine) -> bool:
    return "<ixsmi_log" in text


def _read_xml(text: str, command: CommandLine, report: ToolReport) -> None:
    log = read_xml(text).child("ixsmi_log") or Node("")
    report.driver_version = identity(log.value("driver_version"))
    gpus = [node for node in log.named("gpu") if node.children]
    for node in gpus:
        chip = _gpu(node)
        report.chips.append(chip)
        note_silence(report, chip)
    if not log.is_closed:
        report.add_problem(ProblemKind.TRUNCATED, "the XML ends before </ixsmi_log>")
    attached = integer(log.value("attached_gpus"))
    listing.note_count(attached, WORD, command, report, *ONE_CHIP)


def _section(node: Node, *keys: str) -> Node:
    return node.child(*keys) or Node("")


def _gpu(node: Node) -> ChipReport:
    memory = _section(node, "memory_usage", "fb_memory_usage")
    temperature, power = _section(node, "temperature"), _section(node, "power_readings")
    errors = _section(node, "ecc_errors")
    chip = ChipReport(
        index=integer(node.value("minor_number")),
        name=identity(node.value("product_name")),
        uuid=identity(node.value("uuid")),
        serial=identity(node.value("serial")),
        pci=normalise_pci(node.id),
        temperature_celsius=cells.measured(temperature.value("gpu_temp")),
        memory_temperature_celsius=cells.measured(temperature.value("memory_temp")),
        power_watts=cells.measured(power.value("gpu_power_draw", "power_draw")),
        power_limit_watts=cells.measured(
            power.value("current_gpu_power_limit", "enforced_power_limit", "power_limit")
        ),
        utilization_ratio=cells.ratio(_section(node, "utilization").value("gpu_util")),
        ecc_corrected_total=cells.counter(errors.value("single_bit")),
        ecc_uncorrected_total=cells.counter(errors.value("double_bit")),
    )
    if total := memory_bytes(memory.value("total")):
        chip.memory_total_bytes = total
        chip.memory_used_bytes = memory_bytes(memory.value("used"))
    processes = node.child("processes")
    if processes is not None and processes.is_closed:
        chip.processes = [
            ProcessReport(
                pid,
                identity(one.value("process_name")),
                memory_bytes(one.value("used_memory")),
            )
            for one in processes.named("process_info")
            if (pid := process_id(one.value("pid"))) is not None
        ]
    return chip


def _is_box(text: str, command: CommandLine) -> bool:
    return box.is_box(text, "IX-ML", "Clock-SM") or "| IX-ML" in text or "|  IX-ML" in text


_HEADER = [
    ["GPU  Name", "Bus-Id", "Clock-SM  Clock-Mem"],
    ["Fan  Temp  Perf  Pwr:Usage/Cap", "Memory-Usage", "GPU-Util  Compute M."],
]


def _read_box(text: str, command: CommandLine, report: ToolReport) -> None:
    table = box.read_box(text, _HEADER)
    for line in table.banner:
        if banner := _BANNER.search(line):
            report.tool_version, report.driver_version = banner["tool"], banner["driver"]
    chips = []
    for record in table.records:
        chip = ChipReport()
        chip.index, chip.name = box.split_name(record)
        box.fill_common(chip, record, "GPU-Util")
        chips.append(chip)
    box.finish(table, chips, report)


_KEYS: fields.FieldMap = {
    "minor number": fields.INDEX,
    "product name": fields.NAME,
    "serial number": fields.SERIAL,
    "gpu uuid": fields.UUID,
    "memory usage/total": fields.MEMORY_TOTAL,
    "fb memory usage/total": fields.MEMORY_TOTAL,
    "memory usage/used": fields.MEMORY_USED,
    "fb memory usage/used": fields.MEMORY_USED,
    "utilization/gpu": fields.UTILIZATION,
    "ecc errors/single bit": fields.ECC_CORRECTED,
    "ecc errors/double bit": fields.ECC_UNCORRECTED,
    "temperature/gpu current temp": fields.TEMPERATURE,
    "temperature/memory current temp": fields.MEMORY_TEMPERATURE,
    "power readings/gpu power draw": fields.POWER,
    "power readings/power draw": fields.POWER,
    "power readings/current gpu power limit": fields.POWER_LIMIT,
    "power readings/power limit": fields.POWER_LIMIT,
}


_COLUMNS: fields.FieldMap = {
    **fields.NVIDIA_LIKE,
    "gpu.current.power.limit": fields.POWER_LIMIT,
}


def _is_log(text: str, command: CommandLine) -> bool:
    return listing.any_line(listing.heading_of(WORD), text)


def _read_log(text: str, command: CommandLine, report: ToolReport) -> None:
    attached = listing.read_log(text, WORD, _KEYS, report)
    if version := _LOG_VERSION.search(text):
        report.tool_version = identity(version["tool"])
    listing.note_count(attached, WORD, command, report, *ONE_CHIP)


def _is_list(text: str, command: CommandLine) -> bool:
    return listing.any_line(listing.entry_of(WORD), text)


def _read_list(text: str, command: CommandLine, report: ToolReport) -> None:
    listing.read_list(text, WORD, report)


def _is_query(text: str, command: CommandLine) -> bool:
    return command.has("--query-gpu") and bool(text.strip())


def _read_query(text: str, command: CommandLine, report: ToolReport) -> None:
    asked = (command.value("--query-gpu") or "").split(",")
    read_query(text, asked, _COLUMNS, report)


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"ixsmi"}),
    mark=re.compile(r"\bIX-ML:|<ixsmi_log|Iluvatar (?:BI|MR|TG)-"),
    layouts=(
        Layout(_is_xml, _read_xml),
        Layout(_is_box, _read_box),
        Layout(_is_log, _read_log),
        Layout(_is_list, _read_list),
        Layout(_is_query, _read_query),
        matrix_of("GPU"),
    ),
).reader()


class Iluvatar(ToolCollector):
    """Reads Iluvatar CoreX GPUs."""

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (
        # One chip of a board prints the power of both, so a chip without power is no gap.
        Plan(questions=(Question(argv=("ixsmi", "-q", "-x"), states=LOAD - {Metric.POWER}),)),
    )
    pci: ClassVar[PciPattern] = PciPattern(vendors=frozenset({"0x1e3e"}), classes=ACCELERATORS)
    folders: ClassVar[tuple[str, ...]] = ("/usr/local/corex/bin",)
    libraries: ClassVar[tuple[str, ...]] = ("/usr/local/corex/lib64", "/usr/local/corex/lib")
    trusts_serial: ClassVar[bool] = False
