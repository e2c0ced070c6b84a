"""The lead of several watchdogs over a real PostgreSQL: lease, fence, signals."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import insert, select, update

from chipmedic.errors import ToolFailed
from chipmedic.testing import FakeHost
from chipmedic_watchdog.lead import lease
from chipmedic_watchdog.lead.leader import lead_while_held
from chipmedic_watchdog.lead.lease import LEASE_SECONDS, Deposed, Member
from chipmedic_watchdog.lead.signals import Listener, Signal, tell
from chipmedic_watchdog.notify.loop import NotifyLoop
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.recover.leading_host import LeadingHost
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine, token_of
from chipmedic_watchdog.web import details
from intake_rig import rows
from lead_rig import Watchdog, expire, two_watchdogs
from waiting import PATIENCE_SECONDS, eventually
from watchdog.notify import story
from watchdog.notify.receivers import HttpReceiver


@pytest.fixture
def store_url(postgres_url: str) -> str:
    """Of PostgreSQL alone: an SQLite file has one watchdog."""
    return postgres_url


@pytest.fixture
async def watchdogs(store_url: str) -> AsyncIterator[tuple[Watchdog, Watchdog]]:
    async with two_watchdogs(store_url) as pair:
        yield pair


async def test_one_leads_until_its_lease_is_over_and_the_token_grows(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    await b.lead.beat()
    assert (a.lead.is_held, b.lead.is_held) == (True, False)
    first = a.lead.token
    assert b.lead.token == first
    assert b.lead.leader == "head-a:7443"
    await a.lead.beat()
    await b.lead.beat()
    assert (a.lead.token, b.lead.is_held) == (first, False), "a renewal is no change of the lead"
    expire(a.database)
    await b.lead.beat()
    assert b.lead.is_held
    second = b.lead.token
    assert second > first
    await a.lead.beat()
    assert (a.lead.is_held, a.lead.token) == (False, second)


async def test_a_token_is_above_those_before_a_loss_or_a_backup_of_the_store(watchdogs) -> None:
    """Agents keep the highest token that they have seen."""
    a, b = watchdogs
    await a.lead.beat()
    assert a.lead.token > 1_700_000_000
    a.database.write_now(
        lambda c: c.execute(update(schema.lease).values(token=1_700_000_000, expires_at=1.0))
    )
    await b.lead.beat()
    assert b.lead.token >= a.lead.token
    ahead = b.lead.token + 1_000
    b.database.write_now(
        lambda c: c.execute(update(schema.lease).values(token=ahead, expires_at=1.0))
    )
    await a.lead.beat()
    assert a.lead.token == ahead + 1


async def test_a_leader_that_cannot_renew_ceases_before_another_may_begin(watchdogs) -> None:
    a, _ = watchdogs
    await a.lead.beat()
    a.at += LEASE_SECONDS - 0.6
    assert a.lead.is_held
    a.at += 0.2
    assert not a.lead.is_held
    with pytest.raises(Deposed):
        a.store.assert_leading()
    with pytest.raises(Deposed):
        await a.store.write(lambda c: c.execute(select(1)))


async def test_a_deposed_leaders_write_fails_and_leaves_nothing(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    await a.store.write(lambda c: c.execute(insert(schema.counters).values(name="x", value=1)))
    expire(a.database)
    await b.lead.beat()
    assert a.lead.is_held, "by its own clock it still leads"
    changes: list[bool] = []
    a.lead.on_change = lambda: changes.append(a.lead.is_held)
    with pytest.raises(Deposed, match="another watchdog leads now"):
        await a.store.write(lambda c: c.execute(update(schema.counters).values(value=2)))
    assert changes == [False], "it steps down"
    assert rows(b.database, schema.counters)[0]["value"] == 1


async def test_a_takeover_waits_for_the_write_under_way(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection):
        inside.set()
        go_on.wait(PATIENCE_SECONDS)
        connection.execute(insert(schema.counters).values(name="x", value=1))

    writing = asyncio.create_task(a.store.write(slow))
    await asyncio.to_thread(inside.wait, PATIENCE_SECONDS)
    await a.lead.beat()  # a renewal does not wait for it
    expire_at_server = asyncio.to_thread(expire, b.beats)
    await expire_at_server
    taking = asyncio.create_task(b.lead.beat())
    await asyncio.sleep(0.3)
    assert not taking.done()
    go_on.set()
    await writing
    await taking
    assert b.lead.is_held
    assert rows(b.database, schema.counters) == [{"name": "x", "value": 1}]


async def test_the_sessions_of_a_leader_that_stands_still_are_ended(watchdogs, store_url) -> None:
    """It holds its lock, and here the server would let it do so for ever."""
    a, b = watchdogs
    await a.lead.beat()
    stopped = open_engine(store_url, "a").connect()
    stopped.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
    lease.require(stopped, "a", a.lead.token)  # and never a word again
    expire(b.database)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not b.lead.is_held:
            with contextlib.suppress(Exception):
                await b.lead.beat()
    stopped.invalidate()
    stopped.engine.dispose()


async def test_writes_say_under_which_token_they_are_made(watchdogs) -> None:
    a, _ = watchdogs
    await a.lead.beat()
    assert await a.store.write(token_of) == a.lead.token == a.store.fencing_token
    assert await a.database.write(token_of) == 0


async def test_one_that_stops_gives_the_lead_up_at_once(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    await a.lead.release()
    assert not a.lead.is_held
    await b.lead.beat()
    assert b.lead.is_held
    assert set(b.lead.view.alive) == {"b"}


async def test_the_leading_parts_run_only_while_it_leads(watchdogs) -> None:
    a, b = watchdogs
    running: list[str] = []

    async def part() -> None:
        running.append("x")
        try:
            await asyncio.Event().wait()
        finally:
            running.clear()

    task = asyncio.create_task(lead_while_held(a.lead, {"part": part}))
    await asyncio.sleep(0.2)
    assert running == []
    await a.lead.beat()
    await eventually(lambda: running == ["x"])
    expire(a.database)
    await b.lead.beat()
    await a.lead.beat()
    await eventually(lambda: running == [])
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_an_act_of_a_person_and_a_write_of_the_leader_follow_each_other(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    acted = threading.Event()

    def act(connection):
        lease.stand_before_the_leader(connection)
        connection.execute(insert(schema.counters).values(name="hold", value=1))
        acted.set()
        threading.Event().wait(0.3)

    acting = asyncio.create_task(b.database.write(act))
    await asyncio.to_thread(acted.wait, PATIENCE_SECONDS)
    seen = await a.store.write(lambda c: c.execute(select(schema.counters.c.value)).scalar())
    await acting
    assert seen == 1, "what was said before is seen"


async def test_a_signal_of_another_watchdog_is_heard_after_its_commit(watchdogs) -> None:
    a, b = watchdogs
    heard: list[str] = []
    ready = asyncio.Event()
    listener = Listener(
        a.database.engine, "a",
        {Signal.FAULTS: lambda: heard.append("faults"), Signal.ACT: ready.set},
    )  # fmt: skip
    task = asyncio.create_task(listener.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ready.wait()  # it is rung once when it begins to hear
    heard.clear()
    await b.database.write(lambda c: tell(c, Signal.FAULTS))
    await eventually(lambda: heard != [])
    with b.database.engine.begin() as connection:  # the server ends the listener's session
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query = 'LISTEN chipmedic'"
        )
    ready.clear()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ready.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def racing(store_url: str) -> Iterator[list[Database]]:
    made = [Database(open_engine(store_url, f"w{n}")) for n in range(6)]
    yield made
    for one in made:
        one.close()


def test_of_many_that_start_together_one_leads(racing: list[Database]) -> None:
    views = []

    def start(number: int) -> None:
        me = Member(id=f"w{number}", name=f"w{number}", http="", version="")
        views.append(racing[number].write_now(lambda c: lease.beat(c, me, None)))

    threads = [threading.Thread(target=start, args=(n,)) for n in range(len(racing))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert len({(view.holder, view.token) for view in views}) == 1
    assert len(rows(racing[0], schema.lease)) == 1


async def test_each_of_several_is_listed_with_who_leads(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    await b.lead.beat()
    found = a.database.read_now(lambda c: details.watchdogs(c, {}))["items"]
    assert [(w["name"], w["is_alive"], w["is_leader"]) for w in found] == [
        ("head-a:7443", True, True),
        ("head-b:7443", True, False),
    ]
    assert [w["token"] for w in found] == [a.lead.token, None]
    await b.connect("n1")
    where = a.database.read_now(lambda c: details.whereabouts(c, "n1"))
    assert where == "connected to head-b:7443: ask http://x"


class DeposedStore(Database):
    """Of a watchdog that was stopped after it had read, and wakes when another leads."""

    def assert_leading(self) -> None:
        raise Deposed("this watchdog does not lead")


async def test_a_leader_that_wakes_deposed_sends_no_notice(watchdogs, tmp_path) -> None:
    a, _ = watchdogs
    story.put_incident(a.database)
    (tmp_path / "key").write_text("key")
    with HttpReceiver() as receiver:
        desk = ChannelSettings(
            kind=ChannelKind.WEBHOOK, url=receiver.url, secret_file=str(tmp_path / "key")
        )
        settings = NotifySettings(channels={"desk": desk}, decision_wait_seconds=0.0)
        deposed = DeposedStore(a.database.engine)
        task = asyncio.create_task(NotifyLoop(deposed, settings, now=lambda: story.NOW).run())
        await eventually(lambda: rows(a.database, schema.notices))
        await asyncio.sleep(0.5)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert receiver.requests == []
    assert [n["state"] for n in rows(a.database, schema.notices)] == ["pending"]


def test_a_leader_that_wakes_deposed_runs_no_tool() -> None:
    host = FakeHost(tools={"scontrol update": "done"})
    leads = [True]

    def assert_leading() -> None:
        if not leads[0]:
            raise Deposed("this watchdog does not lead")

    guarded = LeadingHost(host, assert_leading)
    assert guarded.run(["scontrol", "update"], timeout_seconds=1).stdout == "done"
    leads[0] = False
    with pytest.raises(ToolFailed, match="scontrol: not started: this watchdog does not lead"):
        guarded.run(["scontrol", "update"], timeout_seconds=1)
