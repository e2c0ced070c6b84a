"""Chips that an answer states twice, because the tool was run twice into one log."""

from __future__ import annotations

from collections.abc import Hashable

from chipmedic.tool_report import ChipReport, ToolReport
from chipmedic_collectors.reading.samples import merge


def merge_repeats(report: ToolReport) -> None:
    """Keep each chip once, with the later values; so also each link, and each process as stated.

    Two rows are one chip when all that names them is the same. A row without any name is a chip of
    its own.
    """
    known: dict[Hashable, ChipReport] = {}
    kept: list[ChipReport] = []
    for chip in report.chips:
        names = (chip.index, chip.pci, chip.uuid, chip.serial)
        is_named = any(name is not None for name in names)
        earlier = known.setdefault((*names, chip.die), chip) if is_named else chip
        if earlier is chip:
            kept.append(chip)
        else:
            merge(earlier, chip)
    report.chips[:] = kept
    for chip in kept:
        if chip.links:
            numbered = {link.index: link for link in chip.links if link.index is not None}
            unnumbered = [link for link in chip.links if link.index is None]
            chip.links = [*numbered.values(), *unnumbered]
        if chip.processes:
            chip.processes = list(dict.fromkeys(chip.processes))
