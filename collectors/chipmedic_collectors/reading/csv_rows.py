"""Answers in CSV: the columns are named by the header, or by the arguments where there is none."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReport
from chipmedic_collectors.reading.fields import FieldMap, fill, note_driver, split_unit
from chipmedic_collectors.reading.judging import note_silence
from chipmedic_collectors.reading.samples import Samples

Pairs = list[tuple[str, str]]
"""One row: (column as printed, with its unit; cell)."""


_IDENTITIES_ONLY = 4
"""A question for so few columns is for identities or counters and states no reading."""


def is_csv(text: str, known: FieldMap) -> bool:
    """Say whether the first line with commas names at least two columns that are known."""
    first = next((line for line in text.splitlines() if "," in line), "")
    return len(_known(_cells(first), known)) > 1


def read_rows(
    text: str, asked: Sequence[str], known: FieldMap, report: ToolReport
) -> Iterator[Pairs]:
    """Yield the rows; one of another width is said and costs no other chip its values."""
    columns = [name for name in asked if name.strip()]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for position, line in enumerate(lines):
        cells = _cells(line)
        if _is_header(cells, columns, known):
            columns = cells
            continue
        if len(cells) == len(columns) + 1 and not cells[-1]:
            cells = cells[:-1]  # some versions end each row with a comma
        if columns and len(cells) == len(columns):
            yield list(zip(columns, cells, strict=True))
        elif columns and len(cells) > 1:
            is_cut = position == len(lines) - 1 and len(cells) < len(columns)
            kind = ProblemKind.TRUNCATED if is_cut else ProblemKind.MALFORMED
            report.add_problem(kind, f"{len(cells)} cells for {len(columns)} columns: {line}")


def read_query(text: str, asked: Sequence[str], known: FieldMap, report: ToolReport) -> None:
    """Read one chip per row into the report; repeated rows bring it up to date."""
    samples = Samples(report)
    for row in read_rows(text, asked, known, report):
        chip = ChipReport()
        fill(chip, row, known)
        note_driver(report, row)
        if chip == ChipReport():
            continue  # no cell of it is a value
        chip = samples.add(chip.pci or chip.uuid or chip.index, chip)
        if len(row) > _IDENTITIES_ONLY:
            note_silence(report, chip)


def _cells(line: str) -> list[str]:
    try:
        rows = list(csv.reader([line], skipinitialspace=True))
    except csv.Error:
        return line.split(",")
    return [cell.strip() for cell in rows[0]] if rows else []


def _is_header(cells: list[str], columns: list[str], known: FieldMap) -> bool:
    """A header names the columns as asked, or several that are known; no value looks like one."""
    names = [split_unit(cell)[0] for cell in cells]
    if names == [split_unit(column)[0] for column in columns]:
        return True
    return len(_known(cells, known)) > (1 if columns else 0)


def _known(cells: list[str], known: FieldMap) -> set[str]:
    return {name for name, _ in map(split_unit, cells)} & known.keys()
