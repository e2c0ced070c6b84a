"""The simulated training job under its scheduler, as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chipmedic_simulator.node import SimulatedNode, Vendor
from chipmedic_simulator.nvml.state import read_state as read_nvml
from chipmedic_simulator.scheduler.state import ClusterState, Job, Node, Rank, write_state
from chipmedic_simulator.scheduler.state import read_state as read_scheduler
from chipmedic_simulator.training import control
from chipmedic_simulator.training.control import Control
from chipmedic_simulator.training.rank import EXIT_CHIP, EXIT_CRASH
from waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.system

NOT_YET = 75


class Cluster:
    """Three simulated nodes, a scheduler, a job of two ranks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job_folder = folder / "job"
        self.job_folder.mkdir()
        names = ("n1", "n2", "n3")
        self.hardware = {n: SimulatedNode.create(folder / n, Vendor.NVIDIA, 2) for n in names}
        job = Job(
            name="pretrain", ranks=2, folder=str(self.job_folder), ring_folder=str(folder),
            step_seconds=0.05, checkpoint_every=5,
        )  # fmt: skip
        nodes = {n: Node(name=n, hardware=str(self.hardware[n].folder)) for n in names}
        write_state(folder, ClusterState(nodes=nodes, job=job))
        self.daemon = self.start_daemon()

    def start_daemon(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._argv("run"))

    def _argv(self, *words: str) -> list[str]:
        module = "chipmedic_simulator.scheduler"
        return [sys.executable, "-P", "-m", module, "--folder", str(self.folder), *words]

    def run(self, *words: str) -> int:
        done = subprocess.run(
            self._argv(*words), capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
        return done.returncode

    @property
    def job(self) -> Job:
        return read_scheduler(self.folder).job

    def checkpoint(self) -> int:
        try:
            return int(self._saved()["step"])
        except FileNotFoundError:
            return 0

    def _saved(self) -> dict[str, Any]:
        saved: dict[str, Any] = json.loads((self.job_folder / "checkpoint.json").read_text())
        return saved

    def saved_value(self) -> tuple[int, float]:
        saved = self._saved()
        return int(saved["step"]), float(saved["value"])

    def until_steps(self, more: int = 5) -> int:
        """Wait until the job has saved a newer checkpoint; return its step."""
        wanted = self.checkpoint() + more
        until(lambda: self.checkpoint() >= wanted, f"a checkpoint at step {wanted}")
        return self.checkpoint()

    def log(self, rank: int) -> str:
        return (self.job_folder / f"rank-{rank}.log").read_text()

    def stop(self) -> None:
        self.daemon.terminate()
        self.daemon.wait(PATIENCE_SECONDS)


def is_alive(rank: Rank) -> bool:
    try:
        state = Path(f"/proc/{rank.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="cm-") as folder:  # pytest's is too long for a socket
        running = Cluster(Path(folder))
        try:
            yield running
        finally:
            running.stop()
            assert not [rank for rank in running.job.running if is_alive(rank)]


def test_the_job_steps_and_holds_the_chips_of_its_nodes(cluster: Cluster) -> None:
    cluster.until_steps()
    job = cluster.job
    assert [rank.node for rank in job.running] == ["n1", "n2"]
    for rank in job.running:
        held = read_nvml(cluster.hardware[rank.node].nvml.path)["gpu.*.processes"]
        assert held.startswith(f"{rank.pid}:")


def test_a_failed_chip_kills_its_rank_and_the_spare_goes_on_from_the_checkpoint(
    cluster: Cluster,
) -> None:
    cluster.until_steps()
    cluster.hardware["n1"].trouble.write_text("CUDA error: uncorrectable ECC error encountered")
    until(lambda: cluster.job.running[0].exit_status == EXIT_CHIP, "rank 0 dies")
    assert "uncorrectable ECC error" in cluster.log(0)
    assert is_alive(cluster.job.running[1])  # waits in its collective, as NCCL's peers do
    assert read_nvml(cluster.hardware["n1"].nvml.path)["gpu.*.processes"] == ""
    saved = cluster.checkpoint()

    assert cluster.run("isolate", "n1", "--reason", "chipmedic:inc-1 memory") == 0
    assert cluster.run("is-isolated", "n1") == 0
    cluster.run("restart", "pretrain", "--token", "inc-1")
    until(lambda: cluster.run("is-running", "pretrain", "--token", "inc-1") == 0, "runs again")
    assert [rank.node for rank in cluster.job.running] == ["n2", "n3"]
    until(lambda: f"starts after step {saved}" in cluster.log(0), "goes on from the checkpoint")
    cluster.until_steps()


def test_a_resumed_job_computes_what_an_uninterrupted_one_does(cluster: Cluster) -> None:
    cluster.until_steps()
    cluster.run("restart", "pretrain", "--token", "a")
    until(lambda: cluster.job.running_attempt == 1, "starts again")
    cluster.until_steps(10)
    step, value = cluster.saved_value()
    assert value == 2.0 * sum(range(step))  # two ranks each give the number of the step


def test_commands_can_be_repeated(cluster: Cluster) -> None:
    cluster.until_steps()
    for _ in range(2):
        assert cluster.run("isolate", "n2", "--reason", "first") == 0
        cluster.run("restart", "pretrain", "--token", "inc-1")
        until(lambda: cluster.run("is-running", "pretrain", "--token", "inc-1") == 0, "runs")
    assert cluster.job.attempt == 1
    assert cluster.run("isolate", "n2", "--reason", "second") == 0
    assert read_scheduler(cluster.folder).nodes["n2"].reason == "first"
    assert cluster.run("give-back", "n2") == 0
    assert cluster.run("is-isolated", "n2") == NOT_YET


def test_without_enough_nodes_the_job_waits(cluster: Cluster) -> None:
    cluster.until_steps()
    for node in ("n1", "n2"):
        cluster.run("isolate", node)
    assert cluster.run("restart", "pretrain", "--token", "a") == NOT_YET
    time.sleep(1.0)
    assert cluster.run("is-running", "pretrain", "--token", "a") == NOT_YET
    cluster.run("give-back", "n1")
    until(lambda: cluster.run("is-running", "pretrain", "--token", "a") == 0, "runs again")
    assert [rank.node for rank in cluster.job.running] == ["n1", "n3"]


def test_a_hang_stalls_all_ranks_until_a_restart(cluster: Cluster) -> None:
    cluster.until_steps()
    control.write(cluster.job_folder, Control(attempt=0, hang_rank=1))

    def stands() -> bool:
        """Whether nothing was saved for a second; 20 steps would be."""
        before = cluster.checkpoint()
        time.sleep(1.0)
        return cluster.checkpoint() == before

    until(stands, "it stands still")
    assert all(is_alive(rank) for rank in cluster.job.running)
    cluster.run("restart", "pretrain", "--token", "a")
    cluster.until_steps()


def test_a_crash_is_an_exit_status(cluster: Cluster) -> None:
    cluster.until_steps()
    control.write(cluster.job_folder, Control(attempt=0, crash_rank=1))
    until(lambda: cluster.job.running[1].exit_status == EXIT_CRASH, "rank 1 crashes")
    assert "loss is NaN" in cluster.log(1)


def test_two_attempts_never_write_one_checkpoint(cluster: Cluster) -> None:
    cluster.until_steps()
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RESTART_COUNT": "9"}
    second = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "chipmedic_simulator.training.rank"),
            *("--folder", str(cluster.job_folder), "--ring", str(cluster.folder / "other.sock")),
            *("--chip-trouble", "/dev/null.none", "--init-seconds", "0"),
        ],
        env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        cluster.until_steps(20)  # plenty of time for the second one, if it were let in
        assert second.poll() is None
    finally:
        second.terminate()
        assert (
            second.communicate(timeout=PATIENCE_SECONDS)[1] == b""
        )  # it never came to its first step


def test_a_daemon_that_was_killed_is_followed_by_one_that_cleans_up(cluster: Cluster) -> None:
    cluster.until_steps()
    before = cluster.job.running
    cluster.daemon.send_signal(signal.SIGKILL)
    cluster.daemon.wait()
    assert all(is_alive(rank) for rank in before)
    cluster.daemon = cluster.start_daemon()
    until(lambda: cluster.job.running_attempt == 1, "starts again")
    until(lambda: not any(is_alive(rank) for rank in before), "the old ranks are gone")
    cluster.until_steps()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("isolate", "n9"), "isolate: no such node or job: n9"),
        (("restart", "other", "--token", "a"), "restart: no such node or job: other"),
    ],
)
def test_what_is_not_there_is_one_line(
    cluster: Cluster, words: tuple[str, ...], complaint: str
) -> None:
    done = subprocess.run(cluster._argv(*words), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"scheduler: {complaint}\n")
