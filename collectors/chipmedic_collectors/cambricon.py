"""Cambricon MLU: the reader of `cnmon`, and the collector that polls it.

Layouts: 1.16 to 4.x without addresses (the driver stands in each row), 5.x and 6.x with them.
"""

from __future__ import annotations

import re
from typing import ClassVar

from chipmedic.tool_report import ChipReport, ToolReader, ToolReport
from chipmedic_collectors.pci_bus import ACCELERATORS, PciPattern
from chipmedic_collectors.reading import box, cells, fields
from chipmedic_collectors.reading.blocks import read_blocks
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.fields import FieldMap
from chipmedic_collectors.reading.judging import note_silence
from chipmedic_collectors.reading.language import Language, Layout
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import LOAD
from chipmedic_collectors.values import identity, integer

VENDOR = "cambricon"
_BANNER = re.compile(r"CNMON\s+(?P<tool>v?\d\S*)(?:\s+Driver\s+(?P<driver>v?\d\S*))?")
_ROW = re.compile(r"(?P<card>\d{1,4})\s+/\S*\s+(?P<name>\S.*?)(?:\s+v\d[\d.]*)?\s*")
"""`0     /   MLU370-X8    v1.1.6`: card, virtual function, name, firmware."""
_CARD = re.compile(r"\s*Card\s+(?P<index>\d{1,4})\s*:?\s*$")
_KEYS: FieldMap = {
    "product name": fields.NAME,
    "uuid": fields.UUID,
    "sn": fields.SERIAL,
    "serial number": fields.SERIAL,
    "temperature/board": fields.TEMPERATURE,
    "temperature/chip": fields.TEMPERATURE,
    "board power/usage": fields.POWER,
    "power/usage": fields.POWER,
    "board power/cap": fields.POWER_LIMIT,
    "power/cap": fields.POWER_LIMIT,
    "utilization/mlu average": fields.UTILIZATION,
    "physical memory usage/used": fields.MEMORY_USED,
    "memory usage/used": fields.MEMORY_USED,
    "physical memory usage/total": fields.MEMORY_TOTAL,
    "memory usage/total": fields.MEMORY_TOTAL,
}


def _is_box(text: str, command: CommandLine) -> bool:
    return box.is_box(text, "CNMON", "vMemory-Usage", "Ecc-Error")


_HEADER = [
    ["Card  VF  Name  Firmware", "Bus-Id", "Util  Ecc-Error"],
    ["Fan  Temp  Pwr:Usage/Cap", "Memory-Usage", "Mode  Compute-Mode"],
]


def _read_box(text: str, command: CommandLine, report: ToolReport) -> None:
    table = box.read_box(text, _HEADER)
    for line in table.banner:
        if banner := _BANNER.search(line):
            report.tool_version, report.driver_version = banner["tool"], banner["driver"]
    chips = []
    for record in table.records:
        chip = ChipReport()
        if row := _ROW.fullmatch(record.cell("Name")):
            chip.index, chip.name = int(row["card"]), identity(row["name"])
        else:
            chip.index = integer((record.cell("Name").split() or [""])[0])
        box.fill_common(chip, record, "Util")
        words = record.cell("Ecc-Error").split()
        if len(words) > 1:
            chip.ecc_uncorrected_total = cells.counter(words[-1])
        in_row = record.cell("Driver").split()
        if in_row and report.driver_version is None:
            report.driver_version = identity(in_row[-1])
        chips.append(chip)
    box.finish(table, chips, report)


def _is_info(text: str, command: CommandLine) -> bool:
    return any(_CARD.match(line) for line in text.splitlines())


def _read_info(text: str, command: CommandLine, report: ToolReport) -> None:
    for block in read_blocks(text, _CARD):
        if block.heading is None:
            continue
        chip = ChipReport(index=int(block.heading["index"]))
        fields.fill(chip, block.pairs, _KEYS)
        report.driver_version = identity(block.value("driver")) or report.driver_version
        report.chips.append(chip)
        if not command.has("-t", "-l"):  # product names alone state no reading
            note_silence(report, chip)


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"cnmon"}),
    mark=re.compile(r"\|\s*CNMON\s+v?\d|\bMLU Memory Usage"),
    layouts=(Layout(_is_box, _read_box), Layout(_is_info, _read_info)),
).reader()


class Cambricon(ToolCollector):
    """Reads Cambricon MLUs."""

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (Plan(questions=(Question(argv=("cnmon",), states=LOAD),)),)
    pci: ClassVar[PciPattern] = PciPattern(vendors=frozenset({"0xcabc"}), classes=ACCELERATORS)
