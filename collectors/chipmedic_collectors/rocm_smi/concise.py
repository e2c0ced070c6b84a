"""The table that rocm-smi and hy-smi print without arguments: one row for each card.

Columns were added, renamed and moved between versions, so they are found by the header. Cells hold
blanks inside brackets and after commas only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReport
from chipmedic_collectors.rocm_smi.keys import mark_silent, model, positive, share
from chipmedic_collectors.values import integer, is_placeholder

_HEADER = re.compile(r"\s*(?:GPU|DCU|HCU|Device)\s+.*\bTemp\b.*(?:Pwr|Power)")
_GLUE = (
    (re.compile(r"\[([^\]]*)\]"), lambda m: "[" + m[1].replace(" ", "") + "]"),
    (re.compile(r",\s+"), lambda m: ","),
    (re.compile(r"\s*\([^)]*\)"), lambda m: ""),
    (re.compile(r"\b([SM]CLK) OD\b"), lambda m: f"{m[1]}_OD"),
)
_RULE = re.compile(r"\s*[=_-]{10,}\s*")
_END = re.compile(r"End of (?:ROCm )?SMI Log")
_ROW = re.compile(r"\s*\d{1,4}\s+\S")
_NAME_ROW = re.compile(r"\s{4,}(?P<name>\S.*?)\s*$")
_SECOND_HEADER = re.compile(r"^\s*(?:Name \(|\()")


def is_concise(text: str) -> bool:
    """Say whether the text has the header of the table."""
    return any(_HEADER.match(line) for line in text.splitlines())


@dataclass(slots=True)
class _Table:
    header: str
    columns: list[str]
    rows: list[tuple[str, str]]
    """(row, the line below it where that is no row)."""
    is_closed: bool


def read_concise(text: str, report: ToolReport) -> None:
    """Add the rows of the table to `report`."""
    table = _find(text)
    for position, (line, below) in enumerate(table.rows):
        cells = _split(line)
        if len(cells) != len(table.columns):
            is_last = position == len(table.rows) - 1 and not table.is_closed
            kind = ProblemKind.TRUNCATED if is_last else ProblemKind.PARTIAL
            report.add_problem(kind, f"{len(cells)} cells in a row of {len(table.columns)}: {line}")
            if is_last:
                cells = cells[:-1]  # its last number may have lost digits
        _add(dict(zip(table.columns, cells, strict=False)), below, report)
    if not table.is_closed:
        report.add_problem(ProblemKind.TRUNCATED, "the table stops before its end")
    elif not table.rows:
        report.add_problem(ProblemKind.NO_DEVICES, "the table has no rows")


def _find(text: str) -> _Table:
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if _HEADER.match(line))
    table = _Table(lines[at], _split(lines[at]), [], is_closed=False)
    for number, line in enumerate(lines[at + 1 :], at + 1):
        if _ROW.match(line):
            below = lines[number + 1] if number + 1 < len(lines) else ""
            table.rows.append((line, "" if _ROW.match(below) else below))
        elif _END.search(line) or (_RULE.fullmatch(line) and table.rows):
            table.is_closed = True
            break
    return table


def _split(line: str) -> list[str]:
    for pattern, glued in _GLUE:
        line = pattern.sub(glued, line)
    return line.split()


def _add(row: dict[str, str], below: str, report: ToolReport) -> None:
    def cell(*names: str) -> str:
        return next((row[name] for name in names if name in row), "")

    chip = ChipReport(
        index=integer(cell("GPU", "DCU", "HCU", "Device")),
        temperature_celsius=positive(cell("Temp").replace("°", " ")),
        power_watts=positive(cell("AvgPwr", "Power")),
        power_limit_watts=positive(cell("PwrCap")),
        utilization_ratio=share(cell("GPU%", "DCU%", "HCU%")),
        memory_used_ratio=share(cell("VRAM%")),
    )
    name = _NAME_ROW.fullmatch(below)
    if "[Model:Revision]" in row and name and not _RULE.fullmatch(below):
        chip.name = model(name["name"])
    report.chips.append(chip)
    is_silent = chip.temperature_celsius is None and chip.power_watts is None
    if is_silent and not _is_partition(row):
        mark_silent(chip, report)


def _is_partition(row: dict[str, str]) -> bool:
    """Say whether a row is a further partition of a chip, which shares the sensors of the first."""
    partition = row.get("Partitions", "").split(",")
    number = integer(partition[2]) if len(partition) == 3 else None
    return bool(number) and not is_placeholder(partition[1])
