"""The text answers of rocm-smi and its forks: `GPU[0] : key: value` lines and the tables below."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.reading.samples import Samples
from chipmedic_collectors.rocm_smi.concise import is_concise, read_concise
from chipmedic_collectors.rocm_smi.keys import WORDS, fill_card, judge_card
from chipmedic_collectors.values import identity, integer

GARBAGE_COUNT = 1048560
"""The counter of a block that cannot be read grows by this at each query (0xFFFF0)."""

_LINE = re.compile(rf"^\s*(?:{WORDS})\[(?P<index>\d{{1,4}})\]\s*:\s*(?P<rest>.*?)\s*$")
_BLOCK = re.compile(
    r"^\s*\w+\s+(?P<status>ENABLED|DISABLED|NONE|UNKNOWN ERROR|SING|MULT|POSITION)"
    r"(?:\s+(?P<corrected>\d+)\s+(?P<uncorrected>\d+))?\s*$"
)
_PAGE = re.compile(r"^\s*0x[0-9a-fA-F]+\s+\S+\s+(?P<status>reserved|pending|unreservable)\b", re.I)
_DRIVER = re.compile(r"^\s*Driver [Vv]ersion\s*:\s*(\S+)", re.MULTILINE)
_TOOL = re.compile(r"^\s*(?:ROCM|HY|HCU)-SMI version\s*:\s*(\S+)", re.MULTILINE | re.IGNORECASE)
_IN_BAND = re.compile(
    r"Unexpected data received|\bERROR:\s*\d+|Exception caught|\bUnable to get\b", re.IGNORECASE
)
_KFD_ROW = re.compile(
    r"^(?P<pid>\d{1,9})\s+(?P<name>\S.*?)\s+(?P<cards>\d{1,4})\s+(?P<memory>\d+|UNKNOWN)(?:\s+\S+)*$"
)
_HOLDS = re.compile(r"^\s*PID (?P<pid>\d{1,9}) is using \d+ DRM device")
_PID = re.compile(r"^\s*PID:\s*(?P<pid>\d{1,9})\s*$")
_PID_CARDS = re.compile(rf"^\s*(?:{WORDS}) Index:\s*(?P<cards>.*)$")
_PID_MEMORY = re.compile(r"^\s*VRAM USED\(MiB\):\s*(?P<mib>\d{1,12})\b")
_NO_PROCESS = re.compile(r"No KFD PIDs currently running")


def is_sections(text: str) -> bool:
    """Say whether the text is one of these answers."""
    if is_concise(text) or _DRIVER.search(text) or _TOOL.search(text):
        return True
    marks = (_LINE, _PID, _HOLDS)
    return any(mark.match(line) for line in text.splitlines() for mark in marks) or (
        "KFD process information" in text or _NO_PROCESS.search(text) is not None
    )


def read_sections(text: str, report: ToolReport) -> None:
    """Add everything that the text states of cards to `report`; a card in two blocks is one."""
    if is_concise(text):
        read_concise(text, report)
    if version := _DRIVER.search(text):
        report.driver_version = identity(version[1])
    if version := _TOOL.search(text):
        report.tool_version = identity(version[1])
    cards = Samples(report)
    for chip in list(report.chips):
        report.chips.remove(chip)
        cards.add(chip.index, chip)
    _read_lines(text, cards, report)
    _read_tables(text, cards)
    _read_processes(text, cards, report)


def _read_lines(text: str, cards: Samples, report: ToolReport) -> None:
    by_index: dict[int, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if found := _LINE.match(line):
            pairs = by_index.setdefault(int(found["index"]), [])
            key, colon, value = found["rest"].partition(":")
            if colon:
                pairs.append((key, value.strip()))
        if _IN_BAND.search(line):
            report.add_problem(ProblemKind.PARTIAL, line)
    for index, pairs in by_index.items():
        chip = ChipReport(index=index)
        fill_card(chip, pairs)
        judge_card(chip, pairs, report)
        cards.add(index, chip)


def _read_tables(text: str, cards: Samples) -> None:
    """Read the RAS and the pages tables, each below the line of its card."""
    card: ChipReport | None = None
    for line in text.splitlines():
        if heading := _LINE.match(line):
            card = None
            if heading["rest"].upper().endswith("INFO"):
                card = cards.add(int(heading["index"]), ChipReport(index=int(heading["index"])))
                if heading["rest"].upper().endswith("PAGES INFO"):
                    card.retired_pages = card.retired_pages or 0
        elif card is not None and (block := _BLOCK.match(line)):
            _count(card, block)
        elif card is not None and (page := _PAGE.match(line)):
            status = page["status"].lower()
            card.retired_pages = (card.retired_pages or 0) + (status == "reserved")
            card.remap_pending = bool(card.remap_pending) or status == "pending"


def _count(card: ChipReport, block: re.Match[str]) -> None:
    """Add the errors of a block; only enabled ones count, the others print garbage."""
    if block["status"] != "ENABLED" or block["corrected"] is None:
        return
    corrected, uncorrected = integer(block["corrected"]), integer(block["uncorrected"])
    if corrected is not None and not _is_garbage(corrected):
        card.ecc_corrected_total = (card.ecc_corrected_total or 0) + corrected
    if uncorrected is not None and not _is_garbage(uncorrected):
        card.ecc_uncorrected_total = (card.ecc_uncorrected_total or 0) + uncorrected


def _is_garbage(count: int) -> bool:
    return count > 0 and count % GARBAGE_COUNT == 0


def _read_processes(text: str, cards: Samples, report: ToolReport) -> None:
    if _NO_PROCESS.search(text):
        for chip in report.chips:
            chip.processes = []
        if not report.chips:
            report.add_problem(ProblemKind.PARTIAL, "no process; the answer names no card")
    for process, indexes in (*_held(text), *_blocks(text)):
        for index in indexes:
            chip = cards.add(index, ChipReport(index=index))
            chip.processes = [*(chip.processes or []), process]
    counted = list(_counted(text))
    if len(report.chips) == 1 and counted and report.chips[0].processes is None:
        report.chips[0].processes = counted
    elif counted and not any(chip.processes for chip in report.chips):
        words = "the tool says how many cards a process holds, not which"
        report.add_problem(ProblemKind.PARTIAL, words)


def _counted(text: str) -> Iterator[ProcessReport]:
    """Yield the rows of `--showpids` that hold a card: PID, name, number of cards, bytes."""
    _, found, table = text.partition("KFD process information")
    for line in table.splitlines() if found else ():
        row = _KFD_ROW.match(line.strip())
        if row and int(row["cards"]) > 0:
            yield ProcessReport(int(row["pid"]), identity(row["name"]), integer(row["memory"]))


def _held(text: str) -> Iterator[tuple[ProcessReport, list[int]]]:
    """Yield the processes of `--showpidgpus`, with the numbers of the cards on the next line."""
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if found := _HOLDS.match(line):
            words = below.replace(",", " ").split()
            indexes = [int(word) for word in words if re.fullmatch(r"\d{1,4}", word)]
            yield ProcessReport(int(found["pid"])), indexes


def _blocks(text: str) -> Iterator[tuple[ProcessReport, list[int]]]:
    """Yield the blocks of Hygon's `--showpids`: PID, the cards as Python lists, MiB in all."""
    pid: int | None = None
    indexes: list[int] = []
    memory: int | None = None
    for line in (*text.splitlines(), "PID: 0"):
        if found := _PID.match(line):
            if pid is not None:
                one = memory if len(indexes) == 1 else None
                yield ProcessReport(pid, memory_bytes=one), indexes
            pid, indexes, memory = int(found["pid"]), [], None
        elif found := _PID_CARDS.match(line):
            indexes = [int(number) for number in re.findall(r"\b\d{1,4}\b", found["cards"])]
        elif found := _PID_MEMORY.match(line):
            memory = int(found["mib"]) * 1048576
