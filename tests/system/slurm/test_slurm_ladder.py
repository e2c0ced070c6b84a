"""The rungs of the ladder on a real Slurm: in place, shrink, spare node, and what holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import update

from chipmedic_watchdog.recover.settings import SlurmSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from system.slurm.cluster import Cluster
from system.slurm.watching import bad_chip, recovering, rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

LAUNCHER = """\
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
for try in 1 2 3 4 5; do
    SLURM_NNODES=$(squeue --noheader --jobs "$job" --format %D)
    SLURM_JOB_NODELIST=$(squeue --noheader --jobs "$job" --format %N)
    SLURM_JOB_NUM_NODES=$SLURM_NNODES
    export SLURM_NNODES SLURM_JOB_NUM_NODES SLURM_JOB_NODELIST
    unset SLURM_TASKS_PER_NODE SLURM_JOB_CPUS_PER_NODE
    srun --ntasks-per-node=1 --kill-on-bad-exit=1 sleep 600 && exit 0
    sleep 1
done
exit 1
"""
"""As docs/operations.md has it: the next step runs on the nodes that the job has now."""


def steps(cluster: Cluster, job: str) -> list[str]:
    """The running steps of a job with their nodes, without Slurm's own."""
    shown = cluster.command("squeue", "-h", "-s", "-j", job, "-o", "%i %N").splitlines()
    return [line for line in shown if line.split()[0].rpartition(".")[2].isdecimal()]


def stepping(cluster: Cluster, *options: str, script: str = LAUNCHER) -> str:
    job = cluster.submit(*options, script=script)
    cluster.wait("a step runs", lambda: bool(steps(cluster, job)))
    return job


def hang(database: Database, job: str) -> None:
    """The job stands still, and no fault of hardware explains it."""
    bad_chip(database, "chip-a1", f"slurm:{job}")
    values = {"kind": "job.hung", "action": "restart_job"}
    database.write_now(lambda c: c.execute(update(schema.faults).values(**values)))
    database.write_now(lambda c: c.execute(update(schema.incidents).values(kind="job.hung")))


def taken(database: Database) -> list[tuple[str, str]]:
    found = rows(database, schema.recovery_steps)
    return [(row["rung"] or row["kind"], row["state"]) for row in found]


async def recovered(cluster: Cluster, database: Database, **settings: Any) -> dict[str, Any]:
    """What became of the recovery."""
    slurm = SlurmSettings(env=cluster.env, **settings)
    async with recovering(cluster, database, slurm=slurm) as loop:
        loop.wake()
        while not (ended := [r for r in rows(database, schema.recoveries) if is_over(r)]):
            await asyncio.sleep(0.1)
    return ended[-1]


def is_over(recovery: dict[str, Any]) -> bool:
    return recovery["state"] in ("done", "held", "stopped")


async def test_a_job_that_allows_it_starts_again_in_its_allocation(
    cluster: Cluster, database: Database
) -> None:
    job = stepping(cluster, "-N2", "--comment=chipmedic:in_place")
    hang(database, job)
    assert (await recovered(cluster, database))["state"] == "done"
    assert taken(database) == [("in_place", "done")]
    assert steps(cluster, job) == [f"{job}.1 chip-a[1-2]"]
    assert cluster.job(job)["Restarts"] == "0"


async def test_a_script_that_ends_with_its_step_is_queued_again(
    cluster: Cluster, database: Database
) -> None:
    job = stepping(cluster, "-N1", "--comment=chipmedic:in_place", script="srun sleep 600; exit 1")
    hang(database, job)
    assert (await recovered(cluster, database))["state"] == "done"
    assert taken(database) == [("in_place", "given_up"), ("requeue", "done")]
    assert (cluster.job(job)["JobState"], cluster.job(job)["Restarts"]) == ("RUNNING", "1")


async def test_a_job_that_allows_it_goes_on_with_fewer_nodes(
    cluster: Cluster, database: Database
) -> None:
    job = stepping(cluster, "-N3", "--comment=mine chipmedic:shrink=2")
    bad_chip(database, "chip-a3", f"slurm:{job}")
    assert (await recovered(cluster, database))["state"] == "done"
    assert taken(database) == [("isolate", "done"), ("shrink", "done")]
    assert [line.split()[1] for line in steps(cluster, job)] == ["chip-a[1-2]"]
    assert cluster.job(job)["Restarts"] == "0"
    cluster.wait("drained", lambda: cluster.states()["chip-a3"] == "drained")


