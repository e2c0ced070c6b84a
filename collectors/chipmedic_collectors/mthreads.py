"""Moore Threads: the reader of `mthreads-gmi`, and the collector that polls it.

Three lines per card under three header lines, bars between the columns only. Memory is printed as
`used(total)`; no power anywhere in the table.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from chipmedic import Metric
from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReader, ToolReport
from chipmedic_collectors.pci_bus import ACCELERATORS, PciPattern
from chipmedic_collectors.reading import cells, fields
from chipmedic_collectors.reading.blocks import read_blocks
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.fields import FieldMap
from chipmedic_collectors.reading.json_text import first_document, has_json
from chipmedic_collectors.reading.judging import note_silence
from chipmedic_collectors.reading.language import Language, Layout
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import LOAD
from chipmedic_collectors.values import identity, integer, memory_bytes, normalise_pci

VENDOR = "mthreads"
_BANNER = re.compile(r"mthreads-gmi:\s*(?P<tool>\S+)(?:\s+Driver Version:\s*(?P<driver>\S+))?")
_CARD = re.compile(r"(?P<index>\d{1,4})\s+(?P<name>[^|]*\S)\s*\|(?P<pci>[^|]*)\|(?P<load>.*)")
_MEMORY = re.compile(r"(?P<used>\d{1,15}\s?[A-Za-z]*)\s*\((?P<total>\d{1,15}\s?[A-Za-z]*)\)")
_PROCESS = re.compile(
    r"\s*(?P<card>\d{1,4})\s+(?P<pid>\d{1,9})\s+(?P<name>\S.*?)\s+(?P<memory>\d+\s?[KMG]i?B|N/A)\s*"
)
_RULE = re.compile(r"\+?-{10,}\+?")
_GPU = re.compile(r"\s*(?:GPU\s*(?P<index>\d{1,4})?\s*:?\s*(?P<pci>[0-9A-Fa-f:]+\.[0-7])?)\s*$")
_KEYS: FieldMap = {
    "index": fields.INDEX,
    "product name": fields.NAME,
    "gpu uuid": fields.UUID,
    "serial number": fields.SERIAL,
    "bus id": fields.PCI,
    "pci/bus id": fields.PCI,
    "fb memory usage/total": fields.MEMORY_TOTAL,
    "fb memory usage/used": fields.MEMORY_USED,
    "utilization/gpu": fields.UTILIZATION,
    "temperature/gpu current temp": fields.TEMPERATURE,
    "power readings/power draw": fields.POWER,
    "power readings/current power limit": fields.POWER_LIMIT,
}


def _is_table(text: str, command: CommandLine) -> bool:
    return _BANNER.search(text) is not None or any(map(_CARD.match, text.splitlines()))


def _read_table(text: str, command: CommandLine, report: ToolReport) -> None:
    if banner := _BANNER.search(text):
        report.tool_version, report.driver_version = (
            banner["tool"],
            identity(banner["driver"] or ""),
        )
    cards, _, below = text.partition("Processes:")
    chip: ChipReport | None = None
    is_whole = True
    for line in map(str.rstrip, cards.splitlines()):
        bars = line.split("|")
        if card := _CARD.match(line):
            chip = _card(card)
            report.chips.append(chip)
            is_whole = False
        elif chip is not None and len(bars) > 2 and chip.temperature_celsius is None:
            chip.temperature_celsius = cells.temperature(bars[2])
        elif line and _RULE.fullmatch(line.strip()):
            is_whole = True
    for one in report.chips:
        note_silence(report, one)
    has_end = bool(below) and _read_processes(below, report)
    _judge(report, has_processes=has_end, is_whole=is_whole, has_title=bool(below))


def _judge(report: ToolReport, *, has_processes: bool, is_whole: bool, has_title: bool) -> None:
    if not is_whole or (has_title and not has_processes) or not (report.chips or has_title):
        report.add_problem(ProblemKind.TRUNCATED, "the table stops before its closing line")
    elif not report.chips:
        report.add_problem(ProblemKind.NO_DEVICES, "the table lists no card")
    elif not has_processes:
        report.add_problem(ProblemKind.PARTIAL, "the table of processes is missing")


def _card(row: re.Match[str]) -> ChipReport:
    chip = ChipReport(
        index=int(row["index"]),
        name=identity(row["name"]),
        pci=normalise_pci(row["pci"]),
        utilization_ratio=cells.percent(row["load"]),
    )
    if memory := _MEMORY.search(row["load"]):
        chip.memory_used_bytes = memory_bytes(memory["used"])
        chip.memory_total_bytes = memory_bytes(memory["total"])
    return chip


def _read_processes(text: str, report: ToolReport) -> bool:
    """Give the cards their processes; return whether the table was printed to its end."""
    found: dict[int, list[ProcessReport]] = {}
    rules = 0
    for line in text.splitlines():
        if _RULE.fullmatch(line.strip()):
            rules += 1
        elif row := _PROCESS.fullmatch(line):
            process = ProcessReport(
                int(row["pid"]), identity(row["name"]), memory_bytes(row["memory"])
            )
            found.setdefault(int(row["card"]), []).append(process)
    is_whole = rules > 1
    for chip in report.chips:
        if chip.index in found:
            chip.processes = found[chip.index]
        elif is_whole:
            chip.processes = []
    return is_whole


def _is_json(text: str, command: CommandLine) -> bool:
    return has_json(text)


def _read_json(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-q -j`: keys as in the text form, some with blanks around them."""
    try:
        answer = first_document(text)
    except ValueError as e:
        report.add_problem(ProblemKind.TRUNCATED, f"the JSON is not whole: {e}")
        return
    answer = answer if isinstance(answer, dict) else {}
    report.driver_version = identity(str(answer.get("Driver Version", "")))
    gpus = answer.get("GPU")
    for gpu in gpus if isinstance(gpus, list) else []:
        if isinstance(gpu, dict):
            _add(list(_flat(gpu)), ChipReport(), report)
    if not report.chips:
        report.add_problem(ProblemKind.NO_DEVICES, "the JSON lists no GPU")


