"""The audit: what a person or chipmedic has done, for ever; one function writes it.

Append only (triggers of the database refuse a change) and chained (`chipmedic.audit_chain`). The
head's row is locked from the append to the end of its transaction, so entries of several watchdogs
stand in one order. Append last in a transaction: the lock holds up the others' acts.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, Select, insert, select

from chipmedic.audit_chain import GENESIS, Head, entry_hash
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import upsert, write_rows

VIA: ContextVar[str] = ContextVar("chipmedic_via", default="")
"""How the one on whose behalf is written has proven who it is; empty: chipmedic itself."""


def append(
    connection: Connection, *, at: float, who: str, act: str, target: str, **detail: Any
) -> None:
    """Write that `who` has done `act` to `target`; durable with the caller's transaction."""
    head = _locked_head(connection)
    entry: dict[str, Any] = {
        "id": head.seq + 1,
        "at": float(at),
        "who": who,
        "via": VIA.get(),
        "act": act,
        "target": target,
        # As it comes back: lists for tuples, texts for keys.
        "detail": json.loads(json.dumps(detail)),
        "previous": head.hash,
    }
    entry["hash"] = entry_hash(entry)
    connection.execute(insert(schema.audit).values(entry))
    write_rows(
        connection, schema.audit_head, [{"id": 1, "seq": entry["id"], "hash": entry["hash"]}]
    )


def read_head(connection: Connection) -> Head:
    """Return where the audit ends, as the store itself remembers it."""
    return _head(connection, select(schema.audit_head))


def _locked_head(connection: Connection) -> Head:
    # A row that is not there cannot be locked. SQLite's writers come one after the other anyway.
    first = {"id": 1, "seq": 0, "hash": GENESIS}
    if not connection.execute(select(schema.audit_head.c.id)).first():
        connection.execute(upsert(connection, schema.audit_head, ()), first)
    return _head(connection, select(schema.audit_head).with_for_update())


def _head(connection: Connection, query: Select[Any]) -> Head:
    row = connection.execute(query).one_or_none()
    return Head() if row is None else Head(row.seq, row.hash)
