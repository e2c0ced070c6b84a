"""MetaX: the reader of `mx-smi`, and the collector that polls it.

Moffett ships a tool called `mx-smi` too; this one begins with `mx-smi  version:` and a box. MetaX
sells cards under the name Mars as well, whose tool is called `ht-smi` and prints the same.
"""

from __future__ import annotations

import re
from typing import ClassVar

from chipmedic import Metric
from chipmedic.tool_report import ChipReport, Health, ProblemKind, ToolReader, ToolReport
from chipmedic_collectors.pci_bus import ACCELERATORS, PciPattern
from chipmedic_collectors.reading import box, fields
from chipmedic_collectors.reading.blocks import Block, read_blocks
from chipmedic_collectors.reading.cells import counter
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.fields import FieldMap
from chipmedic_collectors.reading.judging import label, mark_lost, worsen
from chipmedic_collectors.reading.language import Language, Layout, sentence
from chipmedic_collectors.reading.topology import matrix_of
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import LOAD
from chipmedic_collectors.values import identity, integer, normalise_pci, number

VENDOR = "metax"
_BANNER = re.compile(r"(?P<whose>(?:MX|HT)-SMI|Kernel Mode Driver Version:)\s*(?P<version>[^\s|]+)")
_VERSION = re.compile(r"^\s*(?:mx|ht)-smi\s+version:\s*(\S+)", re.MULTILINE)
_ATTACHED = re.compile(r"^\s*Attached GPUs\s*:\s*(\d{1,4})\b", re.MULTILINE)
_GPU = re.compile(
    r"\s*GPU#(?P<index>\d{1,4})\s+"
    r"(?P<name>\S+ \S+(?=\s{2,}|\s*$|\s[0-9A-Fa-f:]+\.[0-7])|\S+)"
    r"(?:\s+(?P<pci>[0-9A-Fa-f:]+\.[0-7]))?(?P<rest>.*)$"
)
_UUID = re.compile(r"\(UUID:\s*([^)]+)\)")
_KEYS: FieldMap = {
    "memory/vram total": fields.MEMORY_TOTAL,
    "memory/vram used": fields.MEMORY_USED,
    "memory/vis_vram total": fields.MEMORY_TOTAL,
    "memory/vis_vram used": fields.MEMORY_USED,
    "utilization/gpu": fields.UTILIZATION,
    "board power(w)/total": fields.POWER,
    "board power/total": fields.POWER,
    "pcba serial number": fields.SERIAL,
    "serial number": fields.SERIAL,
}


def _judge(report: ToolReport, chip: ChipReport, state: str, *, has_readings: bool) -> None:
    """Judge by the state word; a card that is only listed, as not available, is lost."""
    bare = state.strip().lower()
    if bare == "available":
        worsen(chip, Health.OK)
    elif "not available" in bare or "unavailable" in bare or "accessible" in bare:
        if has_readings:
            worsen(chip, Health.CRITICAL)
            report.add_problem(ProblemKind.PARTIAL, f"{label(chip)}: {state.strip()}")
        else:
            mark_lost(report, chip, state.strip())
    elif bare:
        worsen(chip, Health.UNKNOWN)


def _is_box(text: str, command: CommandLine) -> bool:
    return box.is_box(text, "MX-SMI", "HT-SMI", "GPU-State", "sGPU-M")


_HEADER = [
    ["GPU  NAME  Persistence-M", "Bus-id", "GPU-Util  sGPU-M"],
    ["Temp  Pwr:Usage/Cap  Perf", "Memory-Usage", "GPU-State"],
]


def _read_box(text: str, command: CommandLine, report: ToolReport) -> None:
    table = box.read_box(text, _HEADER)
    for line in table.banner:
        for banner in _BANNER.finditer(line):
            if banner["whose"].endswith("-SMI"):
                report.tool_version = identity(banner["version"])
            else:
                report.driver_version = identity(banner["version"])
    chips = []
    for record in table.records:
        chip = ChipReport()
        chip.index, chip.name = box.split_name(record)
        if record.place("Board") is not None:  # the first number is the board's
            chip.index = integer((record.cell("GPU").split() or [""])[0])
        box.fill_common(chip, record, "GPU-Util")
        has_readings = chip.temperature_celsius is not None
        _judge(report, chip, record.cell("GPU-State"), has_readings=has_readings)
        chips.append(chip)
    box.finish(table, chips, report)
    _note_count(text, command, report)


