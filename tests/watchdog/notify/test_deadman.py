"""The dead man's switch: pings only what was proved, says what fails, and is silent when dead."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from chipmedic.config import loads
from chipmedic.errors import ConfigError
from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.notify import proof
from chipmedic_watchdog.notify.channels import make
from chipmedic_watchdog.notify.courier import Courier
from chipmedic_watchdog.notify.deadman import Deadman, DeadmanSettings
from chipmedic_watchdog.notify.loop import NotifyLoop
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store.database import Database, open_engine
from waiting import PATIENCE_SECONDS, eventually
from watchdog.notify.receivers import HttpReceiver, unused_port


def deadman(url: str, reasons: list[str], pings: list[bool]) -> Deadman:
    async def prove() -> list[str]:
        return reasons

    return Deadman(DeadmanSettings(url=url, timeout_seconds=60), prove, pings.append)


async def test_it_pings_while_all_is_well_and_says_what_is_not() -> None:
    pings: list[bool] = []
    with HttpReceiver() as receiver:
        await deadman(receiver.url, [], pings).ping()
        await deadman(receiver.url, ["store: disk full", "no channel delivers"], pings).ping()
    well, ill = receiver.requests
    assert (well.method, well.path) == ("GET", "/chipmedic")
    assert (ill.method, ill.path) == ("POST", "/chipmedic/fail")
    assert ill.body.decode() == "store: disk full\nno channel delivers"
    assert pings == [True, False]


async def test_a_ping_that_does_not_arrive_is_told_without_the_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pings: list[bool] = []
    caplog.set_level(logging.INFO)
    one = deadman(f"http://127.0.0.1:{unused_port()}/0a1b-secret", [], pings)
    await one.ping()
    await one.ping()
    assert pings == [False, False]
    assert caplog.text.count("does not arrive: ConnectError") == 1
    assert "0a1b-secret" not in caplog.text


async def test_the_loop_proves_itself_and_pings(database: Database) -> None:
    with HttpReceiver() as receiver:
        settings = NotifySettings(
            deadman=DeadmanSettings(url=receiver.url, interval_seconds=0.1),
        )
        troubles: list[str] = []
        loop = NotifyLoop(database, settings, troubles=lambda: troubles)
        task = asyncio.create_task(loop.run())
        await eventually(lambda: len(receiver.requests) >= 3)
        assert {request.method for request in receiver.requests} == {"GET"}
        troubles.append("the watch over silence has not moved for 31 s")
        await eventually(lambda: receiver.requests[-1].method == "POST")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        count = len(receiver.requests)
        await asyncio.sleep(0.3)
        # One that was on its way in the moment of its death may arrive after it.
        assert len(receiver.requests) <= count + 1, "a dead loop pings nobody"


async def test_a_store_that_takes_no_write_is_no_well_being(
    database: Database, tmp_path: Path
) -> None:
    assert await proof.of_store(database, 1.0) == []
    empty = Database(open_engine(f"sqlite:///{tmp_path}/empty.db"))
    (reason,) = await proof.of_store(empty, 1.0)
    empty.close()
    assert reason.startswith("store: ")


def test_a_loop_that_does_not_look_and_channels_that_all_fail(database: Database) -> None:
    assert proof.of_loop(29.0, 5.0, "") == []
    assert proof.of_loop(31.0, 5.0, "locked") == ["notices: no look for news for 31 s: locked"]
    stdout = ChannelSettings(kind=ChannelKind.STDOUT)
    settings = NotifySettings(channels={"a": stdout, "b": stdout})
    couriers = [Courier(database, make(name, stdout), settings) for name in ("a", "b")]
    now = time.time()
    assert proof.of_couriers(couriers, now) == []
    couriers[0].failing_since = now - 400
    assert proof.of_couriers(couriers, now) == [], "the other one tells people"
    couriers[1].failing_since = now - 301
    assert proof.of_couriers(couriers, now) == ["no channel delivers: a, b"]


async def test_without_an_address_nothing_runs(database: Database) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await Deadman(DeadmanSettings(), lambda: asyncio.sleep(0, []), print).run()


def test_its_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        loads('[notify.deadman]\nurl = "http://x"\nurl_file = "/x"', WatchdogSettings)
    (tmp_path / "url").write_text("https://hc.example.org/ping/abc\n")
    settings = DeadmanSettings(url_file=str(tmp_path / "url"))
    assert settings.is_on
    assert settings.read_url() == "https://hc.example.org/ping/abc"
    with pytest.raises(ConfigError, match="url_file"):
        DeadmanSettings(url_file=str(tmp_path / "gone")).read_url()
