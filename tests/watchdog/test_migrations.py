"""Migrations against a real SQLite file."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from chipmedic.errors import StoreError
from chipmedic_watchdog.store.database import open_engine
from chipmedic_watchdog.store.migrate import migrate
from chipmedic_watchdog.store.schema import METADATA


def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/watchdog.db"


def test_an_empty_store_gets_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    engine = open_engine(url(tmp_path))
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        # compare_metadata does not look at partial indexes' conditions.
        (sql,) = connection.execute(
            text("SELECT sql FROM sqlite_master WHERE name = 'one_open_fault'")
        ).one()
    assert "UNIQUE" in sql
    assert "WHERE state != 'cleared'" in sql
    engine.dispose()


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    engine = open_engine(url(tmp_path))
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO counters VALUES ('incident', 7)"))
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT value FROM counters")).scalar_one() == 7
    engine.dispose()


def test_a_newer_store_is_refused_in_one_line(tmp_path: Path) -> None:
    engine = open_engine(url(tmp_path))
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"is of schema 9999, this program knows \d+") as refusal:
        migrate(engine)
    assert "\n" not in str(refusal.value)
    engine.dispose()


def test_a_failed_step_leaves_nothing_half_done(tmp_path: Path) -> None:
    engine = open_engine(url(tmp_path))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE ledger (something_else INTEGER)"))
    with pytest.raises(StoreError, match="ledger"):
        migrate(engine)
    assert inspect(engine).get_table_names() == ["ledger"]
    engine.dispose()


def test_a_store_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "watchdog.db").write_bytes(b"not a database at all, certainly" * 40)
    engine = open_engine(url(tmp_path))
    with pytest.raises(StoreError, match="not a database"):
        migrate(engine)
    engine.dispose()
