"""CSV of `xpu-smi`: `dump`, `discovery --dump`, and the `--query-gpu` of 2.0."""

from __future__ import annotations

from chipmedic.tool_report import ChipReport, ToolReport
from chipmedic_collectors.intel import facts
from chipmedic_collectors.reading import csv_rows, fields
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.fields import split_unit
from chipmedic_collectors.reading.samples import Samples, merge
from chipmedic_collectors.values import integer

_QUERY = "--query-gpu"


def is_csv(text: str, command: CommandLine) -> bool:
    """Say whether the answer is CSV, with a header or asked for."""
    return (command.has(_QUERY) and bool(text.strip())) or csv_rows.is_csv(text, _WITH_TIME)


_WITH_TIME = {**facts.FIELDS, "timestamp": fields.NAME, "tileid": fields.INDEX}
"""Names that tell a header; the last two are no fields of a chip."""


def read_csv(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read the rows: samples repeat a chip, and with `-t` each tile has rows of its own."""
    asked = (command.value(_QUERY) or "").split(",")
    samples = Samples(report)
    tiles: dict[tuple[int | str | None, int], ChipReport] = {}
    for row in csv_rows.read_rows(text, asked, _WITH_TIME, report):
        chip = ChipReport()
        fields.fill(chip, row, facts.FIELDS)
        fields.note_driver(report, row)
        facts.drop_redundant_ratio(chip)
        key = chip.index if chip.index is not None else chip.pci or chip.uuid
        tile = _tile(row)
        if tile is None:
            samples.add(key, chip)
        elif (key, tile) in tiles:
            merge(tiles[key, tile], chip)
        else:
            tiles[key, tile] = chip
    for device in dict.fromkeys(owner for owner, _ in tiles):
        parts = [part for (owner, _), part in tiles.items() if owner == device]
        chip = samples.add(device, ChipReport(index=parts[0].index, name=parts[0].name))
        facts.combine_tiles(chip, parts)


def _tile(row: csv_rows.Pairs) -> int | None:
    return next((integer(cell) for name, cell in row if split_unit(name)[0] == "tileid"), None)
