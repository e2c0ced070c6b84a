"""The chips of one answer, each once however often it is printed."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields

from chipmedic.tool_report import ChipReport, Health, ToolReport
from chipmedic_collectors.reading.judging import worst_health


class Samples:
    """Collects chips into a report; a further sample of a chip brings its values up to date.

    The caller says what makes two rows one chip, because that differs: two devices of one board
    may share a PCI address, two boards a serial number.
    """

    def __init__(self, report: ToolReport) -> None:
        self._report = report
        self._chips: dict[Hashable, ChipReport] = {}

    def add(self, key: Hashable, chip: ChipReport) -> ChipReport:
        """Add a chip, or merge it into the one of this key; return the one in the report.

        A key of None is a chip that cannot be told from others.
        """
        known = self._chips.get(key) if key is not None else None
        if known is None:
            if key is not None:
                self._chips[key] = chip
            self._report.chips.append(chip)
            return chip
        merge(known, chip)
        return known


def merge(known: ChipReport, chip: ChipReport) -> None:
    """Bring a chip up to date; one good sample does not undo a bad one of the same answer."""
    health: Health | None = worst_health((known.health, chip.health))
    for one in fields(ChipReport):
        value = getattr(chip, one.name)
        if value is not None and one.name != "die":
            setattr(known, one.name, value)
    known.health = health
