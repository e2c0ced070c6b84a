"""Whose processes hold which chips, who may speak for a job, and what is told of its ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chipmedic.errors import ToolBlocked
from chipmedic.host import LinuxHost
from chipmedic.model import ChipProcess, JobStatus
from chipmedic.testing import FakeHost
from chipmedic_agent.job_log import LOOKS_MAX
from chipmedic_agent.jobs import JOBS_MAX, JobTracker
from chipmedic_agent.processes import Stat, identify, read_stat
from chipmedic_agent.progress import Beat
from chipmedic_proto.codec import job_from_message, job_to_message
from waiting import PATIENCE_SECONDS

POD = "3f8a77c2-10aa-4c1e-9d2f-0c55aa117e01"
CONTAINER = "9b" * 32
SLURM_V2 = "0::/system.slice/slurmstepd.scope/job_{}/step_0/user/task_0\n"
SLURM_V1 = "5:devices:/slurm/uid_1000/job_{}/step_0/task_0\n1:name=systemd:/x\n"
KUBELET = (
    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
    + POD.replace("-", "_")
    + f".slice/cri-containerd-{CONTAINER}.scope\n"
)


@dataclass
class Machine:
    """A `/proc` in memory, and beats that wait to be drained."""

    files: dict[str, str | OSError] = field(default_factory=dict)
    beats: list[Beat] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files["/etc/passwd"] = "root:x:0:0::/root:/bin/sh\nmaria:x:1000:1000::/h:/bin/sh\n"
        self.host = FakeHost(files=self.files)

    def drain(self) -> list[Beat]:
        beats, self.beats = self.beats, []
        return beats

    def start(
        self,
        pid: int,
        environ: dict[str, str] | None = None,
        *,
        cgroup: str = "0::/user.slice\n",
        uid: int = 1000,
        state: str = "S",
        parent: int = 1,
        session: int | None = None,
        started: int = 5000,
    ) -> None:
        rest = f"{parent} {pid} {session or pid} " + "0 " * 15 + f"{started} 0 0"
        self.files[f"/proc/{pid}/stat"] = f"{pid} (python (x) 3) {state} {rest}"
        self.files[f"/proc/{pid}/status"] = f"Name:\tpython\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        self.files[f"/proc/{pid}/cgroup"] = cgroup
        pairs = (environ or {}).items()
        self.files[f"/proc/{pid}/environ"] = "".join(f"{k}={v}\0" for k, v in pairs)
        self.files[f"/proc/{pid}/wchan"] = "nfs_wait_bit_killable" if state == "D" else "0"

    def end(self, pid: int) -> None:
        for path in [path for path in self.files if path.startswith(f"/proc/{pid}/")]:
            del self.files[path]

    def beat(self, pid: int, at: float, *, uid: int = 1000, **said: object) -> None:
        sender = identify(self.host, pid)
        self.beats.append(Beat(at=at, pid=pid, uid=uid, sender=sender, **said))  # type: ignore[arg-type]


def look(
    machine: Machine, *chips: tuple[str, int], at: float = 100.0, tracker: JobTracker | None = None
) -> dict[str, JobStatus]:
    tracker = tracker or JobTracker(machine.host, machine)
    tracker.observe([ChipProcess(uid, pid) for uid, pid in chips], at)
    scan = tracker.scan(at)
    assert scan.source == "jobs"
    return {status.job: status for status in scan.jobs}


SLURM = {"SLURM_JOB_ID": "41", "SLURM_RESTART_COUNT": "2", "SLURM_PROCID": "3"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "exp", "RANK": "9", "TORCHELASTIC_RESTART_COUNT": "1"}


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


def test_one_job_on_many_chips_is_one_job() -> None:
    machine = Machine()
    for rank in range(4):
        machine.start(500 + rank, SLURM | {"RANK": str(rank)})
    chips = [(f"GPU-{rank}", 500 + rank) for rank in range(4)]
    status = look(machine, *chips)["slurm:41"]
    assert status.pids == (500, 501, 502, 503)
    assert status.ranks == (0, 1, 2, 3)
    assert status.chips == ("GPU-0", "GPU-1", "GPU-2", "GPU-3")


def test_a_reused_pid_is_another_process() -> None:
    machine = Machine()
    machine.start(500, {"CHIPMEDIC_JOB": "old"})
    tracker = JobTracker(machine.host, machine)
    assert "local:old" in look(machine, ("GPU-1", 500), tracker=tracker)
    machine.start(500, {"CHIPMEDIC_JOB": "new"}, started=9999)
    status = look(machine, ("GPU-1", 500), at=102, tracker=tracker)
    assert status["local:new"].pids == (500,)
    assert status["local:old"].pids == ()


def test_steps_of_the_ranks_make_the_step_of_the_job() -> None:
    machine = Machine()
    for rank in range(3):
        machine.start(500 + rank, SLURM | {"RANK": str(rank)})
    tracker = JobTracker(machine.host, machine)
    for rank, step in ((0, 10), (1, 10), (2, 9)):
        machine.beat(500 + rank, 90 + rank, step=step, phase="train")
    machine.beat(500, 97, step=11)
    status = look(machine, ("GPU-0", 500), tracker=tracker)["slurm:41"]
    assert (status.step, status.step_at, status.phase) == (11, 97, "train")
    assert status.labels["rank_steps"] == "0:11 1:10 2:9"
    assert status.labels["behind"] == "1 (at step 10), 2 (at step 9)"
    assert status.labels["longest_step_seconds"] == "7.000"
    assert status.pids == (500, 501, 502)


def test_an_evaluation_that_counts_its_own_steps_does_not_set_the_job_back() -> None:
    machine = Machine()
    machine.start(500, SLURM)
    tracker = JobTracker(machine.host, machine)
    machine.beat(500, 90, step=400, phase="train")
    machine.beat(500, 92, step=1, phase="evaluate")
    assert look(machine, tracker=tracker)["slurm:41"].step == 400
    machine.beat(500, 95, step=390, phase="train")  # back to a checkpoint
    assert look(machine, at=102, tracker=tracker)["slurm:41"].step == 390


def test_a_checkpoint_of_one_rank_is_the_phase_of_the_job_while_the_others_wait() -> None:
    machine = Machine()
    for rank in range(3):
        machine.start(500 + rank, SLURM | {"RANK": str(rank)})
    tracker = JobTracker(machine.host, machine)

    def phase(at: float) -> str | None:
        return look(machine, ("GPU-0", 500), at=at, tracker=tracker)["slurm:41"].phase

    for rank in range(3):
        machine.beat(500 + rank, 90, phase="init")
    assert phase(91) == "init"
    machine.beat(500, 92, step=100, phase="train")
    machine.beat(500, 93, step=103)
    assert phase(94) == "train"  # ranks 1 and 2 never spoke again, and the job has stepped on
    machine.beat(500, 95, step=104, phase="checkpoint")
    machine.beat(501, 96, step=105, phase="train")
    assert phase(97) == "checkpoint"
    machine.beat(500, 98, step=105, phase="train")
    assert phase(99) == "train"
    machine.beat(500, 100, step=106, phase="done")
    assert phase(101) == "done"


def test_a_rank_that_died_in_its_checkpoint_writes_none() -> None:
    machine = Machine()
    for rank in range(2):
        machine.start(500 + rank, SLURM | {"RANK": str(rank)})
    tracker = JobTracker(machine.host, machine)
    for rank in range(2):
        machine.beat(500 + rank, 90, step=7, phase="train")
        machine.beat(500 + rank, 97, step=8)
    machine.beat(500, 98, phase="checkpoint")
    chips = [("GPU-0", 500), ("GPU-1", 501)]
    assert look(machine, *chips, tracker=tracker)["slurm:41"].phase == "checkpoint"
    machine.end(500)
    look(machine, *chips, at=102, tracker=tracker)
    status = look(machine, *chips, at=104, tracker=tracker)["slurm:41"]
    assert (status.phase, status.labels["gone_ranks"]) == ("train", "0 (pid 500)")


def test_processes_that_name_no_rank_do_not_set_one_another_back() -> None:
    machine = Machine()
    marks = {"CHIPMEDIC_JOB": "plain"}
    machine.start(500, marks)
    machine.start(501, marks)
    tracker = JobTracker(machine.host, machine)
    for step in range(10, 15):
        machine.beat(500, step * 1.0, step=step)
        machine.beat(501, step + 0.5, step=step - 1)
        assert look(machine, at=step + 0.7, tracker=tracker)["local:plain"].step == step


def test_a_rank_that_is_gone_while_others_live_is_named() -> None:
    machine = Machine()
    for rank in range(2):
        machine.start(500 + rank, SLURM | {"RANK": str(rank)})
    tracker = JobTracker(machine.host, machine)
    chips = [("GPU-0", 500), ("GPU-1", 501)]
    look(machine, *chips, tracker=tracker)
    machine.end(501)
    status = look(machine, *chips, at=102, tracker=tracker)["slurm:41"]
    assert status.labels["gone_ranks"] == "1 (pid 501)"
    assert status.chips == ("GPU-0",)
    machine.start(777, SLURM | {"RANK": "1"})  # torchrun started it again
    status = look(machine, ("GPU-0", 500), ("GPU-1", 777), at=104, tracker=tracker)["slurm:41"]
    assert "gone_ranks" not in status.labels


def test_a_job_whose_processes_have_ended_has_none() -> None:
    machine = Machine()
    machine.start(500, SLURM)
    tracker = JobTracker(machine.host, machine)
    machine.beat(500, 99, step=5)
    look(machine, ("GPU-0", 500), tracker=tracker)
    machine.end(500)
    assert look(machine, at=102, tracker=tracker)["slurm:41"].pids == ()
    assert look(machine, at=900, tracker=tracker) == {}


def test_the_end_of_a_job_is_told_once_and_for_a_minute_where_it_told_no_step() -> None:
    machine = Machine()
    machine.start(500, SLURM)
    tracker = JobTracker(machine.host, machine)
    status = look(machine, ("GPU-0", 500), tracker=tracker)["slurm:41"]
    assert "ended_at" not in status.labels
    machine.end(500)
    for at in (102, 104, 161):
        status = look(machine, at=at, tracker=tracker)["slurm:41"]
        assert (status.pids, status.labels["ended_at"]) == ((), "102.000")
    assert look(machine, at=162, tracker=tracker) == {}
    machine.start(700, SLURM | {"SLURM_RESTART_COUNT": "3"})
    status = look(machine, ("GPU-0", 700), at=170, tracker=tracker)["slurm:41"]
    assert "ended_at" not in status.labels
    assert status.attempt == 3


def test_a_job_whose_processes_cannot_be_seen_has_no_end() -> None:
    """Beats come from a container's own process ids; that none of them is known proves nothing."""
    machine = Machine()
    tracker = JobTracker(machine.host, machine)
    machine.beats.append(Beat(at=99, pid=0, uid=1000, job="train", step=5))
    for at in (100, 110):
        status = look(machine, at=at, tracker=tracker)["local:train"]
        assert "ended_at" not in status.labels


