"""Whose processes hold which chips, who may speak for a job, and what is told of its ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chipmedic.host import LinuxHost
from chipmedic.model import ChipProcess
from chipmedic_agent.jobs import JOBS_MAX, JobTracker
from chipmedic_agent.progress import Beat
from job_machine import SLURM, TORCHRUN, Machine, look
from waiting import PATIENCE_SECONDS


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