def _note_count(text: str, command: CommandLine, report: ToolReport) -> None:
    attached = _ATTACHED.search(text)
    count, listed = int(attached[1]) if attached else 0, len(report.chips)
    if count > listed and not command.has("-i", "--device"):
        report.add_problem(ProblemKind.PARTIAL, f"{count} GPUs attached, {listed} listed")


def _is_list(text: str, command: CommandLine) -> bool:
    return any(_GPU.match(line) for line in text.splitlines())


def _read_list(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-L` and the `--show-…` blocks: one headline per GPU."""
    if version := _VERSION.search(text):
        report.tool_version = identity(version[1])
    for block in read_blocks(text, _GPU):
        if block.heading is None:
            report.driver_version = identity(block.value("kmd version"))
            continue
        chip = ChipReport(
            index=int(block.heading["index"]),
            name=identity(block.heading["name"]),
            pci=normalise_pci(block.heading["pci"] or ""),
        )
        state, uuid = block.heading["rest"], _UUID.search(block.heading["rest"])
        chip.uuid = identity(uuid[1]) if uuid else None
        fields.fill(chip, block.pairs, _KEYS)
        _fill_sensors(chip, block)
        report.chips.append(chip)
        words = _UUID.sub("", state).strip()
        start = re.search(r"\b(?:not |un)?available.*", words, re.IGNORECASE)
        has_readings = chip.temperature_celsius is not None or chip.memory_used_bytes is not None
        _judge(report, chip, start[0] if start else "", has_readings=has_readings)
    _note_count(text, command, report)


def _fill_sensors(chip: ChipReport, block: Block) -> None:
    """Hot spots are numbered differently on each card; error counters stand in sections."""
    hot = [number(value) for key, value in block.pairs if key.startswith("hotspot")]
    temperatures = [value for value in hot if value is not None]
    chip.temperature_celsius = max(temperatures, default=None)
    corrected = [counter(v) for k, v in block.pairs if re.match(r"ecc errors/.*\bcorrect", k)]
    uncorrected = [counter(v) for k, v in block.pairs if re.match(r"ecc errors/.*uncorrect", k)]
    retired = [counter(v) for k, v in block.pairs if k.startswith("retired pages/")]
    chip.ecc_corrected_total = _total(corrected)
    chip.ecc_uncorrected_total = _total(uncorrected)
    chip.retired_pages = _total(retired)


def _total(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"mx-smi", "ht-smi"}),
    mark=re.compile(
        r"(?:MX|HT)-SMI\s+\d|(?:MetaX|Mars) System Management|^(?:mx|ht)-smi\s+version:|\bMXC\d",
        re.MULTILINE,
    ),
    version=_VERSION,
    layouts=(Layout(_is_box, _read_box), Layout(_is_list, _read_list), matrix_of("GPU")),
    sentences=(sentence(ProblemKind.DRIVER_DOWN, r"libmxsml|metax.*driver.*(?:not|fail)"),),
).reader()


class MetaX(ToolCollector):
    """Reads MetaX GPUs."""

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (
        Plan(
            questions=(
                Question(argv=("mx-smi",), states=LOAD | {Metric.HEALTH}),
                Question(argv=("mx-smi", "-L"), every_seconds=600.0, names_chips=True),
                # The list still names a card that the table leaves out, with the reason.
                Question(argv=("mx-smi", "-L"), every_seconds=60.0),
                Question(argv=("mx-smi", "--count-ecc"), every_seconds=60.0),
            )
        ),
    )
    pci: ClassVar[PciPattern] = PciPattern(vendors=frozenset({"0x9999"}), classes=ACCELERATORS)
    folders: ClassVar[tuple[str, ...]] = ("/opt/mxdriver/bin",)
