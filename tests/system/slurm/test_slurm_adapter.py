"""The Slurm adapter against a real Slurm: what it drains, what it leaves, how fast jobs move."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import FOREIGN, RecoveryRequest, Step, StepKind, StepResult
from chipmedic_watchdog.recover.settings import SlurmSettings
from chipmedic_watchdog.recover.slurm import Slurm
from system.slurm.cluster import Cluster
from waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

REASON = "chipmedic:inc-000017 memory.uncorrectable"


def adapter(cluster: Cluster, **settings: object) -> Slurm:
    return Slurm(SlurmSettings(env=cluster.env, **settings))  # type: ignore[arg-type]


def request(*nodes: str, jobs: tuple[str, ...] = ()) -> RecoveryRequest:
    return RecoveryRequest(incident="inc-000017", reason=REASON, nodes=nodes, jobs=jobs)


def carry_out(slurm: Slurm, step: Step, *, seconds: float = PATIENCE_SECONDS) -> StepResult:
    """Do and confirm a step as the engine does."""
    start = time.monotonic()
    while not ((done := slurm.do(step)).is_done and slurm.confirm(step).is_done):
        assert time.monotonic() - start < seconds, done.detail
        time.sleep(0.3)
    return done


def planned(
    slurm: Slurm, wanted: RecoveryRequest, *, seconds: float = PATIENCE_SECONDS
) -> list[Step]:
    """Plan as the engine does: a job that is just ending is planned when that is over."""
    start = time.monotonic()
    while True:
        try:
            return slurm.plan(wanted)
        except DeliveryFailed as e:
            if e.is_permanent or time.monotonic() - start > seconds:
                raise
            time.sleep(0.5)


def running(cluster: Cluster, *options: str, script: str = "exec srun sleep 600") -> str:
    job = cluster.submit(*options, script=script)
    cluster.wait("the job runs", lambda: cluster.job(job)["JobState"] == "RUNNING")
    return job


def is_held(cluster: Cluster, job: str) -> bool:
    return cluster.job(job)["Reason"] == "JobHeldAdmin"


def given_back(isolation: Step, done: StepResult) -> Step:
    """The step that undoes an isolation, as the engine builds it from what was stored."""
    return Step(
        kind=StepKind.RETURN,
        target=isolation.target,
        description="",
        timeout_seconds=60,
        arguments={**isolation.arguments, **done.undo},
    )


def test_a_job_moves_off_the_bad_node_within_seconds_and_the_node_comes_back(
    cluster: Cluster,
) -> None:
    job = running(cluster, "-N2")
    assert cluster.job(job)["NodeList"] == "chip-a[1-2]"
    slurm = adapter(cluster)
    start = time.monotonic()
    isolation, restart = slurm.plan(request("chip-a1", jobs=(f"slurm:{job}",)))
    drained = carry_out(slurm, isolation)
    moved = carry_out(slurm, restart)
    took_seconds = time.monotonic() - start

    assert took_seconds < 100  # and not after the two minutes of cred_expire
    assert moved.detail.startswith("runs on ")
    assert "chip-a1" not in moved.detail
    after = cluster.job(job)
    assert (after["JobState"], after["Restarts"], after["ExcNodeList"]) == (
        "RUNNING",
        "1",
        "chip-a1",
    )
    node = cluster.command("scontrol", "-o", "show", "node", "chip-a1")
    assert f"Reason={REASON} [root@" in node
    assert drained.undo["owner"] == "chipmedic"
    assert drained.undo["state_before"] == "ALLOCATED"

    assert carry_out(slurm, given_back(isolation, drained)).is_done
    cluster.wait("in service again", lambda: cluster.states()["chip-a1"] == "idle")


def test_the_two_minutes_are_real_without_the_adapter(cluster: Cluster) -> None:
    job = running(cluster, "-N1")
    cluster.command("scontrol", "requeue", job)
    cluster.wait("pending", lambda: cluster.job(job)["JobState"] == "PENDING")
    time.sleep(5)
    assert cluster.job(job)["Reason"] == "BeginTime"


def test_an_admins_drain_stays_the_admins(cluster: Cluster) -> None:
    order = "NodeName=chip-a4", "State=DRAIN", "Reason=swap the fan, ticket 4711"
    cluster.command("scontrol", "update", *order)
    slurm = adapter(cluster)
    (isolation,) = slurm.plan(request("chip-a4"))
    found = carry_out(slurm, isolation)
    assert found.undo["owner"] == FOREIGN
    assert "swap the fan, ticket 4711" in found.detail

    with pytest.raises(DeliveryFailed, match="another reason now") as refused:
        slurm.do(given_back(isolation, found))
    assert refused.value.is_permanent
    node = cluster.command("scontrol", "-o", "show", "node", "chip-a4")
    assert "Reason=swap the fan, ticket 4711 [root@" in node
    assert cluster.states()["chip-a4"] == "drained"


@pytest.mark.parametrize("reason", ["Not responding", "Node unexpectedly rebooted"])
def test_what_slurm_itself_took_out_becomes_ours_and_comes_back(
    cluster: Cluster, reason: str
) -> None:
    order = "NodeName=chip-a4", "State=DOWN", f"Reason={reason}"
    cluster.command("scontrol", "update", *order)
    slurm = adapter(cluster)
    (isolation,) = slurm.plan(request("chip-a4"))
    found = carry_out(slurm, isolation)
    assert found.undo["owner"] == "chipmedic"
    assert carry_out(slurm, given_back(isolation, found)).is_done
    cluster.wait("in service again", lambda: cluster.states()["chip-a4"] == "idle")


def test_a_reason_that_was_changed_after_our_drain_is_not_wiped(cluster: Cluster) -> None:
    slurm = adapter(cluster)
    (isolation,) = slurm.plan(request("chip-a3"))
    done = carry_out(slurm, isolation)
    order = "NodeName=chip-a3", "State=DRAIN", "Reason=mine now"
    cluster.command("scontrol", "update", *order)
    with pytest.raises(DeliveryFailed, match="mine now"):
        slurm.do(given_back(isolation, done))
    assert "Reason=mine now [" in cluster.command("scontrol", "-o", "show", "node", "chip-a3")


def test_steps_that_are_done_again_change_nothing(cluster: Cluster) -> None:
    job = running(cluster, "-N1")
    slurm = adapter(cluster)
    bad = cluster.job(job)["NodeList"]
    isolation, restart = slurm.plan(request(bad, jobs=(f"slurm:{job}",)))
    carry_out(slurm, isolation)
    carry_out(slurm, restart)
    once = cluster.job(job)
    again = adapter(cluster)  # the watchdog was killed and knows only what it stored
    assert again.do(isolation).is_done
    assert again.do(restart).is_done
    assert cluster.job(job)["Restarts"] == once["Restarts"] == "1"
    assert cluster.job(job)["NodeList"] == once["NodeList"]


def test_a_job_that_forbids_requeue_is_moved_and_forbids_it_again(cluster: Cluster) -> None:
    job = running(cluster, "-N1", "--no-requeue")
    slurm = adapter(cluster)
    (restart,) = slurm.plan(request(jobs=(f"slurm:{job}",)))
    carry_out(slurm, restart)
    assert (cluster.job(job)["Restarts"], cluster.job(job)["Requeue"]) == ("1", "0")


def test_a_job_that_ignores_the_signal_is_waited_for(cluster: Cluster) -> None:
    begun = cluster.folder / "stubborn"
    stubborn = f"trap '' TERM; srun sh -c 'trap \"\" TERM; touch {begun}; sleep 600; sleep 600'"
    job = running(cluster, "-N1", script=stubborn)
    cluster.wait("it ignores the signal", begun.exists)
    slurm = adapter(cluster)
    (restart,) = slurm.plan(request(jobs=(f"slurm:{job}",)))
    assert not slurm.do(restart).is_done
    assert "COMPLETING" in slurm.do(restart).detail
    carry_out(slurm, restart)
    assert cluster.job(job)["Restarts"] == "1"


def test_a_crashed_job_is_queued_again_and_an_ended_one_is_left(cluster: Cluster) -> None:
    crashed = cluster.submit("-N1", script='[ "$SLURM_RESTART_COUNT" ] && exec sleep 600; exit 3')
    ended = cluster.submit("-N1", script="exit 0")
    for job, state in ((crashed, "FAILED"), (ended, "COMPLETED")):
        cluster.wait(state, lambda job=job, state=state: cluster.job(job)["JobState"] == state)
    slurm = adapter(cluster)
    again, left = slurm.plan(request(jobs=(f"slurm:{crashed}", f"slurm:{ended}")))
    assert carry_out(slurm, left).detail == "the job has ended by itself: COMPLETED"
    carry_out(slurm, again)
    assert cluster.job(crashed)["JobState"] == "RUNNING"
    assert cluster.job(ended)["JobState"] == "COMPLETED"


def test_a_job_is_not_started_twice_when_its_old_node_does_not_answer(
    cluster: Cluster, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    job = running(cluster, "-N1", script=f"exec srun sh -c 'touch {begun}; exec sleep 600'")
    bad = cluster.job(job)["NodeList"]
    cluster.wait("its process runs", begun.exists)  # else it fails for want of the daemon
    cluster.kill(bad)  # the daemon dies, the job's processes run on
    cluster.wait("not responding", lambda: cluster.states()[bad].endswith("*"))
    slurm = adapter(cluster)
    isolation, restart = planned(slurm, request(bad, jobs=(f"slurm:{job}",)))
    carry_out(slurm, isolation)
    with pytest.raises(DeliveryFailed, match="may still write to its checkpoint") as refused:
        carry_out(slurm, restart)
    assert refused.value.is_permanent
    # Slurm may have queued the job again by itself meanwhile: then it is held, and not started.
    assert cluster.job(job)["JobState"] == "RUNNING" or is_held(cluster, job)
    if is_held(cluster, job):
        cluster.command("scontrol", "release", job)  # as the person does who looked at the node

    fence = cluster.folder / "fence"
    fence.write_text(f"#!/bin/sh\necho $1 >> {cluster.folder}/fenced\n")
    fence.chmod(0o755)
    carry_out(adapter(cluster, fence=(str(fence), "{node}")), restart)
    assert (cluster.folder / "fenced").read_text().split() == [bad], "once"
    assert cluster.job(job)["NodeList"] != bad


def test_of_a_dead_node_slurm_is_told_before_it_notices(cluster: Cluster, tmp_path: Path) -> None:
    """It would be ten seconds here, and five minutes by default."""
    fence = ("/bin/sh", "-c", f"echo {{node}} >> {tmp_path}/fenced")
    slurm = adapter(cluster, fence=fence)
    job = running(cluster, "-N1", script=f"exec srun sh -c 'touch {tmp_path}/begun; exec sleep 99'")
    cluster.wait("its process runs", (tmp_path / "begun").exists)
    bad = cluster.job(job)["NodeList"]
    asked = replace(request(bad, jobs=(f"slurm:{job}",)), silent=(bad,))
    isolation = planned(slurm, replace(asked, jobs=()))[0]
    assert not cluster.states()[bad].endswith("*"), "Slurm takes it for well"
    assert carry_out(slurm, isolation).detail == f"drained, fenced and down: {REASON}"
    [restart] = planned(slurm, replace(asked, nodes=(), leaving=(bad,)))
    carry_out(slurm, restart)
    assert cluster.job(job)["NodeList"] != bad
    assert set((tmp_path / "fenced").read_text().split()) == {bad}


def test_a_fence_that_proves_nothing_leaves_the_drain(cluster: Cluster) -> None:
    slurm = adapter(cluster, fence=("/bin/sh", "-c", "echo no BMC of {node} >&2; exit 3"))
    [isolation] = planned(slurm, replace(request("chip-a1"), silent=("chip-a1",)))
    done = carry_out(slurm, isolation)
    assert done.detail.startswith("drained, not fenced (")
    assert "no BMC of chip-a1" in done.detail
    assert cluster.states()["chip-a1"] == "drained"


def test_without_a_fence_the_word_of_slurm_is_waited_for(cluster: Cluster) -> None:
    slurm = adapter(cluster)
    job = running(cluster, "-N1")
    bad = cluster.job(job)["NodeList"]
    asked = replace(request(bad, jobs=(f"slurm:{job}",)), silent=(bad,))
    isolation, restart = planned(slurm, asked)
    assert carry_out(slurm, isolation).detail == f"drained: {REASON}"
    assert slurm.do(restart).detail == f"requeued; it ran on {bad}"


def test_all_nodes_are_seen_with_who_took_them_out(cluster: Cluster) -> None:
    cluster.command("scontrol", "update", "NodeName=chip-a2", "State=DRAIN", "Reason=a|b, c")
    views = {view.node: view for view in adapter(cluster).nodes()}
    assert {name for name, view in views.items() if view.is_available} == {
        "chip-a1",
        "chip-a3",
        "chip-a4",
    }
    assert "a|b, c [root]" in views["chip-a2"].why
    assert not views["chip-a2"].is_down


def test_what_an_admin_wants_away_is_told_from_what_should_be_there(cluster: Cluster) -> None:
    def expected() -> dict[str, str]:
        return {view.node: view.expected for view in adapter(cluster).nodes() if view.expected}

    ours = "Reason=chipmedic:inc-000001 chip.lost"
    cluster.command("scontrol", "update", "NodeName=chip-a2", "State=DRAIN", "Reason=new fan")
    cluster.command("scontrol", "update", "NodeName=chip-a3", "State=DRAIN", ours)
    assert expected() == {"chip-a2": "drained: new fan [root]"}
    window = ("ReservationName=work", "StartTime=now", "Duration=10", "Users=root")
    cluster.command("scontrol", "create", "reservation", *window, "Flags=maint,ignore_jobs",
                    "Nodes=chip-a4")  # fmt: skip
    try:
        cluster.wait("the window", lambda: set(expected()) == {"chip-a2", "chip-a4"})
        assert expected()["chip-a4"].startswith("maint")
    finally:
        cluster.command("scontrol", "delete", "ReservationName=work")


def test_a_controller_that_does_not_answer_is_never_a_cluster_in_order(cluster: Cluster) -> None:
    slurm = adapter(cluster, command_timeout_seconds=5.0)
    cluster.kill("slurmctld")
    try:
        with pytest.raises(DeliveryFailed):
            slurm.nodes()
    finally:
        cluster.start_controller()


@pytest.mark.parametrize("job", ["slurm:999999", "slurm:1 State=DOWN", "slurm:--all"])
def test_a_job_that_is_none_is_refused_for_good(cluster: Cluster, job: str) -> None:
    with pytest.raises(DeliveryFailed) as refused:
        adapter(cluster).plan(request(jobs=(job,)))
    assert refused.value.is_permanent


def test_of_an_array_only_the_hurt_task_is_moved(cluster: Cluster) -> None:
    """Slurm gives the array's own number to one of its tasks: by it, it would requeue them all."""
    array = cluster.submit("-N1", "--array=0-2")

    def tasks() -> dict[str, tuple[str, str, str]]:
        """Number of a task's job -> state, node, restarts."""
        out = cluster.command("squeue", "-h", "-r", "-O", "JobID:|,State:|,NodeList:|,RestartCnt:|")
        rows = [[cell.strip() for cell in line.split("|")] for line in out.splitlines() if line]
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    cluster.wait(
        "all tasks run",
        lambda: [state for state, _, _ in tasks().values()] == ["RUNNING"] * 3,
    )
    before = tasks()
    assert array in before
    slurm = adapter(cluster)
    isolation, restart = slurm.plan(request(before[array][1], jobs=(f"slurm:{array}",)))
    carry_out(slurm, isolation)
    carry_out(slurm, restart)
    after = tasks()
    assert after[array][0] == "RUNNING"
    assert after[array][1] != before[array][1]
    for task in before.keys() - {array}:
        assert after[task] == before[task], "a task that was not hurt goes on where it was"


def test_a_drain_of_the_nodes_own_scripts_is_taken_over(cluster: Cluster) -> None:
    order = ("NodeName=chip-a1", "State=DRAIN", "Reason=chipmedic-node: chip.lost chip:GPU-77")
    cluster.command("scontrol", "update", *order)
    slurm = adapter(cluster)
    (isolation,) = slurm.plan(request("chip-a1"))
    done = carry_out(slurm, isolation)
    assert done.undo["owner"] == "chipmedic"
    assert cluster.command("sinfo", "-h", "-n", "chip-a1", "-o", "%E").strip() == REASON
    carry_out(slurm, given_back(isolation, done))
    cluster.wait("idle again", lambda: cluster.states()["chip-a1"] == "idle")
