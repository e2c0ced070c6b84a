"""From an incident in the store to a job that runs elsewhere: the recovery loop on a real Slurm."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import update

from chipmedic_watchdog.recover.settings import Mode
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from system.slurm.cluster import Cluster
from system.slurm.watching import bad_chip, recovering, rows, state
from waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def running(cluster: Cluster) -> str:
    job = cluster.submit("-N2")
    cluster.wait("the job runs", lambda: cluster.job(job)["JobState"] == "RUNNING")
    return job


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
        assert "chip-a1" not in cluster.job_nodes(job)
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
        await asyncio.to_thread(
            cluster.wait, "chip-a1 is back", lambda: cluster.states()["chip-a1"] == "idle"
        )
        await state(database, "done")


async def test_a_watchdog_that_dies_in_the_middle_goes_on(
    cluster: Cluster, database: Database
) -> None:
    job = running(cluster)
    async with recovering(cluster, database) as loop:
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        await state(database, "running")
        await eventually(
            lambda: rows(database, schema.recovery_steps)[-1]["state"] in ("doing", "done")
        )
    async with recovering(cluster, database):
        await state(database, "done")
    assert cluster.job(job)["Restarts"] == "1"
    assert "chip-a1" not in cluster.job_nodes(job)
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
