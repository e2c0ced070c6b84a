"""The box that `npu-smi info` prints, of every version and width from 1.8 to 26.x.

Two lines a chip, cells between bars; the columns of the last cell follow the header, never a
position: 310 and 310P print no HBM, old tools no hugepages, the 950 a bar more and no chip column.
Bars are sometimes out of line, rules broken, lines left out. Of several boxes in one text (a log of
runs) the last counts.
"""

from __future__ import annotations

import re
from itertools import accumulate

from chipmedic.tool_report import ChipReport, Health, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.ascend import cells
from chipmedic_collectors.values import (
    integer,
    is_placeholder,
    memory_bytes,
    normalise_pci,
    process_id,
)

_VERSIONS = re.compile(r"npu-smi\s+(?P<tool>\S+)\s+Version:\s*(?P<driver>[^\s|]+)")
_HEADER = re.compile(r"\bNPU\b.*\|\s*Health\b")
_COLUMN = re.compile(r"\S[^()]*\([^)]*\)")
_IDLE = re.compile(r"No running processes found in NPU\s+(?P<npu>\d{1,9})\b")
_FIRST_LINE = ("Power(W)", "Temp(C)", "Hugepages-Usage(page)")
_SECOND_LINE = ("AICore(%)", "Memory-Usage(MB)", "HBM-Usage(MB)")


def read_info_table(text: str, report: ToolReport) -> None:
    """Add what the box states to `report`."""
    box = _Box(report)
    lines = _last_box([line.strip() for line in text.splitlines()])
    last_bar = max((i for i, line in enumerate(lines) if line[:1] in ("|", "+")), default=-1)
    for i, line in enumerate(lines):
        if line.startswith("+"):
            box.rule(line)
        elif line.startswith("|"):
            if i == last_bar and not line.endswith("|"):
                break  # cut inside a row: its last number may have lost digits
            box.row([cell.strip() for cell in line[1:].removesuffix("|").split("|")])
        elif line and not line.strip("."):
            report.add_problem(ProblemKind.PARTIAL, "rows were left out of this output (...)")
    last = lines[last_bar] if last_bar >= 0 else ""
    box.finish(is_closed=last.startswith("+") and "=" in last)


def _last_box(lines: list[str]) -> list[str]:
    """Return the lines from the last banner on, or from the last header where none has a banner."""
    rows = [(i, line) for i, line in enumerate(lines) if line[:1] == "|"]
    starts = [i for i, line in rows if _VERSIONS.search(line)] or [
        i for i, line in rows if _HEADER.search(line)
    ]
    return lines[starts[-1] :] if len(starts) > 1 else lines


