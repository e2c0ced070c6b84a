"""Fixtures of the watchdog's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from intake_rig import Intake


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = open_engine(f"sqlite:///{tmp_path}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    yield database
    database.close()


@pytest.fixture
async def intake(database: Database) -> AsyncIterator[Intake]:
    async with Intake(database).running() as running:
        yield running