def test_nobody_speaks_for_anothers_job() -> None:
    machine = Machine()
    machine.start(500, SLURM)
    machine.start(600, {"SLURM_JOB_ID": "41"}, uid=2000)
    machine.start(700, {}, uid=2000)
    tracker = JobTracker(machine.host, machine)
    machine.beat(500, 98, step=5)
    look(machine, ("GPU-0", 500), tracker=tracker)
    machine.beat(600, 99, uid=2000, step=999)
    machine.beat(700, 99, uid=2000, step=999, job="slurm:41")
    assert look(machine, ("GPU-0", 500), at=102, tracker=tracker)["slurm:41"].step == 5
    assert tracker.refused_total == 2
    machine.beat(700, 103, uid=0, step=6, job="slurm:41")  # root may
    assert look(machine, ("GPU-0", 500), at=104, tracker=tracker)["slurm:41"].step == 6


def test_who_spoke_first_does_not_keep_the_owner_out() -> None:
    machine = Machine()
    machine.start(700, {}, uid=2000)
    tracker = JobTracker(machine.host, machine)
    machine.beat(700, 90, uid=2000, step=999, job="slurm:41")
    look(machine, tracker=tracker)
    machine.start(500, SLURM)
    machine.beat(500, 101, step=1)
    look(machine, ("GPU-0", 500), at=102, tracker=tracker)
    machine.beat(500, 103, step=2)
    status = look(machine, ("GPU-0", 500), at=104, tracker=tracker)["slurm:41"]
    assert (status.step, status.user) == (2, "maria")


