"""The age of a job's log, on file systems that may be dead."""

from __future__ import annotations

from chipmedic.errors import ToolBlocked
from chipmedic.testing import FakeHost
from chipmedic_agent.job_log import LOOKS_MAX
from chipmedic_agent.jobs import JOBS_MAX, JobTracker
from job_machine import Machine, look


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
