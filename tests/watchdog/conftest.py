"""Fixtures of the watchdog's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text, update

from chipmedic.audit_chain import GENESIS
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from chipmedic_watchdog.store.schema import METADATA
from intake_rig import Intake
from postgres_server import PostgresServer

STORES = ("sqlite", "postgresql")
"""Every test of the store's users runs over both: they are one contract."""


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty store with all of its tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/watchdog.db"
        engine = open_engine(url)
        migrate(engine)
        engine.dispose()
        yield url
        return
    yield request.getfixturevalue("postgres_url")


@pytest.fixture(scope="session")
def postgres_tables(postgres: PostgresServer) -> str:
    """The address of a database with all tables."""
    url = postgres.url(postgres.new_database())
    engine = open_engine(url)
    migrate(engine)
    engine.dispose()
    return url


@pytest.fixture
def postgres_url(postgres_tables: str) -> str:
    """The address of that database, emptied: faster than a new one for each test."""
    engine = open_engine(postgres_tables)
    with engine.begin() as connection:
        # What is written once by a migration stays; the audit refuses to be emptied otherwise.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        names = ", ".join(METADATA.tables.keys() - {"audit_head"})
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
        connection.execute(update(schema.audit_head).values(seq=0, hash=GENESIS))
    engine.dispose()
    return postgres_tables


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = Database(open_engine(store_url))
    yield database
    database.close()


@pytest.fixture
async def intake(database: Database) -> AsyncIterator[Intake]:
    async with Intake(database).running() as running:
        yield running
