"""The chips of one answer, each once however often it is printed."""

from __future__ import annotations

from chipmedic.tool_report import ChipReport, ToolReport
from chipmedic_collectors.reading.samples import merge


class Chips:
    """Collects chips into a report; a repeated sample of a chip brings its values up to date.

    A chip is recognised by its PCI address, else its index, else its UUID, else its serial number.
    Other addresses are other chips, even where they share a masked UUID or a board's serial.
    """

    def __init__(self, report: ToolReport) -> None:
        self._chips = report.chips

    def add(self, chip: ChipReport) -> ChipReport:
        """Add a chip, or merge it into the one that it is; return the one in the report."""
        known = self.find(chip)
        if known is None:
            self._chips.append(chip)
            return chip
        return self.update(known, chip)

    @staticmethod
    def update(known: ChipReport, chip: ChipReport) -> ChipReport:
        """Bring a chip of the report up to date with a further sample of it."""
        merge(known, chip)
        return known

    def find(self, chip: ChipReport) -> ChipReport | None:
        """Return the chip of the report that this is, or None."""
        return next((known for known in self._chips if _is_same(known, chip)), None)


def _is_same(one: ChipReport, other: ChipReport) -> bool:
    for name in ("pci", "index", "uuid", "serial"):
        mine, yours = getattr(one, name), getattr(other, name)
        if mine is not None and yours is not None:
            return bool(mine == yours)
    return False