async def test_a_spare_node_takes_the_place_of_a_bad_one(
    cluster: Cluster, database: Database
) -> None:
    spares = ("StartTime=now", "Duration=UNLIMITED", "Users=root", "Nodes=chip-a4")
    flags = "Flags=FLEX,IGNORE_JOBS"
    cluster.command("scontrol", "create", "reservation", "Reservation=spares", *spares, flags)
    try:
        job = stepping(cluster, "-N3", script="exec srun sleep 600")
        bad_chip(database, "chip-a1", f"slurm:{job}")
        ended = await recovered(cluster, database, spare_reservation="spares")
        assert ended["state"] == "done"
        assert taken(database) == [("isolate", "done"), ("spare", "done")]
        assert cluster.job(job)["NodeList"] == "chip-a[2-4]"
        cluster.command("scancel", job)
        cluster.wait("over", lambda: not cluster.command("squeue", "-h").strip())
    finally:
        cluster.command("scontrol", "delete", "Reservation=spares")


async def test_a_job_that_must_not_be_queued_again_waits_for_a_person(
    cluster: Cluster, database: Database
) -> None:
    job = stepping(cluster, "-N1", "--no-requeue")
    bad_chip(database, "chip-a1", f"slurm:{job}")
    ended = await recovered(cluster, database)
    assert ended["state"] == "held"
    assert "requeue: it must not be queued again (--no-requeue" in ended["detail"]
    assert "in_place: it must leave chip-a1" in ended["detail"]
    assert cluster.job(job)["Restarts"] == "0"
    assert cluster.states()["chip-a1"] == "draining"


def tasks(cluster: Cluster) -> dict[str, str]:
    """Slurm's number of each task of the array that runs, by the number that people know."""
    shown = cluster.command(
        "squeue", "-h", "-r", "-t", "R", "-O", "ArrayJobID:|,ArrayTaskID:|,JobID:|"
    )
    found = [line.split("|") for line in shown.splitlines() if line.strip()]
    return {f"{array.strip()}_{task.strip()}": job.strip() for array, task, job, *_ in found}


def array_of(cluster: Cluster, count: int, *options: str) -> str:
    """Start an array; the task to which Slurm gave the array's own number."""
    array = cluster.submit(f"--array=1-{count}", *options, script=LAUNCHER)
    cluster.wait(
        "every task steps",
        lambda: (
            all(steps(cluster, task) for task in tasks(cluster)) and len(tasks(cluster)) == count
        ),
    )
    return next(task for task, job in tasks(cluster).items() if job == array)


@pytest.mark.parametrize("rung", ["in_place", "shrink"])
async def test_of_an_array_one_task_takes_the_rung_and_its_siblings_go_on(
    cluster: Cluster, database: Database, rung: str
) -> None:
    """By the array's own number Slurm would end the steps, and take the nodes, of every task."""
    nodes, count = (1, 3) if rung == "in_place" else (2, 2)
    comment = "chipmedic:in_place,shrink=1"
    hurt = array_of(cluster, count, f"-N{nodes}", f"--comment={comment}")
    siblings = {task: steps(cluster, task) for task in tasks(cluster) if task != hurt}
    job = f"slurm:{tasks(cluster)[hurt]}"
    if rung == "in_place":
        hang(database, tasks(cluster)[hurt])
    else:
        last = cluster.command("squeue", "-h", "-j", hurt, "-o", "%N").strip()
        bad_chip(database, cluster.command("scontrol", "show", "hostnames", last).split()[-1], job)
    assert (await recovered(cluster, database))["state"] == "done"
    assert taken(database)[-1] == (rung, "done")
    assert {task: steps(cluster, task) for task in siblings} == siblings
    (line,) = steps(cluster, hurt)
    assert line.startswith(f"{hurt}.1 ")
    words = rows(database, schema.recovery_steps)[-1]["description"]
    assert f"scancel {hurt}.0" in words
    cluster.command("scancel", hurt.partition("_")[0])


async def test_a_task_of_an_array_that_must_not_be_queued_again_is_held_alone(
    cluster: Cluster, database: Database
) -> None:
    hurt = array_of(cluster, 2, "-N1", "--no-requeue")
    siblings = {task: steps(cluster, task) for task in tasks(cluster) if task != hurt}
    node = steps(cluster, hurt)[0].split()[1]
    bad_chip(database, node, f"slurm:{tasks(cluster)[hurt]}")
    assert (await recovered(cluster, database))["state"] == "held"
    assert {task: steps(cluster, task) for task in siblings} == siblings
    assert all(cluster.job(task)["Restarts"] == "0" for task in tasks(cluster))
    cluster.command("scancel", hurt.partition("_")[0])
