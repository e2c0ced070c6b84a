"""A store that takes no more while notices wait: everybody is told, and nobody twice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from chipmedic.errors import StoreError
from chipmedic_watchdog.notify import courier, outbox
from chipmedic_watchdog.notify.channels import make
from chipmedic_watchdog.notify.courier import Courier
from chipmedic_watchdog.notify.receipts import Receipts
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from waiting import eventually
from watchdog.notify import story
from watchdog.notify.receivers import HttpReceiver
from watchdog.notify.test_loop import settings, webhook

Result = TypeVar("Result")


class FullStore:
    """A real store that can be read, and written only while there is room."""

    fencing_token = 0

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_full = True
        self.refusals = 0

    def assert_leading(self) -> None:
        """Nobody else could lead."""

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` over the real store."""
        return await self._database.read(work)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in the real store, or say that its disk is full."""
        if self.is_full:
            self.refusals += 1
            raise StoreError("store: database or disk is full")
        return await self._database.write(work)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "STORE_RETRY_SECONDS", 0.02)


def put_notice(database: Database, number: int, **values: object) -> str:
    incident = f"inc-{number:06d}"
    story.put_incident(database, incident)
    row = {
        "id": f"{incident}/opened-1/desk", "incident": incident, "channel": "desk",
        "severity": 3, "state": "pending", "title": incident, "body": "", "data": {},
        "occasion": "opened",
        "created_at": story.NOW + number, "next_attempt_at": 0.0,
    }  # fmt: skip
    story.put(database, schema.notices, **(row | values))
    return str(row["id"])


async def test_what_arrived_is_told_once_however_long_the_disk_is_full(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = {put_notice(database, number) for number in range(3)}
    store = FullStore(database)
    with HttpReceiver() as receiver:
        desk = webhook(receiver.url, tmp_path)
        chosen = settings(desk=desk)
        serving = Courier(store, make("desk", desk), chosen)
        with caplog.at_level(logging.WARNING):
            task = asyncio.create_task(serving.run())
            await eventually(lambda: store.refusals >= 10)
        assert {row["state"] for row in story.rows(database, schema.notices)} == {"pending"}
        store.is_full = False
        await eventually(
            lambda: {r["state"] for r in story.rows(database, schema.notices)} == {"delivered"}
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    told = Counter(request.headers["X-Chipmedic-Notice-Id"] for request in receiver.requests)
    assert told == dict.fromkeys(expected, 1)
    lines = [line for line in caplog.messages if "outbox" in line]
    assert lines == [
        "outbox not read or written: channel=desk why=store: database or disk is full"
    ], "one line, not one for each try"


async def test_a_channel_that_asks_to_be_left_alone_is_though_the_disk_is_full(
    database: Database, tmp_path: Path
) -> None:
    notice = put_notice(database, 1)
    store = FullStore(database)
    with HttpReceiver(answers=[(429, {"Retry-After": "3600"})]) as receiver:
        desk = webhook(receiver.url, tmp_path)
        serving = Courier(store, make("desk", desk), settings(desk=desk))
        task = asyncio.create_task(serving.run())
        await eventually(lambda: store.refusals >= 10)
        assert len(receiver.requests) == 1
        store.is_full = False
        await eventually(lambda: story.rows(database, schema.notices)[0]["attempts"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    [row] = story.rows(database, schema.notices)
    assert (row["id"], row["state"], row["attempts"]) == (notice, "pending", 1)
    assert row["next_attempt_at"] > time.time() + 1800


async def test_a_digest_that_cannot_be_written_holds_up_no_page(
    database: Database, tmp_path: Path
) -> None:
    put_notice(database, 1, digest_at=1.0, severity=2)
    page = put_notice(database, 2)
    store = FullStore(database)
    with HttpReceiver() as receiver:
        desk = webhook(receiver.url, tmp_path)
        serving = Courier(store, make("desk", desk), settings(desk=desk))
        task = asyncio.create_task(serving.run())
        await eventually(lambda: receiver.requests)
        assert receiver.requests[0].headers["X-Chipmedic-Notice-Id"] == page
        store.is_full = False
        await eventually(
            lambda: "pending" not in {r["state"] for r in story.rows(database, schema.notices)}
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(receiver.requests) == 2


async def test_what_another_watchdog_has_delivered_meanwhile_stays_delivered(
    database: Database,
) -> None:
    notice = put_notice(database, 1)
    receipts = Receipts(database)
    receipts.note_failure(notice, "no answer", None)
    database.write_now(lambda c: outbox.record_delivery(c, notice, "HTTP 200", 5.0))
    await receipts.write()
    [row] = story.rows(database, schema.notices)
    assert (row["state"], row["receipt"]) == ("delivered", "HTTP 200")
