"""What `xpu-smi` prints for people: boxes of two columns, lists of processes, topology."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.intel import facts
from chipmedic_collectors.reading import box, cells, fields
from chipmedic_collectors.reading.cells import counter
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.fields import split_unit
from chipmedic_collectors.reading.samples import Samples
from chipmedic_collectors.values import identity, integer, memory_bytes

_RULE = re.compile(r"\+[-=+]+\+")
_TILE = re.compile(r"Tile\s+\d+\s*:")
_TOTAL = re.compile(r"\btotal:\s*([^,;\s]+)")
_CURRENT = re.compile(r"\bcurrent:\s*([^,;\s]+)")
_TEXTS = (fields.NAME, fields.UUID, fields.SERIAL, fields.PCI)
_PROCESS = re.compile(
    r"\s*(?P<pid>\d{1,9})\s+(?P<name>\S.*?)\s+(?P<device>\d{1,4})\s+(?P<shared>\d+)\s+"
    r"(?P<memory>\d+)\s*$"
)
_GPU = re.compile(r"^\s*GPU (?P<device>\d{1,4})/(?P<tile>\d{1,3})\s*\|", re.MULTILINE)


_BANNER = re.compile(r"XPU-SMI v(?P<tool>\S+)\s+Driver:\s*(?P<driver>\S+)")
_SUMMARY_HEADER = [
    ["GPU  Name  Persistence-M", "Bus-Id  Disp.A", "Volatile Uncorr. ECC"],
    ["Fan  Temp  Pwr:Usage/Cap", "Memory-Usage", "GPU-Util  Compute M."],
]


def is_summary(text: str, command: CommandLine) -> bool:
    """Say whether this is what `xpu-smi` of 2.0 prints without arguments."""
    return box.is_box(text, "XPU-SMI", "GPU-Util") and not is_box(text, command)


def read_summary(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read the table in the manner of nvidia-smi.

    Its ECC column says whether ECC is on, and is wrong about it
    (https://github.com/intel/xpumanager/issues/169); it holds no count.
    """
    table = box.read_box(text, _SUMMARY_HEADER)
    for line in table.banner:
        if banner := _BANNER.search(line):
            report.tool_version = identity(banner["tool"])
            report.driver_version = identity(banner["driver"])
    chips = []
    for record in table.records:
        chip = ChipReport()
        chip.index, chip.name = box.split_name(record)
        box.fill_common(chip, record, "GPU-Util")
        chip.ecc_uncorrected_total = cells.counter(record.cell("ECC"))
        chips.append(chip)
    box.finish(table, chips, report)


def is_box(text: str, command: CommandLine) -> bool:
    """Say whether this is a box of two columns that begins with the device id."""
    return re.search(r"^\s*\|\s*Device ID\s*\|", text, re.MULTILINE) is not None


