"""`-q` and `-L` of the tools that follow nvidia-smi: a log of `key : value` blocks, and a list."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReport
from chipmedic_collectors.reading import fields
from chipmedic_collectors.reading.blocks import read_blocks, read_processes
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.judging import note_silence
from chipmedic_collectors.values import identity, integer, normalise_pci


def heading_of(word: str) -> re.Pattern[str]:
    """What begins the block of a chip in the log: `GPU 00000000:3B:00.0`."""
    return re.compile(rf"\s*{word} (?P<pci>[0-9A-Fa-f]+:[0-9A-Fa-f:]+\.[0-7])\s*$")


def entry_of(word: str) -> re.Pattern[str]:
    """A line of the list: `GPU 0: its name (UUID: ...)`."""
    return re.compile(
        rf"\s*{word} (?P<index>\d{{1,4}}):\s*(?P<name>[^(]+?)\s*\(UUID:\s*(?P<uuid>[^)]+)\)"
    )


def any_line(pattern: re.Pattern[str], text: str) -> bool:
    """Say whether a line of the text begins as the pattern says."""
    return any(pattern.match(line) for line in text.splitlines())


def note_count(
    attached: int | None, word: str, command: CommandLine, report: ToolReport, *one: str
) -> None:
    """Say what is missing: a chip that dropped is still counted as attached.

    `one` are the options that ask for one chip; such an answer lists no other.
    """
    listed = len(report.chips)
    if attached is not None and attached > listed and not command.has(*one):
        report.add_problem(ProblemKind.PARTIAL, f"{attached} {word}s attached, {listed} listed")
    elif not listed and not report.problems:
        report.add_problem(ProblemKind.NO_DEVICES, f"no {word} is listed")


def read_log(text: str, word: str, keys: fields.FieldMap, report: ToolReport) -> int | None:
    """Read `-q`: the values of `-q -x` as lines of `key : value`; how many are attached."""
    attached = None
    for block in read_blocks(text, heading_of(word)):
        if block.heading is None:
            report.driver_version = identity(block.value("driver version"))
            attached = integer(block.value(f"attached {word.lower()}s"))
            continue
        chip = ChipReport(pci=normalise_pci(block.heading["pci"]))
        fields.fill(chip, block.pairs, keys)
        chip.processes = read_processes(block)
        report.chips.append(chip)
        note_silence(report, chip)
    return attached


def read_list(text: str, word: str, report: ToolReport) -> None:
    """Read `-L`: number, name and UUID of each chip on a line."""
    for row in filter(None, map(entry_of(word).match, text.splitlines())):
        name, uuid = identity(row["name"]), identity(row["uuid"])
        report.chips.append(ChipReport(index=int(row["index"]), name=name, uuid=uuid))