def _flat(section: dict[str, Any], path: str = "") -> list[tuple[str, str]]:
    pairs = []
    for key, value in section.items():
        name = f"{path}{str(key).strip().lower()}"
        if isinstance(value, dict) and not path:
            pairs += _flat(value, f"{name}/")
        elif isinstance(value, str | int | float):
            pairs.append((name, str(value)))
    return pairs


def _add(pairs: list[tuple[str, str]], chip: ChipReport, report: ToolReport) -> None:
    fields.fill(chip, pairs, _KEYS)
    report.chips.append(chip)


def _is_query(text: str, command: CommandLine) -> bool:
    return "Product Name" in text and re.search(r"^\s*GPU\b", text, re.MULTILINE) is not None


def _read_query(text: str, command: CommandLine, report: ToolReport) -> None:
    for block in read_blocks(text, _GPU):
        if block.heading is None:
            report.driver_version = identity(block.value("driver version"))
            continue
        if block.pairs:
            index, pci = block.heading["index"], block.heading["pci"]
            chip = ChipReport(index=integer(index or ""), pci=normalise_pci(pci or ""))
            _add(block.pairs, chip, report)


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"mthreads-gmi"}),
    mark=re.compile(r"mthreads-gmi:\s*\d|\bMTT S\d|MTBios Version"),
    layouts=(
        Layout(_is_json, _read_json),
        Layout(_is_table, _read_table),
        Layout(_is_query, _read_query),
    ),
).reader()


class MooreThreads(ToolCollector):
    """Reads Moore Threads GPUs."""

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (
        Plan(questions=(Question(argv=("mthreads-gmi",), states=LOAD - {Metric.POWER}),)),
    )
    pci: ClassVar[PciPattern] = PciPattern(vendors=frozenset({"0x1ed5"}), classes=ACCELERATORS)