def test_a_crowd_of_told_jobs_does_not_keep_out_one_that_holds_a_chip() -> None:
    machine = Machine()
    machine.start(700, {}, uid=2000)
    tracker = JobTracker(machine.host, machine)
    for number in range(JOBS_MAX + 10):
        machine.beat(700, 99, uid=2000, step=1, job=f"crowd-{number}")
    look(machine, tracker=tracker)
    machine.start(500, SLURM)
    machine.beat(500, 101, step=5)
    jobs = look(machine, ("GPU-0", 500), at=102, tracker=tracker)
    assert jobs["slurm:41"].chips == ("GPU-0",)
    assert len(jobs) == JOBS_MAX
    machine.beat(500, 103, step=6)
    assert look(machine, ("GPU-0", 500), at=104, tracker=tracker)["slurm:41"].step == 6


def test_the_name_that_a_session_gave_its_job_is_forgotten_with_the_job() -> None:
    machine = Machine()
    machine.start(500, {})
    tracker = JobTracker(machine.host, machine)
    machine.beat(500, 99, step=5, job="try-1")
    look(machine, tracker=tracker)
    machine.end(500)
    assert look(machine, at=900, tracker=tracker) == {}
    machine.start(500, {}, uid=2000, started=9999)  # the number of the session is another's now
    jobs = look(machine, ("GPU-0", 500), at=902, tracker=tracker)
    assert set(jobs) == {"local:session-500"}


