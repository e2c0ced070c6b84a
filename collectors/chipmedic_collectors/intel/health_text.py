"""Lines that `xpu-smi` 2.x prints of the memory: `health` (also with `-j`), offline pages."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, Health, ToolReport
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.judging import worsen
from chipmedic_collectors.values import integer, normalise_pci

_DEVICE = re.compile(r"^device id:\s*(?P<index>\d{1,4})\s*$", re.IGNORECASE)
_HEALTH = re.compile(r"^Memory Health:\s*(?P<state>\w+)\s*$")
_PAGES = re.compile(
    r"^Device (?P<index>\d{1,4}) \((?P<pci>[^)]*)\)"
    r" - Offline Memory Pages:\s*(?P<pages>\d{1,9})\s*$"
)
_NO_HEALTH = "The memory health cannot be determined"
_STATES = {"ok": Health.OK, "degraded": Health.WARNING}
"""`CRITICAL` and `REPLACE` are the two others (`zes_mem_health_t`)."""


def is_health(text: str, command: CommandLine) -> bool:
    """Say whether this is that text."""
    lines = text.splitlines()
    return any(_HEALTH.match(line) or line.startswith(_NO_HEALTH) for line in lines)


def read_health(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read it; for one device it prints no number."""
    chip: ChipReport | None = None
    for line in text.splitlines():
        if device := _DEVICE.match(line):
            chip = ChipReport(index=integer(device["index"]))
            report.chips.append(chip)
        health = _HEALTH.match(line)
        if health is None and not line.startswith(_NO_HEALTH):
            continue
        if chip is None:
            chip = ChipReport(index=integer(command.value("-d", "--device") or ""))
            report.chips.append(chip)
        state = health["state"].lower() if health else None
        worsen(chip, _STATES.get(state, Health.CRITICAL) if state else Health.UNKNOWN)


def is_pages(text: str, command: CommandLine) -> bool:
    """Say whether this is what `stats --list-offline-pages` prints."""
    return any(_PAGES.match(line) for line in text.splitlines())


def read_pages(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read how many pages each device has taken out of use; below it stand their addresses."""
    for row in filter(None, map(_PAGES.match, text.splitlines())):
        chip = ChipReport(index=integer(row["index"]), pci=normalise_pci(row["pci"]))
        chip.retired_pages = integer(row["pages"])
        report.chips.append(chip)
