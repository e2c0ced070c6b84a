"""From an incident in the store to a job that runs elsewhere: the recovery loop on a real Slurm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.settings import GateSettings, Mode, RecoverSettings, SlurmSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from system.slurm.cluster import NODES, Cluster
from waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

"""DESIGN.md: a fault to a job that steps again; two minutes without the adapter."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = open_engine(f"sqlite:///{tmp_path}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    now = time.time()
    for node in NODES:
        put(
            database,
            schema.nodes,
            node=node,
            state="connected",
            labels={},
            first_seen_at=now,
            last_seen_at=now,
        )
    yield database
    database.close()


def put(database: Database, table: Any, **values: Any) -> None:
    database.write_now(lambda c: c.execute(insert(table).values(**values)))


def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    return database.read_now(lambda c: [dict(r) for r in c.execute(select(table)).mappings()])


def bad_chip(database: Database, node: str, job: str) -> None:
    """What the correlation writes when a chip of the job's node fails."""
    now = time.time()
    put(
        database,
        schema.incidents,
        id="inc-000001",
        state="open",
        severity=3,
        kind="memory.uncorrectable",
        cause="single/1",
        title="memory.uncorrectable",
        nodes=[node],
        jobs=[job],
        fault_at=now,
        opened_at=now,
        updated_at=now,
    )
    put(
        database,
        schema.faults,
        node=node,
        component="chip:GPU-77",
        kind="memory.uncorrectable",
        severity=3,
        action="reset_chip",
        node_since=now,
        opened_at=now,
        updated_at=now,
        summary="2 uncorrectable memory errors",
        source="nvidia",
        codes=["xid:48"],
        state="open",
        incident="inc-000001",
    )
    put(database, schema.job_nodes, job=job, node=node, node_at=now, received_at=now, pids=[1])


@asynccontextmanager
async def recovering(
    cluster: Cluster, database: Database, **settings: Any
) -> AsyncIterator[RecoverLoop]:
    whole: dict[str, Any] = {
        "mode": Mode.ACT,
        "maximum_isolated_percent": 50.0,
        "hold_file": "",
        "gate": GateSettings(required=False),
        "slurm": SlurmSettings(env=cluster.env),
    } | settings
    loop = RecoverLoop(database, RecoverSettings(**whole))
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def running(cluster: Cluster) -> str:
    job = cluster.submit("-N2")
    cluster.wait("the job runs", lambda: cluster.job(job)["JobState"] == "RUNNING")
    return job


async def state(
    database: Database, wanted: str, *, seconds: float = PATIENCE_SECONDS
) -> dict[str, Any]:
    """Wait until the newest recovery is in a state; its row."""
    start = time.monotonic()
    while True:
        found = rows(database, schema.recoveries)
        if found and found[-1]["state"] == wanted:
            return found[-1]
        assert time.monotonic() - start < seconds, found
        await asyncio.sleep(0.1)


async def test_a_job_runs_on_clean_nodes_within_seconds_and_the_node_comes_back(
    cluster: Cluster, database: Database
) -> None:
    job = running(cluster)
    async with recovering(cluster, database, return_mode=Mode.ACT) as loop:
        start = time.monotonic()
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        await state(database, "done")
        took_seconds = time.monotonic() - start
        print(f"fault to running elsewhere: {took_seconds:.1f} s")  # noqa: T201  shown by -rP
        assert took_seconds < 100, "not after the two minutes of cred_expire"
        assert cluster.job(job)["JobState"] == "RUNNING"
        assert cluster.job(job)["NodeList"] == "chip-a[2-3]"
        shown = cluster.command("scontrol", "-o", "show", "node", "chip-a1")
        assert "Reason=chipmedic:inc-000001 memory.uncorrectable [" in shown
        steps = rows(database, schema.recovery_steps)
        assert [(s["kind"], s["state"]) for s in steps] == [
            ("isolate", "done"),
            ("restart", "done"),
        ]

        database.write_now(lambda c: c.execute(update(schema.faults).values(state="cleared")))
        database.write_now(lambda c: c.execute(update(schema.incidents).values(state="resolved")))
        loop.wake()
        await asyncio.sleep(6)
        await state(database, "done")
        cluster.wait("chip-a1 is back", lambda: cluster.states()["chip-a1"] == "idle")


async def test_a_watchdog_that_dies_in_the_middle_goes_on(
    cluster: Cluster, database: Database
) -> None:
    job = running(cluster)
    async with recovering(cluster, database) as loop:
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        await state(database, "running")
        while rows(database, schema.recovery_steps)[-1]["state"] != "doing":
            await asyncio.sleep(0.05)
    async with recovering(cluster, database):
        await state(database, "done")
    assert cluster.job(job)["Restarts"] == "1"
    assert cluster.job(job)["NodeList"] == "chip-a[2-3]"
    assert len(rows(database, schema.isolations)) == 1


async def test_nodes_that_others_took_out_use_up_the_budget(
    cluster: Cluster, database: Database
) -> None:
    job = running(cluster)
    for node in ("chip-a3", "chip-a4"):
        order = f"NodeName={node}", "State=DRAIN", "Reason=new cables"
        cluster.command("scontrol", "update", *order)
    async with recovering(cluster, database) as loop:
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        held = await state(database, "held")
    assert "2 of 4 nodes are out of service already (chip-a3, chip-a4)" in held["detail"]
    assert cluster.job(job)["NodeList"] == "chip-a[1-2]"
    assert cluster.states()["chip-a1"] == "allocated"


async def test_in_mode_notify_nothing_is_touched(cluster: Cluster, database: Database) -> None:
    job = running(cluster)
    async with recovering(cluster, database, mode=Mode.NOTIFY) as loop:
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        row = await state(database, "not_taken")
        await asyncio.sleep(2)
    assert row["evidence"]["nodes"] == ["chip-a1"]
    assert cluster.job(job)["Restarts"] == "0"
    assert cluster.states()["chip-a1"] == "allocated"
