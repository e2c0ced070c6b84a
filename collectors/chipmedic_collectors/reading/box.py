"""Tables between bars, as nvidia-smi prints them and half a dozen vendors after it.

A chip has two or three lines, a rule ends it; what a cell means follows from the header line above
it, never from a position: vendors move, rename and drop columns between versions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.reading import cells
from chipmedic_collectors.reading.judging import note_silence
from chipmedic_collectors.values import identity, integer, memory_bytes, normalise_pci

_RULE = re.compile(r"[+|]?[-=+|]{10,}")
_FIRST_CELL = re.compile(r"\d{1,4}\s+\S.*")
_PROCESS_TITLE = re.compile(r"\|\s*(?:\w+ )?process(?:es)?\s*:", re.IGNORECASE)
_PROCESS = re.compile(
    r"(?P<chip>\d{1,4})\s+(?:(?:N/?A|/\d*|-)\s+)*(?P<pid>\d{1,9})(?:\s+(?:N/?A|[CGM](?:\+[CGM])*))?"
    r"(?:\s+(?P<name>\S.*?))??(?:\s+(?P<memory>\d+\s?(?:[KMG]i?B)?|N/?A|-))?"
)
_IDLE = re.compile(r"no (?:running )?process(?:es)?\b|^\d+\s+N/?A(?:\s+N/?A)+$", re.IGNORECASE)
_FLAGS = frozenset({"on", "off", "n/a", "na", "err!", "enabled", "disabled", "enable", "disable"})

Rows = list[list[str]]


@dataclass(slots=True)
class Record:
    """The lines of one chip."""

    header: Rows
    rows: Rows
    rest_of_name: str = ""
    """What of a long name stands on a line of its own below the first."""

    def fold_name(self) -> None:
        """Where a chip has more lines than the header, take out those that go on with its name."""
        for row in self.rows[1:]:
            if len(self.rows) > len(self.header) > 0 and row[0] and not any(row[1:]):
                self.rows.remove(row)
                self.rest_of_name = f"{self.rest_of_name} {row[0]}".strip()

    def cell(self, *names: str) -> str:
        """Return the cell below the first header cell that bears one of these words, or nothing."""
        place = self.place(*names)
        if place is None or place[0] >= len(self.rows):
            return ""
        row = self.rows[place[0]]
        return row[place[1]] if place[1] < len(row) else ""

    def place(self, *names: str) -> tuple[int, int] | None:
        """Return line and position of the header cell that bears one of these words."""
        for i, line in enumerate(self.header):
            for j, cell in enumerate(line):
                if any(_names(cell, name) for name in names):
                    return i, j
        return None


@dataclass(slots=True)
class Box:
    """One printing of the table and of the processes below it."""

    banner: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    processes: dict[int, list[ProcessReport]] = field(default_factory=dict)
    has_header: bool = False
    has_processes: bool = False
    """The process table was printed to its end."""
    is_closed: bool = False
    """Its last line is a rule, and no chip lacks a line."""


def _names(cell: str, name: str) -> bool:
    """Say whether a header cell bears a word: `Pwr` in `Fan  Temp  Perf  Pwr:Usage/Cap`."""
    words = cell.lower().split()
    bare = name.lower()
    return any(word == bare or word.startswith((f"{bare}:", f"{bare}(")) for word in words)


def is_box(text: str, *words: str) -> bool:
    """Say whether a line between bars bears one of these words."""
    lines = (line for line in text.splitlines() if line.strip().startswith("|"))
    return any(_names(line.replace("|", " "), word) for line in lines for word in words)


def read_box(text: str, header: Rows | None = None) -> Box:
    """Read the last printing of the table; `header` serves an excerpt that lacks its own."""
    walk = _Walk(header or [])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last_bar = max((i for i, line in enumerate(lines) if line[0] in "|+"), default=-1)
    for i, line in enumerate(lines):
        if _RULE.fullmatch(line):
            walk.rule(line)
        elif line.startswith("|"):
            if i == last_bar and not line.endswith("|"):
                walk.box.is_closed = False  # cut inside a line: its last number may lack digits
                continue
            walk.row(line)
        elif line.startswith("+"):
            walk.banner(line)
    return walk.finish()


class _Walk:
    """The state while walking down the lines."""

    def __init__(self, header: Rows) -> None:
        self.box = Box()
        self._fallback = header
        self._header: Rows = []
        self._group: Rows = []
        self._record: Record | None = None
        self._in_processes = False
        self._columns_are_named = False
        self._rows_have_begun = False

    def banner(self, line: str) -> None:
        """Take a line that frames the table and tells the time."""
        self._close_record()
        self.box.banner.append(line)

    def rule(self, line: str) -> None:
        """Take a line across: it ends a chip, the header, or the processes."""
        self._close_record()
        if self._group:
            self._header, self._group = self._group, []
        if self._in_processes:
            self.box.has_processes = self.box.has_processes or self._rows_have_begun
            self._rows_have_begun = self._rows_have_begun or self._columns_are_named or "=" in line
            self.box.is_closed = self.box.has_processes
        else:
            # The rule of equals signs below the header opens the rows; it closes nothing.
            self.box.is_closed = bool(self.box.records) or "=" not in line

    def row(self, line: str) -> None:
        """Take a line between bars."""
        self.box.is_closed = False
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if _PROCESS_TITLE.match(line):
            self._close_record()
            self._in_processes, self._rows_have_begun = True, False
            self._columns_are_named = False
        elif self._in_processes:
            self._process(line.strip("| "))
        elif self._record is not None:
            self._record.rows.append(row)
        elif len(row) > 1 and not self._group and _FIRST_CELL.fullmatch(row[0]):
            self._record = Record(self._header or self._fallback, [row])
        elif len(row) > 1 or not row[0]:
            self._group.append(row)
        else:
            self._start_over()
            self.box.banner.append(row[0])

    def finish(self) -> Box:
        """Return the box; a chip without all its lines means that the table was cut."""
        was_inside = self._record is not None
        self._close_record()
        box = self.box
        box.has_header = bool(self._header)
        records = box.records
        if was_inside or (records and len(records[-1].rows) < len(records[0].rows)):
            box.is_closed = False
        return box

    def _start_over(self) -> None:
        """A banner after chips begins a further printing, as a loop makes them."""
        if self.box.records:
            self.box = Box()
            self._in_processes = False

    def _close_record(self) -> None:
        if self._record is not None:
            self._record.fold_name()
            self.box.records.append(self._record)
            self._record = None

    def _process(self, text: str) -> None:
        self._columns_are_named = self._columns_are_named or "PID" in text.split()
        if not self._rows_have_begun or _IDLE.search(text):
            return
        match = _PROCESS.fullmatch(text)
        if match is None:
            return
        process = ProcessReport(
            int(match["pid"]), identity(match["name"] or ""), memory_bytes(match["memory"] or "")
        )
        self.box.processes.setdefault(int(match["chip"]), []).append(process)


def fill_common(chip: ChipReport, record: Record, *utilization: str) -> None:
    """Fill what every table of this kind prints; `utilization` names that column."""
    chip.pci = normalise_pci((record.cell("Bus-Id").split() or [""])[0])
    chip.temperature_celsius = cells.temperature(record.cell("Temp"))
    chip.power_watts, chip.power_limit_watts = cells.powers(record.cell("Pwr", "Power"))
    chip.memory_used_bytes, chip.memory_total_bytes = cells.usage(record.cell("Memory-Usage"))
    chip.utilization_ratio = cells.percent(record.cell(*utilization))


def split_name(record: Record) -> tuple[int | None, str | None]:
    """Return number and name of `0  P800 OAM     N/A`, whose last word is persistence mode."""
    number, _, name = record.cell("Name").partition(" ")
    words = name.split()
    if len(words) > 1 and words[-1].lower() in _FLAGS:
        words.pop()
    return integer(number), identity(" ".join([*words, record.rest_of_name]))


def finish(
    box: Box, chips: Sequence[ChipReport], report: ToolReport, *, has_processes: bool = True
) -> None:
    """Add the chips of a box with their processes, and say what of it is missing.

    `has_processes`: this tool prints a table of processes.
    """
    for chip in chips:
        if chip.index in box.processes:
            chip.processes = box.processes[chip.index]
        elif box.has_processes:
            chip.processes = []
        report.chips.append(chip)
        if box.is_closed or chip is not chips[-1]:  # of a cut row nothing can be said
            note_silence(report, chip)
    if not box.is_closed or not (chips or box.has_header):
        report.add_problem(ProblemKind.TRUNCATED, "the table stops before its closing line")
    elif not chips:
        report.add_problem(ProblemKind.NO_DEVICES, "the table lists no chip")
    elif has_processes and not box.has_processes:
        report.add_problem(ProblemKind.PARTIAL, "the table of processes is missing")
    if chips and not box.has_header:
        report.add_problem(ProblemKind.PARTIAL, "the table's header is missing")