def test_a_marked_process_speaks_for_its_own_job_whatever_it_says() -> None:
    machine = Machine()
    machine.start(500, SLURM)
    machine.beat(500, 99, step=5, job="slurm:99")
    assert look(machine)["slurm:41"].step == 5


def test_an_unmarked_process_names_the_job_of_its_session_by_its_beats() -> None:
    machine = Machine()
    machine.start(500, {})
    machine.beat(500, 99, step=5, job="try-1")
    status = look(machine, ("GPU-0", 500))
    assert set(status) == {"local:try-1"}
    assert status["local:try-1"].chips == ("GPU-0",)


def test_the_shell_that_calls_chipmedic_beat_stands_for_the_job() -> None:
    machine = Machine()
    marks = {"CHIPMEDIC_JOB": "loop"}
    machine.start(400, marks, session=400)
    tracker = JobTracker(machine.host, machine)
    for step, pid in enumerate((501, 502, 503)):
        machine.start(pid, marks, parent=400, session=400)
        machine.beat(pid, 90.0 + step, step=step, job="local:loop")
        machine.end(pid)
    status = look(machine, tracker=tracker)["local:loop"]
    assert (status.step, status.pids) == (2, (400,))
    assert "gone_ranks" not in status.labels


def test_the_age_of_a_log() -> None:
    machine = Machine()
    machine.start(500, {"CHIPMEDIC_JOB": "demo", "CHIPMEDIC_LOG": "/logs/a b.txt"})
    asked = "stat -L -c %Y -- /proc/500/root/logs/a b.txt /logs/a b.txt"
    host = FakeHost(tools={asked: "1760000000\n"}, files=machine.files)
    tracker = JobTracker(host, machine)
    labels = look(machine, ("GPU-0", 500), tracker=tracker)["local:demo"].labels
    assert labels["log_at"] == "1760000000"
    look(machine, ("GPU-0", 500), at=104, tracker=tracker)
    assert len(host.ran) == 1  # asked again after ten seconds only
    look(machine, ("GPU-0", 500), at=111, tracker=tracker)
    assert len(host.ran) == 2


