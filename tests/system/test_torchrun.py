"""A real elastic PyTorch job over three agents: a node leaves, a spare comes in, a hang ends.

Everything is real but the chips: torchrun, gloo, its rendezvous, agents, watchdog. The three nodes
are three launchers on this machine, each with an agent of its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from chipmedic.job_files import NO_RESTART_EXIT_STATUS
from chipmedic_simulator.node import SimulatedNode, Vendor
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from process_family import children, kill
from waiting import PATIENCE_SECONDS, until
from watchdog.notify.receivers import unused_port
from watchdog_process import WatchdogProcess

HAS_TORCH = importlib.util.find_spec("torch") is not None
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not HAS_TORCH, reason="no PyTorch: tests/system/parts says how to add it"),
]

EXAMPLE = Path(__file__).parents[2] / "deploy" / "torchrun"
JOB = "torchrun:example"
NODES = ("n1", "n2", "n3")
WATCHDOG = """
stream.heartbeat_seconds = 0.5
[recover]
mode = "act"
maximum_isolated_percent = 50
hold_file = ""
retry_seconds = 0.1
[recover.gate]
required = false
[recover.checkpoint]
timeout_seconds = 60
[recover.torchrun]
regroup_seconds = 3
"""
AGENT = """
[jobs]
allow = ["checkpoint", "leave", "restart"]
grace_seconds = 3
[http]
enabled = false
[stream]
heartbeat_seconds = 0.5
[collectors.jobs]
period_seconds = 0.5
[collectors.kernel_log]
period_seconds = 0.1
[detectors.hang]
floor_seconds = 5
"""


EATER = """
import time
from chipmedic.beat import beat
while True:
    beat(phase="init")
    time.sleep(0.2)
"""
"""A worker whose launcher was started on a node that is kept out."""


class Cluster:
    """Three nodes, their launchers, a watchdog, and the place where launchers meet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[Any]] = []
        self.launchers: dict[str, subprocess.Popen[Any]] = {}
        self.hardware = {n: SimulatedNode.create(folder / n, Vendor.NVIDIA, 1) for n in NODES}
        self.watchdog = WatchdogProcess(folder / "watchdog")
        self.stream_port, self.rendezvous_port = unused_port(), unused_port()

    def start(self) -> None:
        self.start_watchdog()
        self.run("rendezvous", str(EXAMPLE / "rendezvous.py"), str(self.rendezvous_port),
                 "--host", "127.0.0.1")  # fmt: skip
        for node in NODES:
            self.start_agent(node)

    def start_watchdog(self) -> None:
        self.watchdog.config = WATCHDOG
        self.watchdog.start(stream=f"127.0.0.1:{self.stream_port}")

    def start_agent(self, node: str) -> None:
        here = self.hardware[node]
        (here.folder / "agent.toml").write_text(
            f'node = "{node}"\nwatchdogs = ["127.0.0.1:{self.stream_port}"]\n'
            f'state_directory = "{here.folder}/agent"\nhost_root = "{here.root}"\n'
            f'progress_socket = "{here.folder}/s"\njobs_directory = "{here.folder}/jobs"\n{AGENT}'
        )
        run = "from chipmedic_agent.main import run; run()"
        self.run(f"agent-{node}", "-c", run, "--config", str(here.folder / "agent.toml"),
                 **here.environment()[0])  # fmt: skip

    def launch(self, node: str) -> None:
        here = self.hardware[node].folder
        options = (
            "--nnodes=2:2", "--nproc-per-node=1", "--max-restarts=5", "--rdzv-id=example",
            "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{self.rendezvous_port}",
            "--rdzv-conf=is_host=0,keep_alive_interval=1,keep_alive_max_attempt=3",
            "--local-addr=127.0.0.1",
        )  # fmt: skip
        self.launchers[node] = self.run(
            f"launcher-{node}", "-m", "chipmedic.launch", "--",
            sys.executable, "-m", "torch.distributed.run", *options,
            str(EXAMPLE / "train.py"), "--folder", str(self.folder),
            CHIPMEDIC_SOCKET=f"{here}/s", CHIPMEDIC_JOBS=f"{here}/jobs", OMP_NUM_THREADS="1",
        )  # fmt: skip

    def run(self, name: str, *argv: str, **environ: str) -> subprocess.Popen[Any]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "TORCHELASTIC"))}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *argv], env={**kept, **environ}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def rows(self, table: Any) -> list[dict[str, Any]]:
        database = Database(open_engine(f"sqlite:///{self.watchdog.folder}/store/watchdog.db"))
        try:
            rows = database.read_now(lambda c: c.execute(select(table)).mappings().all())
            return [dict(row) for row in rows]
        finally:
            database.close()

    def workers(self) -> dict[str, tuple[list[int], int]]:
        """Return pids and step of the job by node, as the watchdog knows them."""
        return {
            row["node"]: (row["pids"], row["step"] or 0)
            for row in self.rows(schema.job_nodes)
            if row["job"] == JOB and row["is_present"] and row["pids"]
        }

    def steps_on(self, *nodes: str, beyond: int = 0) -> int:
        """Return the step of a job that is on these nodes and beyond a step; 0: not so."""
        here = self.workers()
        step = max((step for _, step in here.values()), default=0)
        return step if sorted(here) == sorted(nodes) and step > beyond else 0

    def recovery(self, rung: str = "") -> dict[str, Any]:
        """Return the newest recovery of the job, or that which restarts it by this rung."""
        rows = self.rows(schema.recovery_steps)
        mine = [r["recovery"] for r in rows if r["target"] == JOB and rung in ("", r["rung"])]
        found = [row for row in self.rows(schema.recoveries) if row["id"] in mine]
        return max(found, key=lambda row: row["id"], default={})

    def steps(self) -> dict[str, dict[str, Any]]:
        """Return the steps of the newest recovery of the job, by kind."""
        newest = self.recovery().get("id")
        rows = self.rows(schema.recovery_steps)
        return {row["kind"]: row for row in rows if row["recovery"] == newest}

    def open_faults(self, kind: str) -> set[tuple[str, str]]:
        rows = self.rows(schema.faults)
        return {(r["node"], r["job"]) for r in rows if r["kind"] == kind and r["state"] == "open"}

    def explain(self) -> str:
        logs = [f"launcher-{node}" for node in self.launchers]
        told = "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in logs)
        return f"{told}\n--- watchdog\n{self.watchdog.log[-2500:]}"

    def close(self) -> None:
        self.watchdog.close()
        for process in reversed(self.processes):
            family = [process.pid, *children(process.pid)]
            for pid in family:
                kill(pid)
            process.wait()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="cm-") as folder:  # pytest's is too long for a socket
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()


