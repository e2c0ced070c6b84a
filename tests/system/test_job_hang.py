"""A real job of three ranks that meet at a barrier: one is stopped, one is killed, one job is slow.

Nothing here is simulated but the chips: processes, socket, /proc and the clock are real.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chipmedic.host import LinuxHost
from chipmedic.model import Change, Cleared, Raised
from chipmedic_agent.detectors import DetectorSettings
from chipmedic_agent.detectors.hang import hang_detectors
from chipmedic_agent.detectors.settings import HangSettings
from chipmedic_agent.jobs import JobTracker
from chipmedic_agent.progress import ProgressListener
from waiting import until

pytestmark = pytest.mark.system

RANK = """
import multiprocessing, os, sys, time
from chipmedic.beat import beat

def work(rank, barrier, pids):
    os.environ["RANK"] = str(rank)
    step = 0
    while True:
        barrier.wait()
        time.sleep(0.05)
        beat(step=step, phase="train", rank=rank)
        step += 1
        if sys.argv[1] == "slow" and step == 60:
            beat(step=step, phase="checkpoint", rank=rank)
            time.sleep(8)
            beat(step=step, phase="train", checkpoint=step, rank=rank)

if __name__ == "__main__":
    barrier = multiprocessing.get_context("fork").Barrier(3)
    ranks = [
        multiprocessing.get_context("fork").Process(target=work, args=(n, barrier, None))
        for n in range(3)
    ]
    for rank in ranks:
        rank.start()
    print(*[rank.pid for rank in ranks], flush=True)
    for rank in ranks:
        rank.join()
"""
FLOOR_SECONDS = 3.0


@dataclass
class Watch:
    """The part of the agent under test: socket, tracker and detector."""

    listener: ProgressListener
    told: list[tuple[float, Change]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracker = JobTracker(LinuxHost(), self.listener)
        hang = HangSettings(floor_seconds=FLOOR_SECONDS)
        (self.detector,) = hang_detectors(DetectorSettings(hang=hang))
        self.state: Any = self.detector.start()

    def look(self) -> None:
        scan = self.tracker.scan(time.time())
        self.state, changes = self.detector.step(self.state, scan)
        self.told += [(scan.at, change) for change in changes]

    def until(self, condition: Callable[[], bool]) -> None:
        def is_so() -> bool:
            self.look()
            return condition()

        until(is_so, explain=lambda: f"told: {self.told}", every_seconds=0.25)

    def step_of(self, job: str) -> int:
        course = self.state.courses.get(job)
        return -1 if course is None or course.step is None else course.step


@pytest_asyncio.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    listener = ProgressListener(str(tmp_path / "progress.sock"))
    await listener.start()
    yield Watch(listener)
    listener.close()


@contextmanager
def job(tmp_path: Path, mode: str) -> Iterator[list[int]]:
    """Start the job; yield the pids of its ranks."""
    script = tmp_path / "train.py"
    script.write_text(RANK)
    environ = {**os.environ, "CHIPMEDIC_JOB": "trio"}
    environ["CHIPMEDIC_SOCKET"] = str(tmp_path / "progress.sock")
    environ.pop("SLURM_JOB_ID", None)
    process = subprocess.Popen(
        [sys.executable, str(script), mode],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield [int(pid) for pid in process.stdout.readline().split()]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


async def test_a_stopped_rank_hangs_the_job_and_going_on_ends_it(
    watch: Watch, tmp_path: Path
) -> None:
    with job(tmp_path, "steady") as pids:
        watch.until(lambda: watch.step_of("local:trio") >= 30)
        os.kill(pids[1], signal.SIGSTOP)
        watch.until(lambda: bool(watch.told))
        _, change = watch.told[0]
        assert isinstance(change, Raised)
        assert change.fault.kind == "job.hung"
        assert any(f"pid {pids[1]}" in line for line in change.fault.evidence)
        os.kill(pids[1], signal.SIGCONT)
        watch.until(lambda: len(watch.told) > 1)
        assert isinstance(watch.told[1][1], Cleared)


async def test_a_killed_rank_whose_mates_wait_is_a_crash(watch: Watch, tmp_path: Path) -> None:
    with job(tmp_path, "steady") as pids:
        begun = time.monotonic()
        watch.until(lambda: watch.step_of("local:trio") >= 30 and time.monotonic() - begun > 6)
        os.kill(pids[2], signal.SIGKILL)
        watch.until(lambda: bool(watch.told))
        fault = watch.told[0][1].fault
        assert fault.kind == "job.crashed"
        assert any(f"(pid {pids[2]})" in line for line in fault.evidence)
    watch.until(lambda: len(watch.told) > 1)
    assert isinstance(watch.told[-1][1], Cleared)  # nothing of the job is left


async def test_a_long_checkpoint_is_no_hang(watch: Watch, tmp_path: Path) -> None:
    with job(tmp_path, "slow"):
        watch.until(lambda: watch.step_of("local:trio") >= 90)
    assert watch.told == []
