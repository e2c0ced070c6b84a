"""The audit in a real store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update

from chipmedic.audit_chain import Head, verify
from chipmedic.errors import StoreError
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from intake_rig import rows


def write(database: Database, target: str, **detail: Any) -> None:
    database.write_now(
        lambda c: audit.append(c, at=1, who="mei", act="resolve", target=target, **detail)
    )


def test_entries_are_chained_and_read_back_as_they_were_written(database) -> None:
    write(database, "inc-1", why="replaced the board", nodes=("n1", "n2"))
    write(database, "inc-2", why="重启", ratio=0.1)
    entries = rows(database, schema.audit)
    found = verify(entries, [database.read_now(audit.read_head)])
    assert found.problems == ()
    assert found.head.seq == 2
    assert entries[0]["detail"] == {"why": "replaced the board", "nodes": ["n1", "n2"]}


async def test_who_works_through_a_token_is_told_apart(database) -> None:
    def work(connection: Any) -> None:
        audit.append(connection, at=1, who="mei", act="approve", target="rec-1")

    was = audit.VIA.set("token:ab12")
    await database.write(work)
    audit.VIA.reset(was)
    await database.write(work)
    assert [row["via"] for row in rows(database, schema.audit)] == ["token:ab12", ""]


def test_an_act_that_failed_leaves_no_entry_and_no_hole(database) -> None:
    def work(connection: Any) -> None:
        audit.append(connection, at=1, who="mei", act="approve", target="rec-1")
        raise StoreError("full")

    write(database, "inc-1")
    with pytest.raises(StoreError):
        database.write_now(work)
    write(database, "inc-2")
    entries = rows(database, schema.audit)
    assert [row["id"] for row in entries] == [1, 2]
    assert verify(entries).problems == ()


def test_the_store_refuses_to_change_or_remove_an_entry(database) -> None:
    write(database, "inc-1")
    for statement in (update(schema.audit).values(who="bo"), delete(schema.audit)):
        with pytest.raises(StoreError, match="append-only"):
            database.write_now(lambda c, s=statement: c.execute(s))
    assert [row["who"] for row in rows(database, schema.audit)] == ["mei"]


def test_processes_that_write_at_once_stand_in_one_order(database, store_url: str) -> None:
    """Two engines on one store are two processes to it."""
    other = Database(open_engine(store_url))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: write((database, other)[n % 2], f"inc-{n}"), range(40)))
    other.close()
    entries = rows(database, schema.audit)
    assert len(entries) == 40
    assert verify(entries, [database.read_now(audit.read_head)]).problems == ()


def test_what_an_older_version_wrote_is_chained_by_the_migration(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/watchdog.db")
    migrate(engine)
    with engine.begin() as connection:
        for statement in (
            "DROP TRIGGER audit_refuses_update", "DROP TRIGGER audit_refuses_delete",
            "DROP TABLE audit_head", "DROP TABLE tokens", "DROP TABLE certificates",
            "ALTER TABLE audit DROP COLUMN via", "ALTER TABLE audit DROP COLUMN previous",
            "ALTER TABLE audit DROP COLUMN hash",
            "INSERT INTO audit VALUES (3, 5.5, 'mei', 'hold', 'recovery', '{\"why\":\"test\"}')",
            "INSERT INTO audit VALUES (7, 6.5, 'bo', 'release', 'recovery', '{}')",
            "UPDATE alembic_version SET version_num = '0005'",
        ):  # fmt: skip
            connection.execute(text(statement))
    _migrate_only_ours(engine)
    with engine.connect() as connection:
        entries = [dict(row) for row in connection.execute(select(schema.audit)).mappings()]
        head = audit.read_head(connection)
    engine.dispose()
    assert [(row["id"], row["who"]) for row in entries] == [(1, "mei"), (2, "bo")]
    assert verify(entries, [head]).problems == ()
    assert head == Head(2, entries[1]["hash"])


def _migrate_only_ours(engine: Any) -> None:
    """Run this one step: those after it are in the store already."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    from chipmedic_watchdog.store.migrate import MIGRATIONS

    script = ScriptDirectory(str(MIGRATIONS)).get_revision("0006")
    with (
        engine.begin() as connection,
        Operations.context(MigrationContext.configure(connection)),
    ):
        script.module.upgrade()