def test_a_sick_node_leaves_a_spare_takes_its_place_and_a_hang_ends(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    for node in ("n1", "n2"):
        cluster.launch(node)
    until(lambda: cluster.steps_on("n1", "n2"), "the job steps", explain=cluster.explain)
    cluster.launch("n3")
    until(lambda: children(cluster.launchers["n3"].pid), "a spare waits")

    # A chip of n2 falls off the bus; the watchdog is killed in the middle of the recovery.
    begun = time.monotonic()
    hurt = cluster.hardware["n2"]
    hurt.kernel_log.say("off-bus", hurt.pci(0))
    until(lambda: cluster.recovery().get("state") == "running", "it acts", explain=cluster.explain)
    cluster.watchdog.kill()
    before = cluster.watchdog.log
    cluster.start_watchdog()

    def saved() -> int:
        found = re.search(r"saved at step (\d+)", cluster.steps()["checkpoint"]["detail"])
        return int(found[1]) if found else 0

    wanted = until(saved, "the job has saved", explain=lambda: before + cluster.explain())
    step = until(
        lambda: cluster.steps_on("n1", "n3", beyond=wanted), "it steps on the spare",
        explain=lambda: str(cluster.steps()) + cluster.explain(),
    )  # fmt: skip
    seconds = time.monotonic() - begun
    until(lambda: cluster.recovery()["state"] == "done", "done", explain=cluster.explain)

    assert cluster.launchers["n2"].wait(timeout=PATIENCE_SECONDS) == NO_RESTART_EXIT_STATUS
    assert "chipmedic:inc-" in cluster.log("launcher-n2"), "the launcher says why"
    assert cluster.steps()["restart"]["detail"].startswith("formed anew on n1")
    starts = re.findall(r"starts after step (\d+)", cluster.log("launcher-n3"))
    assert starts, cluster.log("launcher-n3")
    assert int(starts[0]) >= wanted, "from the checkpoint that was asked for"
    cluster.launch("n2")
    assert cluster.launchers["n2"].wait(timeout=PATIENCE_SECONDS) == NO_RESTART_EXIT_STATUS, (
        "it stays out"
    )

    # Something that eats the exit status starts a job there even so: that is told.
    cluster.run(
        "eaten", "-c", EATER, TORCHELASTIC_RUN_ID="eaten", CHIPMEDIC_SOCKET=f"{hurt.folder}/s"
    )
    until(lambda: cluster.open_faults("job.returned") == {("n2", "torchrun:eaten")},
          "an alarm", explain=cluster.explain)  # fmt: skip

    # A worker stops in its tracks; the job is started again in place.
    hung_at = time.monotonic()
    (pid,) = cluster.workers()["n3"][0]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: cluster.recovery("in_place").get("state") == "done", "it steps again",
          explain=cluster.explain)  # fmt: skip
    assert cluster.steps()["checkpoint"]["detail"] == "not asked: job.hung is open on it"
    hang_seconds = time.monotonic() - hung_at
    until(lambda: cluster.steps_on("n1", "n3", beyond=step), "it goes on", explain=cluster.explain)
    with capsys.disabled():
        sys.stdout.write(
            f"\ntorchrun: fault -> first step on the spare {seconds:.1f} s, the watchdog killed in "
            f"between; hang -> steps again in place {hang_seconds:.1f} s\n"
        )
