"""The table that plain `nvidia-smi` prints, in the layouts of the drivers 290 to 610.

A chip has two or three lines; the cells between the bars are the same in all widths. A chip's first
line is known by the PCI address in its second cell, so that an excerpt without header is read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReport
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.nvidia.smi_chips import Chips
from chipmedic_collectors.nvidia.smi_process_table import ProcessTable
from chipmedic_collectors.values import (
    identity,
    integer,
    is_placeholder,
    memory_bytes,
    normalise_pci,
    number,
)

_VERSIONS = re.compile(
    r"NVIDIA-SMI\s+(?P<tool>\d[\d.]*)(?:.*?(?:Driver|KMD) Version:\s*(?P<driver>\d[\d.]*))?"
)
_RULE = re.compile(r"[+|][-=+|]{10,}")
_INDEX = re.compile(r"(\d+)\\?\.?\s+(\S.*)")
_MODES = frozenset({"on", "off", "n/a", "err!", "tcc", "wddm", "mcdm", "enabled", "disabled"})
"""What ends the name's cell: persistence mode, or the driver model on Windows."""
_TEMPERATURE = re.compile(r"(?<!\S)(\d{1,3})\s?C(?!\S)")
_POWER = re.compile(r"(\S+)\s*/\s*(\S+)$")
_SIZES = re.compile(r"(\d+\s?[KMGT]i?B)\s*/\s*(\d+\s?[KMGT]i?B)")
_PERCENT = re.compile(r"(\d+)\s?%")
_VIRTUAL = re.compile(r"\bvGPU-Util\b")
"""In the heading of the table of virtual GPUs, whose rows have other cells."""

_Rows = list[list[str]]


@dataclass(slots=True)
class _Sample:
    """One printing of the table; `--loop` prints several."""

    tool_version: str | None = None
    driver_version: str | None = None
    chips: list[_Rows] = field(default_factory=list)
    processes: ProcessTable | None = None
    is_virtual: bool = False
    is_closed: bool = True


def is_table(text: str) -> bool:
    """Say whether this is the table or a piece of it."""
    lines = text.splitlines()
    return any((_VERSIONS.search(line) and "|" in line) or _starts_chip(line) for line in lines)


def read_table(text: str, report: ToolReport) -> None:
    """Read one or several tables into the report."""
    chips = Chips(report)
    samples = list(_samples(text))
    for sample in samples:
        report.tool_version = sample.tool_version or report.tool_version
        report.driver_version = sample.driver_version or report.driver_version
        read_chip = _host_of_virtual if sample.is_virtual else _chip
        found = [read_chip(rows, report) for rows in sample.chips]
        if sample.processes is not None:
            sample.processes.give_to(found)
        for chip in found:
            chips.add(chip)
    if samples[0].tool_version is None:
        report.add_problem(ProblemKind.PARTIAL, "the table's header is missing")
    last = samples[-1]
    is_header_only = not last.chips and last.processes is None
    least = 1 if last.is_virtual else 2
    if not last.is_closed or is_header_only or any(len(rows) < least for rows in last.chips):
        report.add_problem(ProblemKind.TRUNCATED, "the table stops before its closing line")
    elif last.processes is None and not last.is_virtual:
        report.add_problem(ProblemKind.PARTIAL, "the table of processes is missing")
    elif not report.chips:
        report.add_problem(ProblemKind.NO_DEVICES, "the table lists no GPU")


