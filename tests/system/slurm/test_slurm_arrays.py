"""One task of an array on the rungs that leave its allocation; its siblings know nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import RecoveryRequest, Rung
from chipmedic_watchdog.recover.settings import SlurmSettings
from chipmedic_watchdog.recover.slurm import Slurm
from chipmedic_watchdog.store.database import Database
from system.slurm.cluster import Cluster
from system.slurm.test_slurm_ladder import recovered, taken
from system.slurm.watching import bad_chip

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

FIELDS = ("ArrayTaskID", "JobID", "State", "NodeList", "RestartCnt", "Reason", "Reservation")

WAITS = ("None", "Resources", "Priority", "Nodes required for job", "ReqNodeNotAvail")
"""Why a task waits that nobody holds; the scheduler words it anew in each of its rounds."""


def tasks(cluster: Cluster, array: str) -> dict[str, dict[str, str]]:
    """What Slurm tells of each task of an array, by `<array>_<task>`."""
    asked = ",".join(f"{name}:|" for name in FIELDS)
    shown = cluster.command("squeue", "-h", "-r", "-j", array, "-O", asked)
    cells = [[cell.strip() for cell in line.split("|")] for line in shown.splitlines() if line]
    told = [dict(zip(FIELDS, row, strict=False)) for row in cells]
    for task in told:
        if task["Reason"].startswith(WAITS):
            task["Reason"] = "waits"
        address = f"{array}_{task['ArrayTaskID']}"
        task["Excluded"] = cluster.command("squeue", "-h", "-r", "-j", address, "-o", "%x").strip()
    return {f"{array}_{task['ArrayTaskID']}": task for task in told}


def started(cluster: Cluster, array: str, count: int) -> dict[str, dict[str, str]]:
    """The tasks, when so many of them step."""

    def stepping() -> bool:
        shown = cluster.command("squeue", "-h", "-s", "-j", array, "-o", "%i").split()
        return len([step for step in shown if step.rpartition(".")[2].isdecimal()]) == count

    cluster.wait(f"{count} tasks step", stepping)
    return tasks(cluster, array)


@contextmanager
def spares(cluster: Cluster, node: str) -> Iterator[None]:
    what = ("StartTime=now", "Duration=UNLIMITED", "Users=root", f"Nodes={node}")
    flags = "Flags=FLEX,IGNORE_JOBS"
    cluster.command("scontrol", "create", "reservation", "Reservation=spares", *what, flags)
    try:
        yield
    finally:
        cluster.command("scancel", "-u", "root")
        cluster.wait("over", lambda: not cluster.command("squeue", "-h").strip())
        cluster.command("scontrol", "delete", "Reservation=spares")


async def test_a_task_takes_the_spare_node_and_the_task_that_waits_goes_on_waiting(
    cluster: Cluster, database: Database
) -> None:
    """The record of the tasks that wait bears the array's own number."""
    with spares(cluster, "chip-a4"):
        array = cluster.submit("-N1", "--array=1-5")
        before = started(cluster, array, 3)
        hurt = f"{array}_2"
        bad_chip(database, before[hurt]["NodeList"], f"slurm:{before[hurt]['JobID']}")
        ended = await recovered(cluster, database, spare_reservation="spares")
        after = tasks(cluster, array)
        assert ended["state"] == "done"
        assert taken(database) == [("isolate", "done"), ("spare", "done")]
        assert (after[hurt]["State"], after[hurt]["NodeList"]) == ("RUNNING", "chip-a4")
        del before[hurt], after[hurt]
        assert after == before


async def test_a_task_is_queued_again_and_one_that_its_user_holds_stays_held(
    cluster: Cluster, database: Database
) -> None:
    array = cluster.submit("-N1", "--array=1-4", "--hold")
    for task in (1, 2, 3):
        cluster.command("scontrol", "release", f"{array}_{task}")
    before = started(cluster, array, 3)
    assert before[f"{array}_4"]["Reason"] == "JobHeldUser"
    hurt = f"{array}_2"
    bad_chip(database, before[hurt]["NodeList"], f"slurm:{hurt}")
    ended = await recovered(cluster, database)
    after = tasks(cluster, array)
    assert ended["state"] == "done"
    assert taken(database) == [("isolate", "done"), ("requeue", "done")]
    assert (after[hurt]["State"], after[hurt]["RestartCnt"]) == ("RUNNING", "1")
    assert after[hurt]["Excluded"] == before[hurt]["NodeList"]
    del before[hurt], after[hurt]
    assert after == before


async def test_a_task_whose_node_does_not_answer_is_held_alone(
    cluster: Cluster, database: Database
) -> None:
    array = cluster.submit("-N1", "--array=1-6")
    before = started(cluster, array, 4)
    hurt = f"{array}_3"
    node = before[hurt]["NodeList"]
    cluster.kill(node)
    down = ("State=DOWN", "Reason=Not responding")
    cluster.command("scontrol", "update", f"NodeName={node}", *down)
    bad_chip(database, node, f"slurm:{before[hurt]['JobID']}")
    ended = await recovered(cluster, database)
    after = tasks(cluster, array)
    assert ended["state"] == "held"
    assert after[hurt]["Reason"] == "JobHeldAdmin"
    del before[hurt], after[hurt]
    assert after == before


def test_a_part_of_a_heterogeneous_job_is_left_to_its_user(cluster: Cluster) -> None:
    """Slurm queues all its parts again by the first one's number, and refuses the others'."""
    whole = cluster.submit("-N1", ":", "-N1")
    number = cluster.command("squeue", "-h", "-O", "JobID:|,HetJobOffset:|").split()
    parts = [line.split("|")[0] for line in number]
    assert len(parts) == 2
    slurm = Slurm(SlurmSettings(env=cluster.env))
    for part in parts:
        rungs = slurm.rungs(f"slurm:{part}", ("chip-a1",))
        assert f"a part of the heterogeneous job {whole}," in rungs[Rung.REQUEUE]
        assert [rung for rung, why in rungs.items() if not why] == [Rung.HOLD]
        request = RecoveryRequest(
            incident="inc-000001",
            reason="chipmedic:inc-000001 chip.lost",
            nodes=(),
            jobs=(f"slurm:{part}",),
        )
        with pytest.raises(DeliveryFailed, match="heterogeneous") as refused:
            slurm.plan(request)
        assert refused.value.is_permanent
