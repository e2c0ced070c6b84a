"""The scrolling answers of `nvidia-smi dmon` and `pmon`: columns below a header after a `#`."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.nvidia.smi_chips import Chips
from chipmedic_collectors.values import identity, integer, memory_bytes, number, process_id

_HEADER = re.compile(r"#.*\bgpu\b", re.IGNORECASE)
_PROGRAM = frozenset({"command", "name"})


def is_monitor(text: str) -> bool:
    """Say whether this is the output of `dmon` or `pmon`."""
    return any(_HEADER.match(line.strip()) for line in text.splitlines())


def read_monitor(text: str, report: ToolReport) -> None:
    """Read the samples; a chip has the values of its last one."""
    chips = Chips(report)
    columns: list[str] = []
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for position, line in enumerate(lines):
        if _HEADER.match(line):
            columns = _words(line.lstrip("# "))
            columns = [column.lower().lstrip("#") for column in columns]
            continue
        if line.startswith("#") or not columns:
            continue
        cells = _words(line)
        if len(cells) > len(columns) and columns[-1] in _PROGRAM:
            last = len(columns) - 1
            cells = [*cells[:last], " ".join(cells[last:])]
        if len(cells) == len(columns):
            _read_row(dict(zip(columns, cells, strict=True)), chips, report)
        elif position == len(lines) - 1 and len(cells) < len(columns):
            report.add_problem(ProblemKind.TRUNCATED, f"the last row is cut: {line}")


def _words(line: str) -> list[str]:
    separator = "," if "," in line else None
    return [word.strip() for word in line.split(separator)]


def _read_row(row: dict[str, str], chips: Chips, report: ToolReport) -> None:
    index = integer(row["gpu"]) if "gpu" in row else None
    if index is None:
        return
    if "pid" in row:
        _read_process(row, chips.add(ChipReport(index=index)))
        return
    chip = ChipReport(
        index=index,
        power_watts=number(row.get("pwr", "")),
        temperature_celsius=number(row.get("gtemp", row.get("temp", ""))),
        memory_temperature_celsius=number(row.get("mtemp", "")),
        utilization_ratio=facts.ratio_of_percent(row.get("sm", "")),
        memory_used_bytes=memory_bytes(row.get("fb", "")),
        ecc_corrected_total=facts.counter(row.get("sbecc", "")),
        ecc_uncorrected_total=facts.counter(row.get("dbecc", "")),
    )
    trouble = facts.trouble_of(row.values())
    facts.note_trouble(report, chip, trouble, is_silent=not facts.has_reading(chip))
    chips.add(chip)


def _read_process(row: dict[str, str], chip: ChipReport) -> None:
    chip.processes = chip.processes or []
    pid = process_id(row["pid"])
    if pid is None:
        return
    name = identity(row.get("command", row.get("name", "")))
    process = ProcessReport(pid, name, memory_bytes(row.get("fb", "")))
    chip.processes = [*(one for one in chip.processes if one.pid != pid), process]
