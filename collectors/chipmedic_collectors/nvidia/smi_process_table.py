"""The lower part of `nvidia-smi`'s table: which process is on which chip."""

from __future__ import annotations

import re
from collections.abc import Iterable

from chipmedic.tool_report import ChipReport, ProcessReport
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.values import identity, memory_bytes

_TITLE = re.compile(r"\|\s*(?:Compute )?Processes:", re.IGNORECASE)
_ROW = re.compile(
    r"(?P<gpu>\d{1,4})\\?\.?\s+(?:(?:\d+|N/A)\s+(?:\d+|N/A)\s+)?(?P<pid>\d{1,9})\s+"
    r"(?:[CGMO](?:\+[CGMO])*\s+)?(?P<program>\S.*)"
)
_USAGE = re.compile(r"\s+(\d+\s?[KMG]i?B|N/A|ERR!|\[?(?:Not Supported|Unknown Error)\]?)$")
_WITHHELD = re.compile(
    r"(\d{1,4})\\?\.?\s.*(?:not supported|insufficient permissions)", re.IGNORECASE
)


def add_process(found: dict[int, ProcessReport], process: ProcessReport) -> None:
    """Add a process; one that is listed for several MIG instances of a chip holds the sum."""
    known = found.get(process.pid)
    if known is None:
        found[process.pid] = process
        return
    memory = facts.total([known.memory_bytes, process.memory_bytes])
    found[process.pid] = ProcessReport(process.pid, known.name or process.name, memory)


class ProcessTable:
    """Collects the rows of one process table and gives them to the chips."""

    def __init__(self) -> None:
        self._has_begun = False
        self._has_ended = False
        self._found: dict[int, dict[int, ProcessReport]] = {}
        self._withheld: set[int] = set()

    @staticmethod
    def is_title(line: str) -> bool:
        """Say whether this line begins a process table."""
        return _TITLE.match(line) is not None

    def read_rule(self, line: str) -> None:
        """Note a line across: the one of equals signs begins the rows, the next ends them."""
        if "=" in line:
            self._has_begun = True
        elif self._has_begun:
            self._has_ended = True

    def read_row(self, line: str) -> None:
        """Read one row; one without its closing bar was cut, so its last number may be too."""
        if not self._has_begun or not line.endswith("|"):
            return
        text = line.strip("| \t")
        if row := _ROW.fullmatch(text):
            usage = _USAGE.search(row["program"])
            program = row["program"][: usage.start()] if usage else row["program"]
            memory = memory_bytes(usage[1]) if usage else None
            processes = self._found.setdefault(int(row["gpu"]), {})
            add_process(processes, ProcessReport(int(row["pid"]), identity(program), memory))
        elif withheld := _WITHHELD.match(text):
            self._withheld.add(int(withheld[1]))

    def give_to(self, chips: Iterable[ChipReport]) -> None:
        """Give each chip its processes; only a whole table tells that a chip has none."""
        for chip in chips:
            if chip.index in self._found:
                chip.processes = list(self._found[chip.index].values())
            elif self._has_ended and chip.index not in self._withheld:
                chip.processes = []
