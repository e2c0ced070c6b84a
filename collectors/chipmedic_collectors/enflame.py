"""Enflame GCU: the reader of `efsmi`, and the collector that polls it.

ECC makes the visible memory smaller (49120 to 42976 MiB): that is no loss. An address has a domain
of two digits (`00:2d:00.0`).
"""

from __future__ import annotations

import re
from typing import ClassVar

from chipmedic import Metric
from chipmedic.tool_report import ChipReport, Health, ProblemKind, ToolReader, ToolReport
from chipmedic_collectors.pci_bus import ACCELERATORS, PciPattern
from chipmedic_collectors.reading import box, cells, fields
from chipmedic_collectors.reading.blocks import read_blocks
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.fields import FieldMap
from chipmedic_collectors.reading.json_text import first_document, has_json
from chipmedic_collectors.reading.judging import note_silence, worsen
from chipmedic_collectors.reading.language import Language, Layout
from chipmedic_collectors.reading.samples import Samples
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import LOAD
from chipmedic_collectors.values import identity, integer, memory_bytes, normalise_pci, number

VENDOR = "enflame"
_BANNER = re.compile(r"EFSMI:?\s+(?P<tool>\S+)\s+Driver Ver:\s*(?P<driver>[^\s|]+)")
_SIZE = re.compile(r"(\d+)\s?([KMG]i?B)")
_DEVICE = re.compile(r"\s*DEV ID\s+(?P<index>\d{1,4})\s*$")
_KEYS: FieldMap = {
    "dev name": fields.NAME,
    "dev uuid": fields.UUID,
    "dev sn": fields.SERIAL,
    "power info/cur power": fields.POWER,
    "power info/power capa": fields.POWER_LIMIT,
    "cur power": fields.POWER,
    "power capa": fields.POWER_LIMIT,
    "gcu temp": fields.TEMPERATURE,
    "gcu usage": fields.UTILIZATION,
    "total size": fields.MEMORY_TOTAL,
    "mem size": fields.MEMORY_TOTAL,
    "used size": fields.MEMORY_USED,
    "mem usage": fields.MEMORY_USED,
    "rma info/total dbe": fields.ECC_UNCORRECTED,
    "rma info/dbe": fields.ECC_UNCORRECTED,
}
_MONITOR: FieldMap = {
    "dev": fields.INDEX,
    "pwr": fields.POWER,
    "dtemp": fields.TEMPERATURE,
    "dused": fields.UTILIZATION,
    "mused": fields.MEMORY_USED_RATIO,
    "mem": fields.MEMORY_TOTAL,
}


def _is_box(text: str, command: CommandLine) -> bool:
    return box.is_box(text, "BUS-ID", "EFSMI") and "EFSMI" in text.upper()


_HEADER = [
    ["DEV  NAME", "FW VER", "BUS-ID  ECC"],
    ["TEMP  Dpm  Pwr(Usage/Cap)", "Mem  GCU Virt", "DUsed  SN"],
]


def _read_box(text: str, command: CommandLine, report: ToolReport) -> None:
    table = box.read_box(text, _HEADER)
    for line in table.banner:
        if banner := _BANNER.search(line):
            report.tool_version = identity(banner["tool"].lstrip("vV"))
            report.driver_version = identity(banner["driver"])
    chips = []
    for record in table.records:
        chip = ChipReport()
        chip.index, chip.name = box.split_name(record)
        chip.pci = normalise_pci((record.cell("BUS-ID").split() or [""])[0])
        _fill_second_line(chip, record)
        chips.append(chip)
    box.finish(table, chips, report, has_processes=False)


def _fill_second_line(chip: ChipReport, record: box.Record) -> None:
    state, memory, load = record.cell("TEMP"), record.cell("Mem"), record.cell("DUsed")
    first = (state.split() or [""])[0]
    if (celsius := cells.temperature(state)) is None:
        celsius = number(first)  # one version prints no unit
    chip.temperature_celsius = celsius
    chip.power_watts, chip.power_limit_watts = cells.powers(state)
    if size := _SIZE.search(memory):
        chip.memory_total_bytes = memory_bytes(size[0])
    chip.utilization_ratio = cells.percent(load)
    words = load.split()
    if len(words) > 1:
        chip.serial = identity(words[-1])