def read_box(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read discovery, health and stats: in two the id is a row, in one it is the left column."""
    samples = Samples(report)
    chip: ChipReport | None = None
    found: dict[int, list[tuple[str, str]]] = {}
    for left, right in _rows(text):
        if left.lower() == "device id":
            index = integer(right)
        elif left.isdecimal() and ":" in right:
            index = integer(left)
        else:
            index = None
        if index is not None:
            chip = samples.add(index, ChipReport(index=index))
        if chip is not None and chip.index is not None:
            found.setdefault(chip.index, []).append(_pair(left, right))
    for chip in report.chips:
        _fill(chip, found.get(chip.index or 0, []), report)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    bars = [line for line in lines if line[0] in "|+"]
    if not _RULE.fullmatch(bars[-1]):
        report.add_problem(ProblemKind.TRUNCATED, "the table stops before its closing line")
    elif not report.chips and not report.problems:
        report.add_problem(ProblemKind.NO_DEVICES, "the table names no device")


def _rows(text: str) -> Iterator[tuple[str, str]]:
    """Yield (left, right); a name that goes on in the next line is joined."""
    name = ""
    for left, right in _joined(text):
        if left.lower().endswith(" of") and right:
            name, value = left, right
            continue
        if name:
            yield f"{name} {left}", value
            name = ""
            continue
        yield left, right


def _joined(text: str) -> Iterator[tuple[str, str]]:
    """Yield (left, right) as printed; 2.x gives each further tile a line without a name."""
    last: tuple[str, str] | None = None
    for line in map(str.strip, text.splitlines()):
        if not line.startswith("|") or not line.endswith("|") or line.count("|") < 3:
            continue
        left, _, right = (part.strip() for part in line[1:-1].partition("|"))
        if last is not None and not left and _TILE.match(right):
            last = (last[0], f"{last[1]}, {right}")
            continue
        if last is not None:
            yield last
        last = (left, right)
    if last is not None:
        yield last


def _pair(left: str, right: str) -> tuple[str, str]:
    """Return name and value; in discovery and health both stand in the right column."""
    if (not left or left.isdecimal() or re.match(r"\d+\. ", left)) and ":" in right:
        name, _, value = right.partition(":")
        return name.strip(), value.strip()
    return left, right


def _fill(chip: ChipReport, pairs: list[tuple[str, str]], report: ToolReport) -> None:
    counts: dict[str, int] = {}
    states = []
    for printed, text in pairs:
        name, unit = split_unit(printed)
        if name == "status":
            states.append(text)
        elif name == "device state":
            states.append(facts.state_word(text))
        elif name == "driver version":
            report.driver_version = identity(text) or report.driver_version
        elif name in facts.CORRECTED or name in facts.UNCORRECTED:
            values = [counter(part) for part in _tiles(text)]
            known = [value for value in values if value is not None]
            if known:
                counts[name] = sum(known)
        elif (field := facts.FIELDS.get(name)) is not None:
            texts = [text] if field in _TEXTS else _tiles(text)
            facts.fill_or_combine(chip, field, texts, unit)
    chip.health = facts.health_of(states)
    chip.ecc_corrected_total = _sum(counts, facts.CORRECTED)
    chip.ecc_uncorrected_total = _sum(counts, facts.UNCORRECTED)
    facts.drop_redundant_ratio(chip)


def _tiles(text: str) -> list[str]:
    """Return the values of a cell, one per tile: `Tile 0: 12, Tile 1: 14`; a total stands for all.

    The daemon's tool adds statistics: `avg: 12, min: 0, max: 40, current: 14`, and totals.
    """
    if total := _TOTAL.search(text):
        return [total[1]]
    parts = _TILE.split(text)[1:] or [text]
    return [_value(part) for part in parts]


def _value(text: str) -> str:
    found = _CURRENT.search(text)
    return found[1] if found else text.strip(" ,;").removeprefix("avg:").split(",")[0].strip()


def _sum(counts: dict[str, int], names: tuple[str, ...]) -> int | None:
    known = [counts[name] for name in names if name in counts]
    return sum(known) if known else None


def is_process_list(text: str, command: CommandLine) -> bool:
    """Say whether this is the list that `ps` prints."""
    first = next((line.split() for line in text.splitlines() if line.strip()), [])
    return first[:1] == ["PID"] and "DeviceID" in first


def read_process_list(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `ps`: memory in kB. A host without processes has the headline alone."""
    samples = Samples(report)
    for row in filter(None, map(_PROCESS.match, text.splitlines()[1:])):
        index = int(row["device"])
        chip = samples.add(index, ChipReport(index=index))
        process = ProcessReport(
            int(row["pid"]), identity(row["name"]), memory_bytes(row["memory"], "kB")
        )
        chip.processes = [*(chip.processes or []), process]
    if not report.chips:
        report.add_problem(ProblemKind.PARTIAL, "no process is listed, so no device is named")


def is_topology(text: str, command: CommandLine) -> bool:
    """Say whether this is the matrix of `topology -m`."""
    return _GPU.search(text) is not None and "CPU Affinity" in text


def read_topology(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read which devices the matrix names."""
    samples = Samples(report)
    for row in _GPU.finditer(text):
        samples.add(row["device"], ChipReport(index=int(row["device"])))