class _Box:
    """The state while walking down the box."""

    def __init__(self, report: ToolReport) -> None:
        self._report = report
        self._first_names: tuple[str, ...] = ()
        self._second_names: tuple[str, ...] = ()
        self._pending: ChipReport | None = None
        self._last_npu: int | None = None
        self._in_processes = False
        self._idle: set[int] = set()
        self._processes: dict[tuple[int, int], list[ProcessReport]] = {}

    def rule(self, line: str) -> None:
        """A thick rule ends an NPU, a thin one a chip of it."""
        self._close_pending()
        if "=" in line:
            self._last_npu = None

    def row(self, row: list[str]) -> None:
        """Take one line between bars."""
        text = " | ".join(row)
        if versions := _VERSIONS.search(text):
            self._report.tool_version = cells.name(versions["tool"])
            self._report.driver_version = cells.name(versions["driver"])
        elif "process id" in text.lower():
            self._close_pending()
            self._in_processes = True
        elif self._in_processes:
            self._process_row(row, text)
        elif "Health" in row:
            self._first_names = tuple(_COLUMN.findall(row[-1]))
        elif "Bus-Id" in row:
            self._second_names = tuple(_COLUMN.findall(row[-1]))
        elif len(row) >= 3:
            self._chip_row(" ".join(row[:-2]).split(), row[-2], row[-1])

    def finish(self, *, is_closed: bool) -> None:
        """Attach the processes and judge whether the box is whole."""
        self._close_pending()
        report = self._report
        if self._in_processes and report.chips and not (self._idle or self._processes):
            is_closed = False
        is_other = not (self._first_names or self._second_names or report.tool_version)
        if is_other and not report.chips:
            report.add_problem(ProblemKind.MALFORMED, "a table without chips")
        elif not is_closed:
            report.add_problem(ProblemKind.TRUNCATED, "the table stops before its closing rule")
        elif not report.chips:
            report.add_problem(ProblemKind.NO_DEVICES, "the table has no rows")
        npus = self._idle | {npu for npu, _ in self._processes}
        for chip in report.chips:
            if chip.index in npus:
                chip.processes = self._processes.pop((chip.index, chip.die), [])
            elif self._in_processes and is_closed:
                report.add_problem(
                    ProblemKind.PARTIAL, f"the process table does not name NPU {chip.index}"
                )
        for npu, die in self._processes:
            report.add_problem(ProblemKind.PARTIAL, f"a process names NPU {npu} chip {die}: no row")

    def _chip_row(self, names: list[str], state: str, values: str) -> None:
        pci = normalise_pci(state)
        if pci is not None or (self._pending is not None and is_placeholder(state)):
            self._second_line(names, pci, values)
        else:
            self._first_line(names, state, values)

    def _first_line(self, names: list[str], state: str, values: str) -> None:
        self._close_pending()
        index = integer(names[0]) if names else None
        if index is None:
            self._report.add_problem(ProblemKind.MALFORMED, f"no NPU id in row: {names} {state}")
            return
        die = sum(chip.index == index for chip in self._report.chips)
        chip = ChipReport(index=index, die=die, health=cells.health(state))
        chip.name = cells.name(" ".join(names[1:]))
        cell = self._columns(values, self._first_names, _FIRST_LINE)
        chip.power_watts = cells.measured(cell.get("power", [""])[0])
        chip.temperature_celsius = cells.measured(cell.get("temp", [""])[0])
        self._pending, self._last_npu = chip, index

    def _second_line(self, names: list[str], pci: str | None, values: str) -> None:
        chip, self._pending = self._pending, None
        if chip is None:  # an unmapped health state drops the first line of a row
            chip = ChipReport(index=self._last_npu, health=Health.UNKNOWN)
            self._report.add_problem(
                ProblemKind.PARTIAL, f"the row of {pci} lacks its first line, with id and health"
            )
        die = integer(names[0]) if names else None
        chip.die = die if die is not None else chip.die
        chip.pci = pci
        cell = self._columns(values, self._second_names, _SECOND_LINE)
        chip.utilization_ratio = cells.ratio(cell.get("util", [""])[0])
        used, total = cell.get("hbm", ["", ""])
        if not memory_bytes(total):
            used, total = cell.get("memory", ["", ""])
        if memory_bytes(total):  # 0 / 0 is a failed query
            chip.memory_used_bytes = memory_bytes(used)
            chip.memory_total_bytes = memory_bytes(total)
        self._add(chip)

    def _close_pending(self) -> None:
        chip, self._pending = self._pending, None
        if chip is not None:
            self._report.add_problem(
                ProblemKind.PARTIAL, f"the row of NPU {chip.index} lacks its second line"
            )
            self._add(chip)

    def _add(self, chip: ChipReport) -> None:
        read = (chip.power_watts, chip.temperature_celsius, chip.memory_total_bytes)
        if all(value is None for value in read) and not chip.utilization_ratio:
            chip.utilization_ratio = None  # every other query of it failed: this 0 is no reading
            chip.health = Health.UNKNOWN if chip.health is Health.OK else chip.health
            self._report.add_problem(
                ProblemKind.PARTIAL, f"NPU {chip.index} chip {chip.die} prints zeroes only"
            )
        self._report.chips.append(chip)

    def _columns(
        self, values: str, header: tuple[str, ...], usual: tuple[str, ...]
    ) -> dict[str, list[str]]:
        """Return the words of a cell by column; nothing when they do not fit the header."""
        words = values.replace("/", " ").split()
        for names in (header,) if header else (usual, usual[:-1]):
            widths = [2 if "usage" in name.lower() else 1 for name in names]
            if sum(widths) == len(words):
                ends = list(accumulate(widths))
                return {
                    _column_key(name): words[end - width : end]
                    for name, width, end in zip(names, widths, ends, strict=True)
                }
        self._report.add_problem(ProblemKind.PARTIAL, f"cells do not fit their header: {values}")
        return {}

    def _process_row(self, row: list[str], text: str) -> None:
        if idle := _IDLE.search(text):
            self._idle.add(int(idle["npu"]))
            return
        place = [integer(word) for word in row[0].split()]
        pid = process_id(row[1]) if len(row) >= 4 else None
        if pid is None or not place or place[0] is None:
            self._report.add_problem(ProblemKind.PARTIAL, f"not a process row: {text.strip()}")
            return
        die = place[1] if len(place) > 1 and place[1] is not None else 0
        process = ProcessReport(pid, cells.name(row[2]), memory_bytes(row[3]))
        self._processes.setdefault((place[0], die), []).append(process)


def _column_key(name: str) -> str:
    lower = name.lower()
    for key in ("power", "temp", "hugepages", "hbm", "memory"):
        if lower.startswith(key):
            return key
    return "util" if lower.startswith(("aicore", "npu util")) else lower
