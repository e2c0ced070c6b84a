"""The lead of several watchdogs over a real PostgreSQL: lease, fence, signals, shared presence."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import insert, select, update

from chipmedic.errors import ToolFailed
from chipmedic.model import JobStatus
from chipmedic.testing import FakeHost
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import LivenessSettings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.incidents.elsewhere import read_elsewhere
from chipmedic_watchdog.intake.arrival import Arrival, Body, Greeting, StateChange
from chipmedic_watchdog.intake.committer import Committer
from chipmedic_watchdog.intake.message import ReceivedHeartbeat
from chipmedic_watchdog.intake.place import Place
from chipmedic_watchdog.intake.sessions import NameTaken, Session, Sessions
from chipmedic_watchdog.lead import lease
from chipmedic_watchdog.lead.leader import Lead, LeaderStore, lead_while_held
from chipmedic_watchdog.lead.lease import LEASE_SECONDS, Deposed, Member
from chipmedic_watchdog.lead.signals import Listener, Signal, tell
from chipmedic_watchdog.liveness import Liveness
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.notify.loop import NotifyLoop
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.recover.leading_host import LeadingHost
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine, token_of
from chipmedic_watchdog.web import details
from intake_rig import all_written, rows
from waiting import PATIENCE_SECONDS, eventually
from watchdog.notify import story
from watchdog.notify.receivers import HttpReceiver

SETTINGS = LivenessSettings(silence_seconds=2.0, startup_grace_seconds=30.0, stall_seconds=5.0)


@pytest.fixture
def store_url(postgres_url: str) -> str:
    """Of PostgreSQL alone: an SQLite file has one watchdog."""
    return postgres_url


@dataclass
class Watchdog:
    """The parts of one watchdog that the others see."""

    url: str
    id: str
    at: float = 10_000.0
    """Its own clock; the lease goes by the database's."""
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.database = Database(open_engine(self.url, self.id))
        self.beats = Database(open_engine(self.url, self.id))
        self.clock = Clock(lambda: self.at, lambda: self.at)
        me = Member(id=self.id, name=f"head-{self.id}:7443", http="http://x", version="1")
        self.lead = Lead(self.beats, me, self.health, self.clock)
        self.store = LeaderStore(self.database, self.lead)
        self.sessions = Sessions(self.clock, SETTINGS.silence_seconds)
        metrics = self.metrics = Metrics()
        place = Place(watchdog=self.id, is_shared=True, leads=self.lead.leads)
        self.committer = Committer(self.database, metrics, self.health, place=place)
        self.liveness = Liveness(
            self.database, self.committer, self.sessions, metrics, SETTINGS, self.clock,
            lambda peers, _: set(peers), alive=lambda: self.lead.alive, me=self.id,
        )  # fmt: skip

    def arrival(self, session: Session, body: Body) -> Arrival:
        return Arrival(
            node=session.node, epoch="e", stream=session.stream, received_at=self.at, body=body
        )

    async def commit(self, arrival: Arrival) -> None:
        arrival.done = asyncio.get_running_loop().create_future()
        self.committer.put_now(arrival)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await arrival.done

    async def connect(self, node: str, *, machine: str = "", next_seq: int = 1) -> Session:
        session = Session(
            node=node, machine_id=machine or node, epoch="e", peer="p", opened_at=self.at
        )
        self.sessions.open(session)
        greeting = Greeting(
            machine_id=machine or node, boot_id="b", boot_time=1.0, agent_version="1", labels={},
            inventory=(), first_seq=1, next_seq=next_seq,
        )  # fmt: skip
        session.is_told = True
        await self.commit(self.arrival(session, greeting))
        return session

    async def pass_(self, seconds: float) -> None:
        end = self.at + seconds
        while self.at < end:
            self.at = min(end, self.at + 0.25)
            self.liveness.tick()
        await self.settle()

    async def settle(self) -> None:
        await all_written(self.committer, self.at)

    def close(self) -> None:
        self.database.close()
        self.beats.close()


@pytest.fixture
async def watchdogs(store_url: str) -> AsyncIterator[tuple[Watchdog, Watchdog]]:
    pair = Watchdog(store_url, "a"), Watchdog(store_url, "b")
    tasks = [asyncio.create_task(one.committer.run()) for one in pair]
    yield pair
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for one in pair:
        one.close()


def expire(database: Database) -> None:
    """Let the time of the lease be over."""
    database.write_now(lambda c: c.execute(update(schema.lease).values(expires_at=1.0)))


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


def unreachable(database: Database) -> set[str]:
    found = rows(database, schema.faults)
    return {f["node"] for f in found if f["kind"] == "node.unreachable" and f["state"] == "open"}