def _samples(text: str) -> Iterator[_Sample]:
    sample = _Sample()
    is_in_chip = False
    for line in map(str.strip, text.splitlines()):
        if versions := _VERSIONS.search(line):
            if sample.chips or sample.tool_version:
                yield sample
            sample = _Sample(versions["tool"], versions["driver"], is_closed=False)
        elif _RULE.fullmatch(line):
            is_in_chip = False
            sample.is_closed = "=" not in line and line.endswith(("+", "|"))
            if sample.processes is not None:
                sample.processes.read_rule(line)
        elif line.startswith("|"):
            sample.is_closed = False
            sample.is_virtual = sample.is_virtual or _VIRTUAL.search(line) is not None
            if ProcessTable.is_title(line):
                sample.processes = ProcessTable()
            elif sample.processes is not None:
                sample.processes.read_row(line)
            elif _starts_chip(line):
                sample.chips.append([_cells(line)])
                is_in_chip = True
            elif is_in_chip and len(_cells(line)) == len(sample.chips[-1][0]):
                sample.chips[-1].append(_cells(line))
    yield sample


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _starts_chip(line: str) -> bool:
    if not line.lstrip().startswith("|"):
        return False
    cells = _cells(line)
    if len(cells) < 2 or not cells[1] or not (title := _INDEX.fullmatch(cells[0])):
        return False
    bus_id = cells[1].split()[0]
    # A chip of Tegra has no address there; the numbers of a MIG slice are no name.
    is_nameless_place = is_placeholder(bus_id) and re.search(r"[A-Za-z]", title[2])
    return normalise_pci(bus_id) is not None or bool(is_nameless_place)


def _chip(rows: _Rows, report: ToolReport) -> ChipReport:
    identities, readings, modes = rows[0], (rows[1] if len(rows) > 1 else []), rows[2:]
    index, title = _split_index(identities[0])
    chip = ChipReport(index=index, name=_name(title), pci=normalise_pci(identities[1].split()[0]))
    errors = [facts.counter(word) for word in _cell(identities, 2).split()]
    if len(errors) == 2:  # until driver 295 the column was "Volatile ECC SB / DB"
        chip.ecc_corrected_total, chip.ecc_uncorrected_total = errors
    elif len(errors) == 1:
        chip.ecc_uncorrected_total = errors[0]
    _read_readings(readings, chip)
    # A fan that cannot be read is common where the board drives it, and says nothing of the chip.
    without_fan = _cell(readings, 0).partition(" ")[2]
    texts = [*identities, without_fan, *readings[1:], *(cell for row in modes for cell in row)]
    is_silent = chip.power_watts is None and chip.utilization_ratio is None
    facts.note_trouble(report, chip, facts.trouble_of(texts), is_silent=is_silent)
    return chip


def _host_of_virtual(rows: _Rows, report: ToolReport) -> ChipReport:
    """Read a row of the table of virtual GPUs; the rows below it are those of virtual machines."""
    del report
    index, title = _split_index(rows[0][0])
    chip = ChipReport(index=index, name=_name(title), pci=normalise_pci(rows[0][1].split()[0]))
    if percent := _PERCENT.search(_cell(rows[0], 2)):
        chip.utilization_ratio = facts.ratio_of_percent(percent[1])
    return chip


def _cell(cells: list[str], position: int) -> str:
    return cells[position] if position < len(cells) else ""


def _split_index(cell: str) -> tuple[int | None, str]:
    match = _INDEX.fullmatch(cell)
    return (integer(match[1]), match[2]) if match else (None, cell)


def _name(title: str) -> str | None:
    name, _, mode = title.rpartition(" ")
    return identity(name if name.strip() and mode.lower() in _MODES else title)


def _read_readings(cells: list[str], chip: ChipReport) -> None:
    state, memory, load = _cell(cells, 0), _cell(cells, 1), _cell(cells, 2)
    if temperature := _TEMPERATURE.search(state):
        chip.temperature_celsius = float(temperature[1])
    if power := _POWER.search(state):
        chip.power_watts, chip.power_limit_watts = number(power[1]), number(power[2])
    if sizes := _SIZES.search(memory):
        chip.memory_used_bytes, chip.memory_total_bytes = map(memory_bytes, sizes.groups())
    if percent := _PERCENT.search(load):
        chip.utilization_ratio = facts.ratio_of_percent(percent[1])
