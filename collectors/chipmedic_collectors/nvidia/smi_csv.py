"""`nvidia-smi --query-…=FIELDS --format=csv`: one row per chip, per process or per retired page.

The columns are named by the header, or by the arguments where `noheader` was asked for. Units stand
in the header (`memory.used [MiB]`), in the cells, or nowhere (`nounits`).
"""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.nvidia.smi_chips import Chips
from chipmedic_collectors.nvidia.smi_columns import fill_chip
from chipmedic_collectors.nvidia.smi_command import only_index, selection
from chipmedic_collectors.nvidia.smi_process_table import add_process
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.values import identity, integer, memory_bytes, process_id

_GPUS = "--query-gpu"
_PROCESSES = ("--query-compute-apps", "--query-accounted-apps")
_QUERIES = (_GPUS, *_PROCESSES, "--query-remapped-rows", "--query-retired-pages")
_ALIASES = {
    "gpu_name": "name",
    "gpu_uuid": "uuid",
    "gpu_serial": "serial",
    "gpu_bus_id": "pci",
    "pci.bus_id": "pci",
    "used_gpu_memory": "used_memory",
    "enforced.power.limit": "power.limit.enforced",
    "retired_pages.sbe": "retired_pages.single_bit_ecc.count",
    "retired_pages.dbe": "retired_pages.double_bit.count",
}
_IDENTITIES = frozenset({"index", "uuid", "pci", "serial", "name", "timestamp"})
_MARKS = frozenset(
    {
        *_IDENTITIES,
        "pid",
        "driver_version",
        "temperature.gpu",
        "utilization.gpu",
        "memory.used",
        "memory.total",
        "power.draw",
    }
)
"""Names that no value looks like: they tell a header where the arguments tell nothing."""
_FREE_TEXT = frozenset({"name", "process_name"})

_VALUE = re.compile(r"[\d.:]+|GPU-\S*|[\[\d]\S*\s?[%\]A-Za-z]*")
"""What is left of a row that was cut in its first cell; other lines of one cell are no row."""

Row = dict[str, str]


def is_csv(text: str, command: CommandLine) -> bool:
    """Say whether this is CSV: it was asked for, or its first line with cells names columns."""
    if command.has(*_QUERIES):
        return bool(text.strip())
    first = next((line for line in text.splitlines() if ", " in line), "")
    return len(_MARKS.intersection(_columns(first.split(","), is_of_processes=False))) > 1


def may_be_empty(text: str, command: CommandLine) -> bool:
    """Say whether no row is a good answer here: there was no process, or no page, to list."""
    if not command.has(*_PROCESSES, "--query-retired-pages", "--query-remapped-rows"):
        return False
    is_of_processes = command.has(*_PROCESSES)
    lines = [line.split(",") for line in text.splitlines() if line.strip()]
    return all(
        _header(cells, _asked_columns(command), is_of_processes=is_of_processes) for cells in lines
    )


