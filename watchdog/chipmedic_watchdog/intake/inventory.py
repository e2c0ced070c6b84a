"""The chips of the nodes, as their agents last told them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from chipmedic.model import Chip
from chipmedic_watchdog.intake.arrival import Inventory
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows


def write_inventories(connection: Connection, inventories: Mapping[str, Inventory]) -> None:
    """Make the table say what each node's agent says; chips that it no longer names are forgotten.

    All nodes of a group at once: while a fleet comes back there are hundreds in each.
    """
    if not inventories:
        return
    table = schema.chips
    named = {(node, chip.uid) for node, chips in inventories.items() for chip, _ in chips}
    known = connection.execute(
        select(table.c.node, table.c.uid).where(table.c.node.in_(sorted(inventories)))
    )
    gone = [
        {"of_node": row.node, "of_uid": row.uid}
        for row in known
        if (row.node, row.uid) not in named
    ]
    if gone:
        which = (table.c.node == bindparam("of_node"), table.c.uid == bindparam("of_uid"))
        connection.execute(delete(table).where(*which), gone)
    rows = {
        (node, chip.uid): _row(node, chip, is_missing=is_missing)
        for node, chips in inventories.items()
        for chip, is_missing in chips
    }
    write_rows(connection, table, list(rows.values()))


def _row(node: str, chip: Chip, *, is_missing: bool) -> dict[str, Any]:
    return {
        "node": node,
        "uid": chip.uid,
        "vendor": chip.vendor,
        "model": chip.model,
        "chip_index": chip.index,
        "die": chip.die,
        "serial": chip.serial,
        "pci": chip.pci,
        "is_missing": is_missing,
    }
