"""INSERT that updates the row which is there already, in the words of each database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(connection: Connection, table: Table, columns: Iterable[str]) -> Executable:
    """Return an INSERT over these columns that overwrites all of them but the key."""
    return _upsert(connection.dialect.name, table, tuple(columns))


@cache
def _upsert(dialect: str, table: Table, columns: tuple[str, ...]) -> Executable:
    """To put a statement together costs as much as to run it; there are few different ones."""
    insert: Any = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    key = [column.name for column in table.primary_key]
    rest = {name: insert.excluded[name] for name in columns if name not in key}
    statement: Executable = (
        insert.on_conflict_do_update(index_elements=key, set_=rest)
        if rest
        else insert.on_conflict_do_nothing(index_elements=key)
    )
    return statement


def write_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert or overwrite rows that all have the same columns."""
    if rows:
        connection.execute(upsert(connection, table, rows[0]), rows)
