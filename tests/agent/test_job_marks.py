"""Whose job a process is: by its environment, its cgroup, its session."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chipmedic.model import ChipProcess
from chipmedic.testing import FakeHost
from chipmedic_agent.jobs import JobTracker
from chipmedic_agent.processes import Stat, read_stat
from chipmedic_proto.codec import job_from_message, job_to_message
from job_machine import CONTAINER, KUBELET, POD, SLURM, SLURM_V1, SLURM_V2, TORCHRUN, Machine, look


@pytest.mark.parametrize(
    ("environ", "cgroup", "job", "rank", "attempt"),
    [
        (SLURM, "", "slurm:41", 3, 2),
        (SLURM | TORCHRUN, SLURM_V2.format(41), "slurm:41", 9, 2),
        (SLURM, SLURM_V2.format(77), "slurm:77", 3, 2),  # a cgroup cannot be forged
        ({}, SLURM_V1.format(12), "slurm:12", None, 0),
        (TORCHRUN, KUBELET, f"kubernetes:{POD}", 9, 0),
        (TORCHRUN, "", "torchrun:exp", 9, 1),
        ({"CHIPMEDIC_JOB": "demo"}, "", "local:demo", None, 0),
        ({}, "", "local:session-500", None, 0),
    ],
)
def test_the_marks_of_a_job(
    environ: dict[str, str], cgroup: str, job: str, rank: int | None, attempt: int
) -> None:
    machine = Machine()
    machine.start(500, environ, cgroup=cgroup)
    status = look(machine, ("GPU-1", 500))[job]
    assert status.ranks == (() if rank is None else (rank,))
    assert (status.attempt, status.user, status.chips) == (attempt, "maria", ("GPU-1",))


@pytest.mark.parametrize("digits", ["4294967296", "9" * 5000])
def test_a_count_that_no_launcher_makes_is_none(digits: str) -> None:
    machine = Machine()
    machine.start(500, SLURM | {"RANK": digits, "SLURM_RESTART_COUNT": digits})
    status = look(machine, ("GPU-1", 500))["slurm:41"]
    assert (status.ranks, status.attempt) == ((3,), 0)
    assert job_from_message(job_to_message(status)) == status


@pytest.mark.parametrize(
    ("task", "label"), [("5", "40_5"), ("", None), ("5; x", None), ("9" * 40, None)]
)
def test_a_task_of_an_array_bears_the_name_that_people_know(task: str, label: str | None) -> None:
    """A label and no more: its user can write anything there, and the job is what Slurm says."""
    machine = Machine()
    environ = SLURM | {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": task}
    machine.start(500, environ, cgroup=SLURM_V2.format(41))
    assert look(machine, ("GPU-1", 500))["slurm:41"].labels.get("array_task") == label


def test_inner_launchers_become_labels() -> None:
    machine = Machine()
    machine.start(500, SLURM | TORCHRUN, cgroup=KUBELET)
    labels = look(machine, ("GPU-1", 500))["slurm:41"].labels
    assert (labels["torchrun"], labels["torchrun_restart"]) == ("exp", "1")
    assert labels["container"] == CONTAINER[:12]


def test_without_the_right_to_read_the_environment_the_cgroup_decides_and_it_is_said() -> None:
    machine = Machine()
    machine.start(500, cgroup=SLURM_V2.format(8))
    machine.files["/proc/500/environ"] = PermissionError(13, "Permission denied")
    status = look(machine, ("GPU-1", 500))["slurm:8"]
    assert status.labels["environment"] == "not readable"


def test_a_process_in_d_state_is_not_asked_for_its_environment_until_it_wakes() -> None:
    machine = Machine()
    machine.start(500, {"CHIPMEDIC_JOB": "demo"}, state="D")
    blocked = machine.files.pop("/proc/500/environ")
    tracker = JobTracker(machine.host, machine)
    status = look(machine, ("GPU-1", 500), tracker=tracker)["local:session-500"]
    assert status.labels["processes"] == "pid 500 state D in nfs_wait_bit_killable"
    machine.start(500, {"CHIPMEDIC_JOB": "demo"})
    assert blocked is not None
    assert "local:demo" in look(machine, ("GPU-1", 500), at=102, tracker=tracker)


def test_a_job_in_a_slice_of_a_chip_is_on_that_chip_and_names_the_slice() -> None:
    machine = Machine()
    machine.start(500, SLURM)
    tracker = JobTracker(machine.host, machine)
    cut = ChipProcess("GPU-1", 500, partition="MIG-8 (GPU instance 3, compute instance 0)")
    tracker.observe([cut, ChipProcess("GPU-1", 999, partition="MIG-9")], 100.0)
    (status,) = tracker.scan(100.0).jobs
    assert status.chips == ("GPU-1",)
    assert status.labels["partitions"] == ("MIG-8 (GPU instance 3, compute instance 0) of GPU-1")


PID = st.integers(0, 1 << 62)


@given(st.text(max_size=200))
def test_what_is_no_stat_is_none(text: str) -> None:
    """Twenty fields come after the command; what has fewer is of no kernel."""
    assume(len(text.rpartition(")")[2].split()) < 20)
    assert read_stat(FakeHost(files={"/proc/5/stat": text}), 5) is None


@given(st.text(max_size=16), st.sampled_from("RSDTtZXI"), st.lists(PID, min_size=20, max_size=40))
def test_a_command_of_any_text_moves_no_field(command: str, state: str, rest: list[int]) -> None:
    text = f"5 ({command}) {state} {' '.join(map(str, rest))}\n"
    stat = read_stat(FakeHost(files={"/proc/5/stat": text}), 5)
    assert stat == Stat(command, state, parent=rest[0], session=rest[2], started=rest[18])


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=100))
def test_any_environment_and_cgroup_name_some_job(environ: str, cgroup: str, status: str) -> None:
    machine = Machine()
    machine.start(500)
    machine.files["/proc/500/environ"] = environ
    machine.files["/proc/500/cgroup"] = cgroup
    machine.files["/proc/500/status"] = status
    ((job, seen),) = look(machine, ("GPU-1", 500)).items()
    assert job == seen.job
    assert ":" in job
    assert seen.pids == (500,)
