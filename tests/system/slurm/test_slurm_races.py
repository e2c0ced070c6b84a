"""What Slurm, users and nodes do while a recovery is on its way: no job twice, no other node out.

A `scontrol` in front of the real one lets them do it in the very moment: before the first call of
a kind it runs a script, once.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import update

from chipmedic_watchdog.recover.settings import SlurmSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from system.slurm.cluster import NODES, Cluster
from system.slurm.watching import bad_chip, bad_line, correlating, put, recovering, rows, state
from waiting import PATIENCE_SECONDS, eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

AT_REQUEUE = "requeue *"
AT_DRAIN = "update NodeName=* State=DRAIN *"
AT_START = "update JobId=* StartTime=now"


SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


def in_the_moment(
    cluster: Cluster, folder: Path, acts: Sequence[tuple[str, str, str]]
) -> dict[str, str]:
    """Return the environment in which something happens at the first call that fits a pattern.

    Each act is a pattern, `before` or `after`, and shell words; `$real` is the real scontrol.
    """
    real = shutil.which("scontrol", path=SYSTEM_PATH)
    assert real is not None
    lines = {"before": [], "after": []}  # type: dict[str, list[str]]
    for number, (pattern, when, act) in enumerate(acts):
        quoted = pattern.replace(" ", "\\ ")
        once = f"mkdir {folder}/happened.{number} 2>/dev/null"
        lines[when].append(f'case "$*" in {quoted}) if {once}; then {act}; fi ;; esac')
    script = [
        "#!/bin/sh", f"real={real}", *lines["before"], f'echo "$@" >> {folder}/calls',
        '"$real" "$@"', "status=$?", *lines["after"], "exit $status", "",
    ]  # fmt: skip
    (folder / "scontrol").write_text("\n".join(script))
    (folder / "scontrol").chmod(0o755)
    return {**cluster.env, "PATH": f"{folder}:{SYSTEM_PATH}"}


def happened(folder: Path) -> int:
    return len(list(folder.glob("happened.*")))


def calls(folder: Path, word: str) -> list[str]:
    return [line for line in (folder / "calls").read_text().splitlines() if line.startswith(word)]


def stepping(cluster: Cluster, nodes: int) -> str:
    job = cluster.submit(f"-N{nodes}")
    cluster.wait("a step runs", lambda: ".0" in cluster.command("squeue", "-h", "-s", "-j", job))
    return job


def others(cluster: Cluster) -> set[str]:
    """The states of the nodes that nothing is wrong with."""
    return {cluster.states()[node] for node in NODES[1:]}


async def test_slurm_queues_the_job_again_while_our_requeue_is_on_its_way(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    """NODE_FAIL: the node goes down, and Slurm itself requeues."""
    job = stepping(cluster, 2)
    down = '"$real" update NodeName=chip-a1 State=DOWN Reason="Not responding"'
    env = in_the_moment(cluster, tmp_path, [(AT_REQUEUE, "before", down)])
    fence = ("/bin/sh", "-c", f"echo {{node}} >> {tmp_path}/fenced")
    async with recovering(cluster, database, slurm=SlurmSettings(env=env, fence=fence)) as loop:
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        await state(database, "done")
    assert happened(tmp_path)
    shown = cluster.job(job)
    assert (shown["JobState"], shown["Restarts"]) == ("RUNNING", "1")
    assert "chip-a1" not in cluster.job_nodes(job)
    assert others(cluster) <= {"idle", "allocated"}


async def test_a_job_that_ends_while_its_node_is_drained_is_left_alone(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    job = stepping(cluster, 2)
    env = in_the_moment(cluster, tmp_path, [(AT_DRAIN, "before", f"scancel {job}; sleep 1")])
    async with recovering(cluster, database, slurm=SlurmSettings(env=env)) as loop:
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        await state(database, "done")
    assert cluster.job(job)["Restarts"] == "0"
    assert calls(tmp_path, "requeue") == []
    await asyncio.to_thread(cluster.wait, "out", lambda: cluster.states()["chip-a1"] == "drained")
    assert others(cluster) <= {"idle", "completing"}


async def test_a_daemon_that_dies_while_its_node_is_drained_starts_no_second_copy(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    """The job's old processes run on there; it starts elsewhere once they are known to be gone."""
    job = stepping(cluster, 2)
    pid = cluster.servers["chip-a1"].pid
    env = in_the_moment(cluster, tmp_path, [(AT_DRAIN, "before", f"kill -9 {pid}")])
    async with recovering(cluster, database, slurm=SlurmSettings(env=env)) as loop:
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        await eventually(lambda: happened(tmp_path))
        for _ in range(8):
            await asyncio.sleep(0.5)
            shown = cluster.job(job)
            assert (shown["JobState"], shown["Restarts"]) != ("RUNNING", "1")
        cluster.kill("chip-a1")
        cluster.start_slurmd("chip-a1")
        await state(database, "done")
    shown = cluster.job(job)
    assert (shown["JobState"], shown["Restarts"]) == ("RUNNING", "1")
    assert "chip-a1" not in cluster.job_nodes(job)
    assert len(calls(tmp_path, "requeue")) == 1
    assert [row["node"] for row in rows(database, schema.isolations)] == ["chip-a1"]
    assert others(cluster) <= {"idle", "allocated"}


