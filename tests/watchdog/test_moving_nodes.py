"""Nodes of several watchdogs on one store: they move, and the leader judges what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import update

from chipmedic.model import JobStatus
from chipmedic_watchdog.incidents.elsewhere import read_elsewhere
from chipmedic_watchdog.intake.arrival import StateChange
from chipmedic_watchdog.intake.message import ReceivedHeartbeat
from chipmedic_watchdog.intake.sessions import NameTaken, Session
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from intake_rig import rows
from lead_rig import SETTINGS, Watchdog, two_watchdogs


@pytest.fixture
def store_url(postgres_url: str) -> str:
    """Of PostgreSQL alone: an SQLite file has one watchdog."""
    return postgres_url


@pytest.fixture
async def watchdogs(store_url: str) -> AsyncIterator[tuple[Watchdog, Watchdog]]:
    async with two_watchdogs(store_url) as pair:
        yield pair


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