def read_csv(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read the rows; one that cannot be read costs no other chip its values."""
    columns = _asked_columns(command)
    is_of_processes = command.has(*_PROCESSES)
    reader = _RowReader(command, report)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for position, line in enumerate(lines):
        cells = [cell.strip() for cell in line.split(",")]
        if header := _header(cells, columns, is_of_processes=is_of_processes):
            columns = header
            continue
        cells = _rejoin(cells, columns)
        if columns and len(cells) == len(columns) and "nvidia-smi" not in line:
            reader.read(dict(zip(columns, cells, strict=True)))
        elif len(cells) > 1 or _VALUE.fullmatch(line):
            is_cut = position == len(lines) - 1 and len(cells) < len(columns)
            kind = ProblemKind.TRUNCATED if is_cut else ProblemKind.MALFORMED
            report.add_problem(kind, f"{len(cells)} cells for {len(columns)} columns: {line}")
    reader.finish()


def _asked_columns(command: CommandLine) -> list[str]:
    asked = command.value(*_QUERIES) or ""
    is_of_processes = command.has(*_PROCESSES)
    names = [name for name in asked.split(",") if name.strip()]
    return _columns(names, is_of_processes=is_of_processes)


def _columns(names: list[str], *, is_of_processes: bool) -> list[str]:
    return [_column(name, is_of_processes=is_of_processes) for name in names]


def _column(name: str, *, is_of_processes: bool) -> str:
    """Return a column's one name, without unit; `name` means the program in a query of those."""
    bare = re.sub(r"\s*\[.*", "", name).strip().lower()
    if is_of_processes and bare == "name":
        return "process_name"
    return _ALIASES.get(bare, bare)


def _header(cells: list[str], asked: list[str], *, is_of_processes: bool) -> list[str] | None:
    """Return the columns if this line names them: as asked, or by names that no value has."""
    names = _columns(cells, is_of_processes=is_of_processes)
    if asked:
        return names if names[0] == asked[0] or (len(names) > 1 and names == asked) else None
    return names if _MARKS.intersection(names) else None


def _rejoin(cells: list[str], columns: list[str]) -> list[str]:
    """Put a program's name that holds commas together again."""
    extra = len(cells) - len(columns)
    if extra <= 0 or "process_name" not in columns:
        return cells
    start = columns.index("process_name")
    end = start + extra + 1
    return [*cells[:start], ", ".join(cells[start:end]), *cells[end:]]


class _RowReader:
    """Turns rows into chips; remembers what only all rows together tell."""

    def __init__(self, command: CommandLine, report: ToolReport) -> None:
        self._command = command
        self._only_index = only_index(command)
        self._report = report
        self._chips = Chips(report)
        self._nameless: list[ChipReport] = []
        self._expected: int | None = None
        self._pages: dict[int, int] = {}
        self._has_homeless_process = False

    def read(self, row: Row) -> None:
        """Read one row."""
        self._report.driver_version = (
            identity(row.get("driver_version", "")) or self._report.driver_version
        )
        self._expected = integer(row.get("count", "")) or self._expected
        chip = ChipReport()
        fill_chip(chip, row)
        if "pid" in row:
            self._read_process(row, chip)
            return
        words = [cell for column, cell in row.items() if column not in _FREE_TEXT]
        chip = self._place(chip)
        trouble = facts.trouble_of(words)
        facts.note_trouble(self._report, chip, trouble, is_silent=not facts.has_reading(chip))
        if "retired_pages.address" in row and _is_address(row["retired_pages.address"]):
            chip.retired_pages = self._pages[id(chip)] = self._pages.get(id(chip), 0) + 1

    def finish(self) -> None:
        """Hold what was read against what the rows say about their number."""
        listed = len(self._report.chips)
        if self._expected and listed < self._expected and not selection(self._command):
            self._report.add_problem(
                ProblemKind.PARTIAL, f"{self._expected} GPUs counted, {listed} listed"
            )
        if self._has_homeless_process:
            self._report.add_problem(ProblemKind.PARTIAL, "processes without the GPU they are on")

    def _place(self, chip: ChipReport) -> ChipReport:
        if chip.pci or chip.uuid or chip.serial or chip.index is not None:
            return self._chips.add(chip)
        if self._only_index is not None:
            chip.index = self._only_index
            return self._chips.add(chip)
        self._nameless.append(chip)
        if self._expected and len(self._nameless) > self._expected:
            # The rows of a further round of `--loop`, in the same order as before.
            known = self._nameless[(len(self._nameless) - 1) % self._expected]
            return self._chips.update(known, chip)
        self._report.chips.append(chip)
        return chip

    def _read_process(self, row: Row, chip: ChipReport) -> None:
        pid = process_id(row["pid"])
        if pid is None:
            return
        if not (chip.pci or chip.uuid or chip.serial):
            if self._only_index is None:
                self._has_homeless_process = True
                return
            chip.index = self._only_index
        chip = self._chips.add(chip)
        if self._command.has("--query-accounted-apps"):
            return  # those have ended
        found = {process.pid: process for process in chip.processes or ()}
        name = identity(row.get("process_name", ""))
        add_process(found, ProcessReport(pid, name, memory_bytes(row.get("used_memory", ""))))
        chip.processes = list(found.values())


def _is_address(text: str) -> bool:
    """Say whether this is the address of a page."""
    return re.fullmatch(r"0x[0-9a-f]+", text.strip().lower()) is not None