async def test_killed_at_every_act_it_does_each_of_them_once(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    """kill -9 of the watchdog right before or right after the calls that change the cluster."""
    job = stepping(cluster, 2)
    bad_chip(database, "chip-a1", f"slurm:{job}")
    before, after = ("before", "kill -9 $PPID; exit 1"), ("after", "kill -9 $PPID")
    acts = [(AT_DRAIN, *after), (AT_REQUEUE, *before), (AT_REQUEUE, *after), (AT_START, *after)]
    env = in_the_moment(cluster, tmp_path, acts)
    program = str(Path(__file__).with_name("recover_once.py"))
    argv = [sys.executable, program, str(database.engine.url), env["SLURM_CONF"], env["PATH"]]
    deaths = 0
    while True:
        ended = await asyncio.to_thread(subprocess.run, argv, timeout=PATIENCE_SECONDS, check=False)
        if ended.returncode == 0:
            break
        assert ended.returncode == -9
        deaths += 1
    assert deaths == happened(tmp_path) == len(acts)
    (recovery,) = rows(database, schema.recoveries)
    assert recovery["state"] == "done"
    shown = cluster.job(job)
    assert (shown["JobState"], shown["Restarts"]) == ("RUNNING", "1")
    assert "chip-a1" not in cluster.job_nodes(job)
    assert [row["node"] for row in rows(database, schema.isolations)] == ["chip-a1"]
    assert others(cluster) <= {"idle", "allocated"}


async def test_a_controller_that_restarts_in_the_middle_of_a_move_is_waited_for(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    """It knows of no node for some seconds then: none is dead for that, and none is fenced."""
    job = stepping(cluster, 2)
    controller = cluster.servers["slurmctld"]
    stop = f"kill -TERM {controller.pid}"
    env = in_the_moment(cluster, tmp_path, [(AT_REQUEUE, "after", stop)])
    fence = ("/bin/sh", "-c", f"echo {{node}} >> {tmp_path}/fenced")
    settings = SlurmSettings(env=env, fence=fence, command_timeout_seconds=5.0)
    async with recovering(cluster, database, slurm=settings) as loop:
        bad_chip(database, "chip-a1", f"slurm:{job}")
        loop.wake()
        await eventually(lambda: happened(tmp_path))
        await asyncio.to_thread(controller.wait, PATIENCE_SECONDS)
        await asyncio.to_thread(cluster.start_controller)
        await state(database, "done")
    assert (cluster.job(job)["JobState"], cluster.job(job)["Restarts"]) == ("RUNNING", "1")
    assert "chip-a1" not in cluster.job_nodes(job)
    assert cluster.states()["chip-a1"].startswith("drain")
    assert not (tmp_path / "fenced").exists()
    assert [row["node"] for row in rows(database, schema.isolations)] == ["chip-a1"]
    assert others(cluster) <= {"idle", "allocated"}


@asynccontextmanager
async def agents(cluster: Cluster, database: Database, job: str) -> AsyncIterator[None]:
    """Tell each second where a job is, as the nodes' agents do."""
    table = schema.job_nodes

    async def report() -> None:
        while True:
            shown = await asyncio.to_thread(cluster.job, job)
            runs = shown["JobState"] == "RUNNING"
            there = await asyncio.to_thread(cluster.job_nodes, job) if runs else set()
            told = {row["node"] for row in rows(database, table)}
            for node in there - told:
                put(database, table, job=f"slurm:{job}", node=node, node_at=time.time(),
                    received_at=time.time(), pids=[1])  # fmt: skip
            for node in told:
                values = {"received_at": time.time(), "is_present": node in there}
                change = update(table).where(table.c.node == node).values(**values)
                database.write_now(lambda c, change=change: c.execute(change))
            await asyncio.sleep(1)

    task = asyncio.create_task(report())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_job_moves_on_when_the_node_that_it_moved_to_is_bad_as_well(
    cluster: Cluster, database: Database
) -> None:
    """The second fault comes as soon as the job runs there, before the first move is over."""
    job = stepping(cluster, 1)
    (first,) = cluster.job_nodes(job)

    def has_moved(times: str) -> bool:
        shown = cluster.job(job)
        return (shown["JobState"], shown["Restarts"]) == ("RUNNING", times)

    async with recovering(cluster, database) as loop:
        bad_chip(database, first, f"slurm:{job}")
        loop.wake()
        await eventually(lambda: has_moved("1"))
        (second,) = cluster.job_nodes(job)
        bad_chip(database, second, f"slurm:{job}", "inc-000002")
        loop.wake()
        async with agents(cluster, database, job):
            await eventually(lambda: has_moved("2"))
            await eventually(
                lambda: {row["state"] for row in rows(database, schema.recoveries)} == {"done"}
            )
    assert has_moved("2")
    assert not cluster.job_nodes(job) & {first, second}
    assert {row["node"] for row in rows(database, schema.isolations)} == {first, second}


@pytest.mark.parametrize(("seconds_before", "restarts"), [(60.0, "0"), (3.0, "1")])
async def test_a_job_that_had_crashed_before_its_node_broke_is_left_to_its_user(
    cluster: Cluster, database: Database, seconds_before: float, restarts: str
) -> None:
    """For Slurm both have FAILED; what tells them apart is when they ended."""
    begun = cluster.folder / "once"
    begun.unlink(missing_ok=True)
    job = cluster.submit("-N1", script=f"[ -e {begun} ] && exec sleep 600; touch {begun}; exit 1")
    await asyncio.to_thread(
        cluster.wait, "it has crashed", lambda: cluster.job(job)["JobState"] == "FAILED"
    )
    node = cluster.job(job)["NodeList"]
    ended_at = time.time() - seconds_before
    put(
        database, schema.job_nodes, job=f"slurm:{job}", node=node, node_at=ended_at,
        received_at=ended_at, pids=[], labels={"ended_at": str(ended_at)},
    )  # fmt: skip
    async with recovering(cluster, database) as loop, correlating(database, loop):
        bad_line(database, node)
        await state(database, "done")
    assert cluster.job(job)["Restarts"] == restarts
    assert cluster.states()[node].startswith("drain")
    (incident,) = rows(database, schema.incidents)
    assert incident["jobs"] == ([f"slurm:{job}"] if restarts == "1" else [])
