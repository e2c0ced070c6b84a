"""The texts of `xpu-smi` for a person to read: `-q` and `-L`."""

from __future__ import annotations

from chipmedic.tool_report import ToolReport
from chipmedic_collectors.reading import fields, listing
from chipmedic_collectors.reading.command_line import CommandLine

WORD = "XPU"
ONE_CARD = ("-i", "--id", "-d")
"""Options that ask for one card."""
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
    listing.note_count(attached, WORD, command, report, *ONE_CARD)


def is_log(text: str, command: CommandLine) -> bool:
    """Say whether this is what `-q` prints."""
    return "XPUSMI LOG" in text or listing.any_line(listing.heading_of(WORD), text)


def read_log(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-q`."""
    note_count(listing.read_log(text, WORD, _KEYS, report), command, report)


def is_list(text: str, command: CommandLine) -> bool:
    """Say whether this is what `-L` prints."""
    return listing.any_line(listing.entry_of(WORD), text)


def read_list(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-L`."""
    listing.read_list(text, WORD, report)
