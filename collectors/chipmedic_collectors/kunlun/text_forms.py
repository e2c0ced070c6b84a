"""The texts of `xpu-smi` for a person to read: `-q` and `-L`."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReport
from chipmedic_collectors.reading import fields
from chipmedic_collectors.reading.blocks import read_blocks, read_processes
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.judging import note_silence
from chipmedic_collectors.values import identity, integer, normalise_pci

_HEADING = re.compile(r"\s*XPU (?P<pci>[0-9A-Fa-f]+:[0-9A-Fa-f:]+\.[0-7])\s*$")
_LISTED = re.compile(r"\s*XPU (?P<index>\d{1,4}):\s*(?P<name>[^(]+?)\s*\(UUID:\s*(?P<uuid>[^)]+)\)")
_KEYS: fields.FieldMap = {
    "minor number": fields.INDEX,
    "product name": fields.NAME,
    "serial number": fields.SERIAL,
    "xpu uuid": fields.UUID,
    "memory usage/total": fields.MEMORY_TOTAL,
    "memory usage/used": fields.MEMORY_USED,
    "utilization/xpu": fields.UTILIZATION,
    "aggregate/dram correctable": fields.ECC_CORRECTED,
    "volatile/dram correctable": fields.ECC_CORRECTED,
    "aggregate/dram uncorrectable": fields.ECC_UNCORRECTED,
    "volatile/dram uncorrectable": fields.ECC_UNCORRECTED,
    "temperature/xpu current temp": fields.TEMPERATURE,
    "temperature/memory current temp": fields.MEMORY_TEMPERATURE,
    "power readings/power draw": fields.POWER,
    "power readings/enforced power limit": fields.POWER_LIMIT,
}


def note_count(attached: int | None, command: CommandLine, report: ToolReport) -> None:
    """A card that dropped is still counted; a question for one card lists no other."""
    listed = len(report.chips)
    if attached is not None and attached > listed and not command.has("-i", "--id", "-d"):
        report.add_problem(ProblemKind.PARTIAL, f"{attached} XPUs attached, {listed} listed")
    elif not listed and not report.problems:
        report.add_problem(ProblemKind.NO_DEVICES, "no XPU is listed")


def is_log(text: str, command: CommandLine) -> bool:
    """Say whether this is what `-q` prints."""
    return "XPUSMI LOG" in text or any(_HEADING.match(line) for line in text.splitlines())


def read_log(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-q`: the values of `-q -x` as lines of `key : value`."""
    attached = None
    for block in read_blocks(text, _HEADING):
        if block.heading is None:
            report.driver_version = identity(block.value("driver version"))
            attached = integer(block.value("attached xpus"))
            continue
        chip = ChipReport(pci=normalise_pci(block.heading["pci"]))
        fields.fill(chip, block.pairs, _KEYS)
        chip.processes = read_processes(block)
        report.chips.append(chip)
        note_silence(report, chip)
    note_count(attached, command, report)


def is_list(text: str, command: CommandLine) -> bool:
    """Say whether this is what `-L` prints."""
    return any(_LISTED.match(line) for line in text.splitlines())


def read_list(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-L`: number, name and UUID of each card on a line."""
    for row in filter(None, map(_LISTED.match, text.splitlines())):
        name, uuid = identity(row["name"]), identity(row["uuid"])
        report.chips.append(ChipReport(index=int(row["index"]), name=name, uuid=uuid))