def _monitor_header(text: str) -> list[str]:
    line = next((line for line in text.splitlines() if line.startswith("*Dev")), "")
    return line.lstrip("*").split()


def _is_monitor(text: str, command: CommandLine) -> bool:
    return bool(_monitor_header(text))


def _read_monitor(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `dmon`: `MUsed` is a share of `Mem`, which is the total."""
    header = _monitor_header(text)
    samples = Samples(report)
    for line in text.splitlines():
        row = line.split()
        if not row or not row[0].isdecimal():
            continue
        if len(row) != len(header):
            report.add_problem(
                ProblemKind.TRUNCATED, f"{len(row)} cells for {len(header)} columns: {line.strip()}"
            )
        chip = ChipReport()
        fields.fill(chip, zip(header, row, strict=False), _MONITOR)
        note_silence(report, samples.add(chip.index, chip))
    if not report.chips:
        report.add_problem(ProblemKind.NO_DEVICES, "no device is listed")


def _is_query(text: str, command: CommandLine) -> bool:
    return any(_DEVICE.match(line) for line in text.splitlines())


def _read_query(text: str, command: CommandLine, report: ToolReport) -> None:
    for block in read_blocks(text, _DEVICE):
        if block.heading is not None:
            _add_device(int(block.heading["index"]), block.pairs, report)


def _add_device(index: int, pairs: list[tuple[str, str]], report: ToolReport) -> None:
    values = dict(reversed(pairs))
    chip = ChipReport(index=index)
    fields.fill(chip, pairs, _KEYS)
    place = [values.get(f"pcie info/{part}", "") for part in ("domain", "bus", "dev", "func")]
    chip.pci = normalise_pci("{}:{}:{}.{}".format(*place))
    report.driver_version = identity(values.get("driver info/ver", "")) or report.driver_version
    if health := values.get("health", ""):
        states = {"true": Health.OK, "false": Health.CRITICAL}
        worsen(chip, states.get(health.lower(), Health.UNKNOWN))
    if values.get("rma info/flags", "").lower() == "true":
        worsen(chip, Health.CRITICAL)
    report.chips.append(chip)


def _is_json(text: str, command: CommandLine) -> bool:
    return has_json(text)


def _read_json(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `--json-format`: the keys of `-q`, in sections."""
    try:
        answer = first_document(text)
    except ValueError as e:
        report.add_problem(ProblemKind.TRUNCATED, f"the JSON is not whole: {e}")
        return
    answer = answer if isinstance(answer, dict) else {}
    devices = answer.get("devices")
    for device in devices if isinstance(devices, list) else []:
        index = integer(str(device.get("id", ""))) if isinstance(device, dict) else None
        if index is None:
            continue
        pairs = []
        for section, values in device.items():
            for key, value in values.items() if isinstance(values, dict) else []:
                name = str(key).strip().lower()
                pairs += [(name, str(value)), (f"{str(section).lower()}/{name}", str(value))]
        _add_device(index, pairs, report)
    if not report.chips:
        report.add_problem(ProblemKind.NO_DEVICES, "the JSON lists no device")


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"efsmi"}),
    mark=re.compile(r"Enflame System Management|EFSMI:?\s+V?\d"),
    layouts=(
        Layout(_is_json, _read_json),
        Layout(_is_box, _read_box),
        Layout(_is_monitor, _read_monitor),
        Layout(_is_query, _read_query),
    ),
).reader()


class Enflame(ToolCollector):
    """Reads Enflame GCUs."""

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (
        Plan(
            questions=(
                Question(argv=("efsmi",), states=LOAD - {Metric.MEMORY_USED}),
                Question(
                    argv=("efsmi", "-q"),
                    every_seconds=60.0,
                    timeout_seconds=15.0,
                    states=frozenset({Metric.MEMORY_USED}),
                ),
            )
        ),
    )
    pci: ClassVar[PciPattern] = PciPattern(vendors=frozenset({"0x1e36"}), classes=ACCELERATORS)