def test_many_logs_are_looked_at_in_turn() -> None:
    machine = Machine()
    host = FakeHost(tools={"stat": "1760000000\n"}, files=machine.files)
    tracker = JobTracker(host, machine)
    machine.start(700, {})
    for number in range(100):
        machine.beat(700, 99, step=1, job=f"crowd-{number}", log=f"/logs/{number}")
    asked = []
    for at in range(100, 120, 2):
        before = len(host.ran)
        jobs = look(machine, at=at, tracker=tracker)
        asked.append(len(host.ran) - before)
    assert max(asked) <= LOOKS_MAX
    assert all("log_at" in status.labels for status in jobs.values())
    for number in range(100, JOBS_MAX - 1):
        machine.beat(700, 121, step=1, job=f"crowd-{number}", log=f"/logs/{number}")
    machine.start(500, {"CHIPMEDIC_JOB": "demo", "CHIPMEDIC_LOG": "/logs/demo"})
    for at in range(122, 300, 2):
        jobs = look(machine, ("GPU-0", 500), at=at, tracker=tracker)
        assert "log_at" in jobs["local:demo"].labels
    troubles = {status.labels.get("log_trouble") for status in jobs.values()}
    assert troubles == {None, "too many logs to look at"}


def test_dead_file_systems_hold_up_one_look_at_a_time() -> None:
    machine = Machine()
    host = FakeHost(tools={"stat": ToolBlocked("stat: no answer in 2 s")}, files=machine.files)
    tracker = JobTracker(host, machine)
    machine.start(700, {})
    for number in range(10):
        machine.beat(700, 99, step=1, job=f"crowd-{number}", log=f"/dead/{number}")
    look(machine, tracker=tracker)
    assert len(host.ran) == 1
    for at in range(102, 122, 2):
        jobs = look(machine, at=at, tracker=tracker)
    assert all("no answer" in status.labels["log_trouble"] for status in jobs.values())


def test_a_dead_file_system_under_the_log_is_told_and_left_alone() -> None:
    machine = Machine()
    machine.start(500, {"CHIPMEDIC_JOB": "demo", "CHIPMEDIC_LOG": "/nfs/log"})
    host = FakeHost(tools={"stat": ToolBlocked("stat: no answer in 2 s")}, files=machine.files)
    tracker = JobTracker(host, machine)
    for at in range(100, 200, 2):
        status = look(machine, ("GPU-0", 500), at=at, tracker=tracker)["local:demo"]
    assert status.labels["log_trouble"] == "stat: no answer in 2 s"
    assert len(host.ran) == 1


def test_a_real_process_is_followed_into_its_stop(tmp_path: Path) -> None:
    environ = {**os.environ, "CHIPMEDIC_JOB": "real", "RANK": "6"}
    for name in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"):
        environ.pop(name, None)
    log = tmp_path / "train.log"
    log.write_text("step 1\n")
    environ["CHIPMEDIC_LOG"] = str(log)
    code = "import sys, time; print('up', flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        tracker = JobTracker(LinuxHost())
        tracker.observe([ChipProcess("GPU-1", process.pid)], time.time())
        (status,) = tracker.scan(time.time()).jobs
        assert (status.job, status.ranks, status.pids) == ("local:real", (6,), (process.pid,))
        assert float(status.labels["log_at"]) == pytest.approx(log.stat().st_mtime, abs=1.1)
        process.send_signal(signal.SIGSTOP)
        end = time.monotonic() + PATIENCE_SECONDS
        while "processes" not in status.labels:
            assert time.monotonic() < end
            (status,) = tracker.scan(time.time()).jobs
        assert status.labels["processes"] == f"pid {process.pid} rank 6 state T"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    (status,) = tracker.scan(time.time()).jobs
    assert status.pids == ()
    assert "ended_at" in status.labels


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


@pytest.mark.parametrize(
    ("job", "since", "back"),
    [
        (TORCHRUN, None, ""),
        (TORCHRUN, 940.0, "pid 500"),  # it began at 950
        (TORCHRUN, 0.0, "pid 500"),  # kept out since before this boot
        (TORCHRUN, 946.0, ""),  # no better than clocks are known
        (TORCHRUN, 960.0, ""),
        ({"CHIPMEDIC_JOB": "a"}, 940.0, ""),  # no launcher of ours stands before it
    ],
)
def test_a_job_that_begins_where_launchers_are_kept_out(
    job: dict[str, str], since: float | None, back: str
) -> None:
    machine = Machine()
    machine.start(500, job, started=5000)
    machine.files["/proc/uptime"] = "100.00 300.00\n"
    tracker = JobTracker(machine.host, machine)
    tracker.kept_out_since = lambda: since
    (status,) = look(machine, ("GPU-1", 500), at=1000.0, tracker=tracker).values()
    assert status.labels.get("returned", "") == back
