"""The chips of a node, as its agent last told them."""

from __future__ import annotations

from sqlalchemy import Connection, delete

from chipmedic_watchdog.intake.arrival import Inventory
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows


def write_inventory(connection: Connection, node: str, inventory: Inventory) -> None:
    """Make the table say what the agent says; a chip that it no longer names is forgotten there."""
    table = schema.chips
    uids = [chip.uid for chip, _ in inventory]
    connection.execute(delete(table).where(table.c.node == node, table.c.uid.not_in(uids)))
    rows = {
        chip.uid: {
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
        for chip, is_missing in inventory
    }
    write_rows(connection, table, list(rows.values()))