async def test_a_node_that_moves_to_another_watchdog_is_not_silent(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    await b.lead.beat()
    old = await a.connect("n1")
    await b.connect("n1")  # a has not noticed yet
    state = a.sessions.close(old, "the connection was lost")
    assert state == "silent"
    await a.commit(a.arrival(old, StateChange("silent", "lost")))
    (node,) = rows(a.database, schema.nodes)
    assert (node["state"], node["watchdog"]) == ("connected", "b")
    await a.pass_(10)
    assert unreachable(a.database) == set()
    await a.liveness.forget_moved()
    assert a.sessions.silent == frozenset()


async def test_what_another_watchdog_has_lost_the_leader_makes_a_fault(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    await b.lead.beat()
    lost = await b.connect("n1")
    b.sessions.close(lost, "the connection was lost")
    await b.pass_(3)
    (node,) = rows(a.database, schema.nodes)
    assert (node["state"], node["is_lost"]) == ("silent", True)
    assert unreachable(a.database) == set(), "b does not lead"
    await a.liveness.take_up_lost()
    await a.settle()
    assert unreachable(a.database) == {"n1"}
    (node,) = rows(a.database, schema.nodes)
    assert not node["is_lost"]
    seen = a.database.read_now(lambda c: read_elsewhere(c, "a", b.at, silent_since=b.at - 60))
    assert seen.silent == {"n1"}
    await a.connect("n1")
    assert unreachable(a.database) == set()


async def test_the_nodes_of_a_watchdog_that_is_gone_have_the_grace_time(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    await b.lead.beat()
    await b.connect("n1")
    await b.connect("n2")
    await a.lead.beat()
    await a.liveness.expect_known(a.lead.alive)
    assert a.sessions.silent == frozenset(), "b lives"
    a.database.write_now(
        lambda c: c.execute(
            update(schema.watchdogs).where(schema.watchdogs.c.id == "b").values(seen_at=1.0)
        )
    )
    await a.lead.beat()
    await a.liveness.expect_known(a.lead.alive)
    assert a.sessions.silent == {"n1", "n2"}
    await a.connect("n1")
    await a.pass_(29)
    assert unreachable(a.database) == set()
    await a.lead.beat()
    await a.pass_(2)
    await a.lead.beat()
    await a.liveness.take_up_lost()
    await a.settle()
    assert unreachable(a.database) == {"n2"}


async def test_a_watchdog_that_was_taken_for_gone_and_lives_keeps_its_nodes(watchdogs) -> None:
    """As after a pause of the database: its streams are the old ones, and nobody comes anew."""
    a, b = watchdogs
    await a.lead.beat()
    await b.lead.beat()
    await b.connect("n1")
    a.database.write_now(
        lambda c: c.execute(
            update(schema.watchdogs).where(schema.watchdogs.c.id == "b").values(seen_at=1.0)
        )
    )
    await a.lead.beat()
    await a.liveness.expect_known(a.lead.alive)
    assert a.sessions.silent == {"n1"}
    await b.lead.beat()
    # The verdict is ready in the moment in which b is heard again.
    await a.pass_(SETTINGS.startup_grace_seconds + 1)
    assert unreachable(a.database) == set()
    await a.lead.beat()
    await a.liveness.forget_moved()
    assert a.sessions.silent == frozenset(), "or it would not be looked for when b goes at last"


async def test_a_name_that_another_machine_has_at_another_watchdog_is_refused(watchdogs) -> None:
    a, b = watchdogs
    await a.lead.beat()
    await b.lead.beat()
    await b.connect("n1", machine="m1")
    with pytest.raises(NameTaken, match="connected to another watchdog with machine-id m1"):
        await a.connect("n1", machine="m2")
    (node,) = rows(a.database, schema.nodes)
    assert (node["machine_id"], node["watchdog"]) == ("m1", "b")


async def test_what_is_backlog_at_another_watchdog_is_known(watchdogs) -> None:
    a, b = watchdogs
    await b.connect("n1", next_seq=11)
    seen = a.database.read_now(lambda c: read_elsewhere(c, "a", a.at, silent_since=0.0))
    assert seen.catching_up == {"n1"}
    late = a.database.read_now(lambda c: read_elsewhere(c, "a", a.at + 60, silent_since=0.0))
    assert late.catching_up == frozenset()


def beat_of(step: int, at: float) -> ReceivedHeartbeat:
    job = JobStatus(job="slurm:1", at=at, step=step, step_at=at, phase="train", pids=(1,))
    return ReceivedHeartbeat(
        at=at, coverage=(), jobs=(job,), is_whole=True, job_names=frozenset({"slurm:1"})
    )


async def test_a_steady_job_on_two_watchdogs_is_two_rows_of_progress(watchdogs) -> None:
    a, b = watchdogs
    sessions = [await a.connect("n1"), await b.connect("n2")]
    for second in range(1, 30):
        for one, session in zip((a, b), sessions, strict=True):
            one.at = 10_000.0 + second
            await one.commit(one.arrival(session, beat_of(second, one.at)))
    progress = sorted(rows(a.database, schema.job_progress), key=lambda row: row["at"])
    assert [row["mark"] for row in progress] == ["start", ""]
    assert [row["step"] for row in progress][-1] >= 28


async def test_jobs_that_both_tell_of_in_any_order_hold_nobody_up(watchdogs) -> None:
    a, b = watchdogs
    sessions = [await a.connect("n1"), await b.connect("n2")]
    names = [f"slurm:{n}" for n in range(40)]

    async def tell_all(one: Watchdog, session: Session, jobs: list[str]) -> None:
        for step in range(1, 15):
            at = 10_000.0 + 2 * step
            told = tuple(JobStatus(job=job, at=at, step=step, step_at=at) for job in jobs)
            beat = ReceivedHeartbeat(at=at, coverage=(), jobs=told, is_whole=True)
            one.at = at
            await one.commit(one.arrival(session, beat))

    await asyncio.gather(tell_all(a, sessions[0], names), tell_all(b, sessions[1], names[::-1]))
    failures = [one.metrics.store_failures._value.get() for one in (a, b)]
    assert failures == [0, 0], "two commits waited for each other"
    assert {row["step"] for row in rows(a.database, schema.job_nodes)} == {14}


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
