"""The loop as the daemon runs it: from an incident in the store to a real receiver."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import NodeView
from chipmedic_watchdog.notify.loop import NotifyLoop
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.notify.standing import ChannelState
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from waiting import PATIENCE_SECONDS, eventually
from watchdog.notify import story
from watchdog.notify.receivers import HttpReceiver


def webhook(url: str, folder: Path, timeout_seconds: float = 60.0) -> ChannelSettings:
    (folder / "key").write_text("key")
    return ChannelSettings(
        kind=ChannelKind.WEBHOOK,
        url=url,
        secret_file=str(folder / "key"),
        timeout_seconds=timeout_seconds,
    )


def settings(**channels: ChannelSettings) -> NotifySettings:
    return NotifySettings(channels=channels, retry_first_seconds=0.05, decision_wait_seconds=0.1)


@asynccontextmanager
async def running(loop: NotifyLoop) -> AsyncIterator[NotifyLoop]:
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def states(database: Database) -> dict[str, str]:
    return {row["id"]: row["state"] for row in story.rows(database, schema.notices)}


def put_incident(database: Database, number: int = 42, **values: Any) -> str:
    now = time.time()
    identity = f"inc-{number:06d}"
    story.put_incident(database, identity, fault_at=now, opened_at=now, updated_at=now, **values)
    return identity


async def test_a_notice_is_sent_when_the_loop_is_woken(database: Database, tmp_path: Path) -> None:
    with HttpReceiver() as receiver:
        loop = NotifyLoop(database, settings(desk=webhook(receiver.url, tmp_path)))
        async with running(loop):
            await asyncio.sleep(0.1)
            for number in range(1, 10):
                put_incident(database, number)
                story.put_recovery(database, f"rec-{number:06d}", incident=f"inc-{number:06d}")
                loop.wake()
                await eventually(lambda n=number: len(receiver.requests) == n)  # type: ignore[misc]
            await eventually(lambda: set(states(database).values()) == {"delivered"})
    row = story.rows(database, schema.notices)[0]
    assert (row["attempts"], row["receipt"]) == (1, "HTTP 200")
    assert row["delivered_at"] - row["created_at"] >= 0


async def test_a_receiver_that_fails_at_first_gets_it_in_the_end(
    database: Database, tmp_path: Path
) -> None:
    put_incident(database)
    with HttpReceiver(answers=[(500, {}), (502, {})]) as receiver:
        async with running(NotifyLoop(database, settings(desk=webhook(receiver.url, tmp_path)))):
            await eventually(lambda: "delivered" in states(database).values())
    ids = [request.headers["X-Chipmedic-Notice-Id"] for request in receiver.requests]
    assert ids == ["inc-000042/opened-1/desk"] * 3
    assert story.rows(database, schema.notices)[0]["attempts"] == 3


async def test_a_refusal_for_good_is_marked_and_not_tried_again(
    database: Database, tmp_path: Path
) -> None:
    put_incident(database)
    with HttpReceiver(answers=[(410, {})]) as receiver:
        async with running(NotifyLoop(database, settings(desk=webhook(receiver.url, tmp_path)))):
            await eventually(lambda: "failed" in states(database).values())
            await asyncio.sleep(0.3)
    assert len(receiver.requests) == 1
    assert story.rows(database, schema.notices)[0]["last_error"] == "HTTP 410: not now"


async def test_a_receiver_that_is_down_gets_all_of_it_when_it_is_back(
    database: Database, tmp_path: Path
) -> None:
    with HttpReceiver() as receiver:
        port = receiver.port
    dead = webhook(f"http://127.0.0.1:{port}/chipmedic", tmp_path)
    for number in range(5):
        put_incident(database, number)
    async with running(NotifyLoop(database, settings(desk=dead))):
        await eventually(lambda: any(r["attempts"] for r in story.rows(database, schema.notices)))
        assert set(states(database).values()) == {"pending"}
    with HttpReceiver() as receiver:
        back = webhook(receiver.url, tmp_path)
        async with running(NotifyLoop(database, settings(desk=back))):
            await eventually(lambda: list(states(database).values()) == ["delivered"] * 5)
    assert len({r.headers["X-Chipmedic-Notice-Id"] for r in receiver.requests}) == 5


async def test_one_slow_channel_delays_no_other(database: Database, tmp_path: Path) -> None:
    released = threading.Event()
    with (
        HttpReceiver(before_answer=lambda: released.wait(PATIENCE_SECONDS)) as slow,
        HttpReceiver() as quick,
    ):
        channels = settings(slow=webhook(slow.url, tmp_path), quick=webhook(quick.url, tmp_path))
        loop = NotifyLoop(database, channels)
        async with running(loop):
            for number in range(3):
                put_incident(database, number)
            loop.wake()
            await eventually(lambda: len(quick.requests) == 3)
            assert "delivered" not in {
                row["state"]
                for row in story.rows(database, schema.notices)
                if row["channel"] == "slow"
            }
            released.set()


async def test_killed_between_delivery_and_record_it_comes_again_with_the_same_id(
    database: Database, tmp_path: Path
) -> None:
    put_incident(database)
    with HttpReceiver() as receiver:
        channel = settings(desk=webhook(receiver.url, tmp_path))
        dead = threading.Event()
        receiver.before_answer = lambda: dead.wait(PATIENCE_SECONDS)
        try:
            async with running(NotifyLoop(database, channel)):
                await eventually(lambda: receiver.requests != [])
                # The receiver has it; the watchdog dies before the answer.
        finally:
            dead.set()
        assert list(states(database).values()) == ["pending"]
        async with running(NotifyLoop(database, channel)):
            await eventually(lambda: list(states(database).values()) == ["delivered"])
    ids = [request.headers["X-Chipmedic-Notice-Id"] for request in receiver.requests]
    assert ids == ["inc-000042/opened-1/desk"] * 2


async def test_the_first_notice_tells_the_decision_that_comes_a_moment_later(
    database: Database, tmp_path: Path
) -> None:
    with HttpReceiver() as receiver:
        desk = settings(desk=webhook(receiver.url, tmp_path))
        loop = NotifyLoop(database, replace(desk, decision_wait_seconds=PATIENCE_SECONDS))
        async with running(loop):
            put_incident(database)
            loop.wake()
            await asyncio.sleep(0.03)
            story.put_recovery(database, state="running")
            loop.wake()
            await eventually(lambda: bool(receiver.requests))
    assert b"chipmedic will isolate gpu-017" in receiver.requests[0].body
    assert len(receiver.requests) == 1


async def test_after_a_day_of_trying_it_has_failed(database: Database, tmp_path: Path) -> None:
    put_incident(database)
    with HttpReceiver(answers=[(500, {})] * 9) as receiver:
        impatient = NotifySettings(
            channels={"desk": webhook(receiver.url, tmp_path)},
            retry_first_seconds=0.05,
            give_up_after_seconds=0.2,
        )
        async with running(NotifyLoop(database, impatient)):
            await eventually(lambda: list(states(database).values()) == ["failed"])


async def test_missing_secrets_and_no_channels_are_said_at_the_start(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = ChannelSettings(kind=ChannelKind.APPRISE, url_file=str(tmp_path / "gone"))
    for channels, words in (
        (settings(chat=lost), "channel cannot deliver: channel=chat"),
        (settings(), "nobody is told of anything"),
    ):
        async with running(NotifyLoop(database, channels)):
            await eventually(lambda said=words: said in caplog.text)  # type: ignore[misc]


def absent(database: Database) -> None:
    put_incident(database, kind="node.unreachable", jobs=[])
    story.put_fault(database, kind="node.unreachable", component="host", codes=[], evidence=[])


async def test_the_scheduler_is_asked_about_a_silent_node_before_people_are_told(
    database: Database, tmp_path: Path
) -> None:
    asked = 0

    async def witness() -> dict[str, NodeView]:
        nonlocal asked
        asked += 1
        view = NodeView(node="gpu-017", is_available=False, is_down=True, why="drained*: fans",
                        expected="drained*: fans")  # fmt: skip
        return {"gpu-017": view}

    with HttpReceiver() as receiver:
        desk = settings(desk=webhook(receiver.url, tmp_path))
        async with running(NotifyLoop(database, desk, witness=witness)) as loop:
            absent(database)
            loop.wake()
            await eventually(lambda: bool(story.rows(database, schema.notice_holds)))
            await asyncio.sleep(0.3)
    assert receiver.requests == []
    assert asked == 1


async def test_a_scheduler_that_fails_or_hangs_costs_three_seconds_and_no_page(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def witness() -> dict[str, NodeView]:
        raise DeliveryFailed("sinfo: no answer in 10 s")

    async def hanging() -> dict[str, NodeView]:
        await asyncio.sleep(3600)
        return {}

    for number, ask in enumerate((witness, hanging), start=1):
        with HttpReceiver() as receiver:
            desk = settings(desk=webhook(receiver.url, tmp_path))
            start = time.monotonic()
            kind = {"kind": "node.unreachable", "jobs": []}
            identity = put_incident(database, number, **kind)
            story.put_fault(database, kind="node.unreachable", component="host",
                            node=f"gpu-{number}", incident=identity)  # fmt: skip
            async with running(NotifyLoop(database, desk, witness=ask)):
                done = ["delivered"] * number
                await eventually(lambda n=done: list(states(database).values()) == n)  # type: ignore[misc]
        assert time.monotonic() - start > 2
    assert "sinfo: no answer in 10 s" in caplog.text


async def test_how_a_channel_fares_is_counted_and_outlives_a_restart(
    database: Database, tmp_path: Path
) -> None:
    with HttpReceiver() as receiver:
        receiver.answers = [(500, {}), (500, {})]
        desk = settings(desk=webhook(receiver.url, tmp_path))
        put_incident(database, 1)
        loop = NotifyLoop(database, desk)
        before = ChannelState(name="desk", last_success_at=None, failures_in_a_row=0)
        assert loop.channel_states() == [before]
        seen: list[int] = []
        receiver.before_answer = lambda: seen.append(loop.channel_states()[0].failures_in_a_row)
        async with running(loop):
            await eventually(lambda: list(states(database).values()) == ["delivered"])
        [after] = loop.channel_states()
        assert (seen, after.failures_in_a_row) == ([0, 1, 2], 0)
        again = NotifyLoop(database, desk)
        async with running(again):
            await eventually(lambda: again.channel_states() == [after])
