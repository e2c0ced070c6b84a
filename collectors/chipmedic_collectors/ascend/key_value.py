"""`key : value` lines of `npu-smi info -l` and `-t ...`, sorted into chips.

Where the chip's number stands differs: before its values (310, `-t board`, `-t common`), or AFTER
them (the card form on 310P and the 910 family), or nowhere (`-i N -c C`; the numbers are in the
command line). The board's controller (MCU) prints values of its own, its name before or after them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from chipmedic.tool_report import ChipReport, Health, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.ascend import cells
from chipmedic_collectors.ascend.arguments import Arguments
from chipmedic_collectors.ascend.fields import fill, fill_report, normal_key
from chipmedic_collectors.values import integer, memory_bytes

_LINE = re.compile(r"\s*(?P<key>[^:\s](?:[^:]*[^:\s])?)\s+:(?:\s+(?P<value>.*))?$")
_CONTINUED = re.compile(r"\s+:\s?(?P<value>.*)$")
_PROCESS = re.compile(
    r"Process id\s*:\s*(?P<pid>\d{1,10})\s+Process name\s*:(?P<name>.*?)\s+"
    r"Process memory\((?P<unit>\w+)\)\s*:\s*(?P<size>\d{1,18})\b"
)
_IDLE = "No process in device"
_NO_ANSWER = re.compile(r"Failed to query npu chip: (?P<die>\d{1,9})\b info")
_OF_THE_CARD = frozenset({"chip count", "chip type", "total count", "card count"})
_NOT_A_CHIP = frozenset({"mcu", "3559"})


@dataclass(slots=True, eq=False)
class _Block:
    """The values of one chip, or of what is not known yet to be one."""

    card: int | None
    die: int | None = None
    fields: dict[str, str] = field(default_factory=dict)
    processes: list[ProcessReport] | None = None
    is_silent: bool = False
    """The tool says that it could not ask this chip."""

    @property
    def is_empty(self) -> bool:
        return not self.fields and self.processes is None and not self.is_silent


class _Sorter:
    """Walks down the lines; `blocks` are whole when `close` was called."""

    def __init__(self, arguments: Arguments) -> None:
        self.blocks: list[_Block] = []
        self.total: int | None = None
        self._arguments = arguments
        self._open = _Block(arguments.card)
        self._last_key: str | None = None
        self._is_trailing = False
        self._is_other_part = False

    def pair(self, key: str, value: str) -> None:
        """Take one `key : value`."""
        self._last_key = None
        if key == "npu id":
            self.close()
            self._is_trailing = self._is_other_part = False
            self._open = _Block(integer(value))
            self.blocks.append(self._open)
        elif key == "chip id":
            self._chip_id(integer(value))
        elif key == "chip name" and value.strip().lower() in _NOT_A_CHIP:
            self._other_part()
        elif key in ("total count", "card count"):
            self.total = integer(value)
        elif key not in _OF_THE_CARD and not self._is_other_part:
            self._open.fields.setdefault(key, value)
            self._last_key = key

    def more(self, text: str) -> None:
        """Take a line that goes on with the value before it."""
        if self._last_key is not None:
            self._open.fields[self._last_key] += "\n" + text

    def process(self, process: ProcessReport | None) -> None:
        """Take a process of the chip, or the statement that there is none."""
        self._open.processes = (self._open.processes or []) + ([process] if process else [])

    def silent(self, die: int) -> None:
        """Take the statement that a chip of this card did not answer."""
        self.close()
        self.blocks.append(_Block(self._open.card, die, is_silent=True))

    def close(self) -> None:
        """End the open block; what follows belongs to the same card."""
        if self._open.is_empty and self._open not in self.blocks:
            return
        if self._open.die is None and self._is_trailing and not self._open.is_empty:
            self._open.die = self._next_die()  # cut before its number
        if self._open not in self.blocks:
            self.blocks.append(self._open)
        self._open = _Block(self._open.card)

    def _next_die(self) -> int:
        return 1 + max((b.die or 0 for b in self.blocks if b.card == self._open.card), default=-1)

    def _chip_id(self, die: int | None) -> None:
        self._is_other_part = False
        if self._open.die is None and not self._open.is_empty:
            self._open.die = die
            self.close()
            self._is_trailing = True
            return
        if self._open.die is not None:
            self.close()
        self._open.die = die

    def _other_part(self) -> None:
        if self._open.die is not None and not self._open.is_empty:
            self.close()
        elif self._open in self.blocks:
            self.blocks.remove(self._open)
        self._open = _Block(self._open.card)
        self._is_other_part = not self._is_trailing


def is_key_value(text: str) -> bool:
    """Say whether the text has lines of this layout."""
    return any(
        _LINE.match(line) or _PROCESS.search(line) or _IDLE in line for line in text.splitlines()
    )


def is_pair(line: str) -> bool:
    """Say whether one line is a `key : value`."""
    return _LINE.match(line) is not None


def read_key_values(text: str, arguments: Arguments, report: ToolReport) -> None:
    """Add what the lines state to `report`."""
    sorter = _Sorter(arguments)
    for line in text.splitlines():
        _take(line, sorter)
    sorter.close()
    _add_chips(sorter, arguments, report)
    lines = text.rstrip(" \t").splitlines()
    if lines and not text.endswith("\n") and re.fullmatch(r"\s*[A-Z][\w -]*", lines[-1]):
        report.add_problem(ProblemKind.TRUNCATED, f"stops inside a line: {lines[-1].strip()}")


def _take(line: str, sorter: _Sorter) -> None:
    if found := _PROCESS.search(line):
        size = memory_bytes(found["size"], found["unit"])
        sorter.process(ProcessReport(int(found["pid"]), cells.name(found["name"]), size))
    elif _IDLE in line:
        sorter.process(None)
    elif silent := _NO_ANSWER.search(line):
        sorter.silent(int(silent["die"]))
    elif pair := _LINE.match(line):
        sorter.pair(normal_key(pair["key"]), (pair["value"] or "").strip())
    elif continued := _CONTINUED.match(line):
        sorter.more(continued["value"])
    elif "event id" in line:
        sorter.more(line)


def _add_chips(sorter: _Sorter, arguments: Arguments, report: ToolReport) -> None:
    chips: dict[tuple[int | None, int], ChipReport] = {}
    merged: dict[tuple[int | None, int], dict[str, str]] = {}
    named = {block.card for block in sorter.blocks if not block.is_empty}
    for block in sorter.blocks:
        if block.card is not None and block.card < 0:
            continue  # the 950 prints NPU ID -1 for a row that is not valid
        if block.is_empty and block.die is None and block.card in named:
            continue
        place = (block.card, block.die if block.die is not None else arguments.chip or 0)
        chip = chips.setdefault(place, ChipReport(index=place[0], die=place[1]))
        merged.setdefault(place, {}).update(block.fields)
        if block.processes is not None:
            chip.processes = (chip.processes or []) + block.processes
        if block.is_silent:
            chip.health = Health.UNKNOWN
    for place, fields in merged.items():
        fill(chips[place], fields, arguments.topic)
        fill_report(report, fields)
    report.chips.extend(chips.values())
    cards = {chip.index for chip in report.chips}
    if sorter.total is not None and sorter.total > len(cards):
        report.add_problem(
            ProblemKind.PARTIAL, f"{sorter.total} cards are counted and {len(cards)} listed"
        )
