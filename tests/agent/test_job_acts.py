"""What the agent does to jobs: only what is allowed, to the right processes, and to all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chipmedic.host import LinuxHost
from chipmedic.job_files import CheckpointRequests
from chipmedic_agent.config import JobSettings
from chipmedic_agent.job_acts import JobActs, Outcome
from chipmedic_agent.job_room import JobRoom
from chipmedic_agent.jobs import JobTracker
from chipmedic_agent.process_tree import Process, launcher_of
from chipmedic_agent.processes import identify, read_stat
from chipmedic_agent.progress import Beat
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from process_family import children, kill
from waiting import until

HOST = LinuxHost()
LAUNCHER = Path(__file__).parents[1] / "launcher.py"
JOB = "torchrun:llama"
REASON = "chipmedic:inc-000007 memory.uncorrectable"


@dataclass
class Beats:
    """Where the tracker hears of the processes."""

    waiting: list[Beat]

    def drain(self) -> list[Beat]:
        heard, self.waiting = self.waiting, []
        return heard


class Node:
    """The part of the agent that acts on jobs."""

    def __init__(self, folder: Path, settings: JobSettings) -> None:
        self.folder = folder
        self.beats = Beats([])
        self.tracker = JobTracker(HOST, self.beats)
        self.room = JobRoom(str(folder / "jobs"), str(folder), "boot-1")
        self.acts = JobActs(settings, self.tracker, self.room, HOST)

    def see(self, *pids: int) -> None:
        for pid in pids:
            self.beats.waiting.append(
                Beat(at=time.time(), pid=pid, uid=os.getuid(), step=1, sender=identify(HOST, pid))
            )
        self.tracker.scan(time.time())

    async def do(self, act: str, job: str = JOB, *, reason: str = REASON) -> Outcome:
        return await self.acts.carry_out(pb.JobAct(act=act, job=job, reason=reason))


ALL = JobSettings(allow=("checkpoint", "leave", "restart"), grace_seconds=30.0)
IMPATIENT = JobSettings(allow=ALL.allow, grace_seconds=0.2)


@dataclass
class Launched:
    process: subprocess.Popen[str]

    def workers(self) -> list[int]:
        """Wait for a start and return its workers."""
        assert self.process.stdout is not None
        return [int(word) for word in self.process.stdout.readline().split()[1:]]


@contextmanager
def launched(folder: Path, *words: str) -> Iterator[Launched]:
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), "llama", *words],
        env={key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
        | {"CAUGHT": str(folder / "caught")},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Launched(process)
    finally:
        assert process.stdout is not None
        found = read_stat(HOST, process.pid)
        family = [] if found is None else children(process.pid)
        process.kill()
        process.wait()
        for pid in family:
            kill(pid)
        process.stdout.close()


def lives(pid: int) -> bool:
    stat = read_stat(HOST, pid)
    return stat is not None and stat.is_alive


@pytest.mark.parametrize(
    ("act", "word"),
    [
        ("checkpoint", "checkpoint"),
        ("leave", "leave"),
        ("keep_out", "leave"),
        ("let_in", "leave"),
        ("restart", "restart"),
    ],
)
async def test_nothing_is_done_that_is_not_allowed(tmp_path: Path, act: str, word: str) -> None:
    node = Node(tmp_path, JobSettings())
    outcome = await node.do(act)
    assert not outcome.ok
    assert outcome.is_final
    assert f'"{word}"' in outcome.detail
    assert list(tmp_path.iterdir()) == []


async def test_an_act_of_a_later_version_is_refused(tmp_path: Path) -> None:
    outcome = await Node(tmp_path, ALL).do("teleport")
    assert (outcome.ok, outcome.is_final) == (False, True)


async def test_a_job_leaves_launcher_first_and_asking_again_changes_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, ALL)
    with launched(tmp_path, "child") as job:
        workers = job.workers()
        until(lambda: len(children(job.process.pid)) == 4)
        family = children(job.process.pid)
        node.see(*workers)
        refused = await node.do("leave")
        assert (refused.ok, refused.is_final) == (False, True), "it would be started again"
        assert (await node.do("keep_out")).ok
        assert await node.do("look") == Outcome(True, REASON)
        outcome = await node.do("leave")
        assert outcome.ok, outcome.detail
        assert outcome.detail.startswith("5 processes ended")
        assert job.process.wait() == 128 + signal.SIGTERM, "it was told, not killed"
        assert not any(lives(pid) for pid in family)
        assert node.tracker.scan(time.time()).jobs == (), "it is not reported any more"
        assert await node.do("leave") == Outcome(True, f"no process of {JOB} lives here")


async def test_what_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    node = Node(tmp_path, IMPATIENT)
    with launched(tmp_path, "stubborn", "child") as job:
        node.see(*job.workers())
        until(lambda: len(children(job.process.pid)) == 4)
        family = children(job.process.pid)
        await node.do("keep_out")
        outcome = await node.do("leave")
        assert outcome.ok, outcome.detail
        assert "by SIGKILL" in outcome.detail
        assert not any(lives(pid) for pid in family)


async def test_a_launcher_leaves_between_two_starts_of_its_workers_too(tmp_path: Path) -> None:
    node = Node(tmp_path, ALL)
    with launched(tmp_path) as job:
        node.see(*job.workers())
        node.tracker._at_work = {}  # its workers have just ended
        await node.do("keep_out")
        assert (await node.do("leave")).ok
        assert job.process.wait() == 128 + signal.SIGTERM


async def test_the_workers_start_again_and_a_later_start_is_left_alone(tmp_path: Path) -> None:
    node = Node(tmp_path, ALL)
    with launched(tmp_path) as job:
        first = job.workers()
        node.see(*first)
        outcome = await node.do("restart")
        assert outcome.ok, outcome.detail
        second = job.workers()
        assert not any(lives(pid) for pid in first)
        assert lives(job.process.pid)
        node.see(*second)
        assert (await node.do("restart")).detail == f"{JOB} starts again by itself"
        assert all(lives(pid) for pid in second)


async def test_workers_without_a_launcher_are_not_ended(tmp_path: Path) -> None:
    node = Node(tmp_path, ALL)
    outcome = await node.do("restart")
    assert (outcome.ok, outcome.is_final) == (False, True)
    assert "no launcher" in outcome.detail


async def test_a_checkpoint_is_asked_for_by_file_and_signal(tmp_path: Path) -> None:
    node = Node(tmp_path, ALL)
    requests = CheckpointRequests(JOB, directory=str(tmp_path / "jobs"))
    assert (await node.do("checkpoint")).detail == f"no process of {JOB} lives here"
    with launched(tmp_path, "saves") as job:
        node.see(*job.workers())
        outcome = await node.do("checkpoint")
        assert outcome.ok
        assert outcome.detail.endswith("SIGUSR1 to 2 of 2 processes")
        caught = tmp_path / "caught"
        until(lambda: caught.exists() and caught.read_text().count("saved") == 2)
    assert requests.is_new()
    assert not requests.is_new()


async def test_a_process_that_does_not_catch_the_signal_is_not_ended_by_it(tmp_path: Path) -> None:
    node = Node(tmp_path, ALL)
    with launched(tmp_path) as job:
        workers = job.workers()
        node.see(*workers)
        outcome = await node.do("checkpoint")
        assert outcome.ok
        assert outcome.detail.endswith("SIGUSR1 to 0 of 2 processes; the others do not catch it")
        assert all(lives(pid) for pid in workers)


async def test_jobs_of_other_users_can_read_what_is_left_for_them(tmp_path: Path) -> None:
    before = os.umask(0o027)  # that of the unit
    try:
        await Node(tmp_path, ALL).do("keep_out")
    finally:
        os.umask(before)
    assert (tmp_path / "jobs").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "jobs" / "keep_out").stat().st_mode & 0o777 == 0o644


async def test_a_persons_keep_out_is_not_ended(tmp_path: Path) -> None:
    node = Node(tmp_path, ALL)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "keep_out").write_text("new fans, Maria\n")
    assert await node.do("look") == Outcome(True, "new fans, Maria")
    outcome = await node.do("let_in")
    assert (outcome.ok, outcome.is_final) == (False, True)
    assert "new fans, Maria" in outcome.detail
    assert (await node.do("look")).ok


async def test_who_is_kept_out_stays_so_over_a_reboot_and_is_let_in_once(tmp_path: Path) -> None:
    await Node(tmp_path, ALL).do("keep_out")
    (tmp_path / "jobs" / "keep_out").unlink()  # /run is empty after a boot
    booted = Node(tmp_path, ALL)
    booted.room = JobRoom(str(tmp_path / "jobs"), str(tmp_path), "boot-2")
    booted.acts = JobActs(ALL, booted.tracker, booted.room, HOST)
    booted.room.restore()
    assert await booted.do("look") == Outcome(True, REASON)
    assert booted.room.kept_out is not None
    assert booted.room.kept_out.since == 0.0
    assert (await booted.do("let_in")).ok
    assert await booted.do("look") == Outcome(False, "launchers may start")
    assert (await booted.do("let_in")).ok
    booted.room.restore()
    assert not (await booted.do("look")).ok


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    node = Node(tmp_path, ALL)
    (tmp_path / "jobs").write_text("a file in the way")
    outcome = await node.do("keep_out")
    assert not outcome.ok
    assert "jobs" in outcome.detail


def test_the_launcher_is_the_nearest_ancestor_without_the_mark(tmp_path: Path) -> None:
    with launched(tmp_path, "child") as job:
        workers = job.workers()
        until(lambda: len(children(job.process.pid)) == 4)
        found = read_stat(HOST, job.process.pid)
        assert found is not None
        for pid in children(job.process.pid):
            assert launcher_of(HOST, pid) == Process(job.process.pid, found.started)
        assert launcher_of(HOST, os.getpid()) is None
        assert set(workers) < set(children(job.process.pid))
