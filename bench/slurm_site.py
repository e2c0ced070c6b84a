"""A site on one machine: a real Slurm, a real watchdog, a real agent for each of its nodes."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from path import Receiver, ask, start

from chipmedic_simulator.kernel_log import SimulatedKernelLog

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from system.slurm.cluster import Cluster  # noqa: E402  it lies beside the tests that use it

READY = re.compile(r"ready: stream_port=(\d+) http=(\S+)")
PROC = {"vmstat": "pgfault 811\noom_kill 0\n", "self/mountinfo": "22 1 0:21 / /proc rw - proc\n"}
FENCE = """#!{python}
# What switching its power off does to a node.
import os, signal, sys
mark = b"SLURMD_NODENAME=" + sys.argv[1].encode()
for pid in filter(str.isdecimal, os.listdir("/proc")):
    try:
        with open(f"/proc/{{pid}}/environ", "rb") as file:
            if mark in file.read().split(b"\\0"):
                os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass
"""
WATCHDOG = """
[store]
url = "sqlite:///{folder}/watchdog.db"
[stream]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[incidents]
reopen_seconds = 1
[notify.channels.desk]
kind = "webhook"
url = "{webhook}"
secret_file = "{folder}/key"
[recover]
mode = "act"
return_mode = "act"
hold_file = ""
maximum_isolated_nodes = {nodes}
maximum_isolated_percent = 100
breaker_nodes = 1000
breaker_percent = 100
breaker_out_percent = 100
maximum_restarts_per_job = 1000
maximum_isolations_per_node = 1000
lemon_isolations = 1000
return_cool_down_seconds = 0
probation_seconds = 0
[recover.gate]
required = false
[recover.slurm]
fence = ["{folder}/fence", "{{node}}"]
env = {{ SLURM_CONF = "{folder}/slurm.conf" }}
"""
"""Limits are lifted: here a year's failures come within minutes, all meant. A repaired node stands
for a new one, so that no probation follows."""
AGENT = """
node = "{name}"
watchdogs = ["127.0.0.1:{port}"]
host_root = "{here}/root"
state_directory = "{here}/state"
progress_socket = "{here}/beats"
[http]
listen = "127.0.0.1:0"
[collectors.nvidia]
enabled = false
[collectors.ascend]
enabled = false
"""


@dataclass
class Site:
    """What is running, and how to break it."""

    folder: Path
    cluster: Cluster
    receiver: Receiver
    http: str = ""
    port: int = 0
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    off: dict[str, subprocess.Popen[bytes] | None] = field(default_factory=dict)
    """Nodes without power, with their agents."""
    watchdog: subprocess.Popen[bytes] | None = None

    @property
    def is_watched(self) -> bool:
        """False: Slurm alone."""
        return self.watchdog is not None

    def log_of(self, node: str) -> SimulatedKernelLog:
        """Return the kernel log of a node."""
        return SimulatedKernelLog(self.folder / "nodes" / node / "root")

    def start_agent(self, node: str) -> None:
        """Start the agent of a node."""
        if self.is_watched:
            here = self.folder / "nodes" / node
            self.agents[node] = start("chipmedic_agent", here / "agent.toml", here / "agent.log")

    def kill_agent(self, node: str) -> None:
        """Kill it as a crash would."""
        if (agent := self.agents.pop(node, None)) is not None:
            agent.kill()
            agent.wait(20)

    def submit(self, nodes: int) -> str:
        """Submit a training job; return its id."""
        script = (
            f"export PYTHONPATH={ROOT / 'core'}\n"
            f"exec srun {sys.executable} -P {ROOT / 'bench/slurm_rank.py'} {self.folder}"
        )
        return self.cluster.submit(f"-N{nodes}", "--ntasks-per-node=1", "--requeue", script=script)

    def steps(self, job: str) -> list[tuple[float, int, int, str]]:
        """Return the steps of a job: when, in which attempt, which, on which nodes."""
        path = self.folder / "jobs" / job / "steps"
        if not path.exists():
            return []
        words = [line.split() for line in path.read_text().splitlines()]
        return [(float(w[0]), int(w[1]), int(w[2]), w[3]) for w in words if len(w) == 4]

    def nodes_of(self, job: str) -> list[str]:
        """Return the nodes on which a job runs now."""
        names = self.cluster.command("squeue", "-h", "-j", job, "-t", "R", "-o", "%N").strip()
        if not names:
            return []
        return self.cluster.command("scontrol", "show", "hostnames", names).split()

    def state_of(self, job: str) -> str:
        """Return its state as scontrol has it."""
        with suppress(AssertionError):
            return self.cluster.job(job)["JobState"]
        return "UNKNOWN"

    def rank_of(self, job: str, node: str) -> int:
        """Return the process of a job on a node."""
        return int((self.folder / "nodes" / node / f"rank-{job}").read_text())

    def signal_rank(self, job: str, node: str, number: signal.Signals) -> None:
        """Send a signal to it."""
        with suppress(ProcessLookupError):
            os.kill(self.rank_of(job, node), number)

    def power_off(self, node: str) -> None:
        """Let a node stand still with all that runs on it.

        Stopped processes are as silent as a host without power; killed ones would close their
        connections, by which Slurm, the other ranks and the watchdog would know at once.
        """
        agent = self.off[node] = self.agents.pop(node, None)
        if agent is not None:
            agent.send_signal(signal.SIGSTOP)
        for pid in _all_of(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        self.cluster.servers[node].send_signal(signal.SIGSTOP)

    def repair(self, node: str) -> None:
        """Put a healthy node in its place: booted anew, nothing wrong in its log."""
        if node in self.off:
            agent = self.off.pop(node)
            if agent is not None:
                self.agents[node] = agent
            for pid in _all_of(node):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.cluster.kill(node)
        self.kill_agent(node)
        self.log_of(node).reboot()
        if node not in self.cluster.servers:
            self.cluster.start_slurmd(node)
        self.start_agent(node)

    def query(self, text: str, *values: Any) -> list[Any]:
        """Read from the watchdog's store."""
        store = f"file:{self.folder}/watchdog.db?mode=ro"
        with closing(sqlite3.connect(store, uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            return list(connection.execute(text, values))

    def post(self, path: str, **body: str) -> None:
        """Act through the interface; a refusal is no matter."""
        with suppress(OSError):
            ask(f"http://{self.http}{path}", {"who": "bench", **body})


def _all_of(node: str) -> set[int]:
    """Return what Slurm runs on a node, beside its daemon."""
    return {*_with(f"slurmstepd.*{node}"), *_with(f"SLURMD_NODENAME={node}")}


def _with(words: str) -> Iterator[int]:
    """Yield the processes whose command line or environment holds some words."""
    pattern = re.compile(words.encode())
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                facts = (entry / "environ").read_bytes().split(b"\0")
                if pattern.search(line) or words.encode() in facts:
                    yield int(entry.name)


@contextmanager
def running(
    folder: Path, nodes: Sequence[str], webhook: str, receiver: Receiver, *, is_watched: bool,
    slurm_conf: str,
) -> Iterator[Site]:  # fmt: skip
    """Run the site; it leaves nothing behind but its folder."""
    cluster = Cluster(folder, extra=slurm_conf, nodes=tuple(nodes))
    site = Site(folder, cluster, receiver)
    for node in nodes:
        here = folder / "nodes" / node
        SimulatedKernelLog(here / "root")
        for name, text in PROC.items():
            (here / "root/proc" / name).parent.mkdir(parents=True, exist_ok=True)
            (here / "root/proc" / name).write_text(text)
    try:
        cluster.start()
        if is_watched:
            _start_watchdog(site, nodes, webhook)
        yield site
    finally:
        for node in list(site.off):
            with suppress(OSError, KeyError):
                site.repair(node)
        for process in [*site.agents.values(), *filter(None, [site.watchdog])]:
            process.terminate()
        for process in [*site.agents.values(), *filter(None, [site.watchdog])]:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()
        cluster.stop()


def _start_watchdog(site: Site, nodes: Sequence[str], webhook: str) -> None:
    folder = site.folder
    (folder / "key").write_bytes(b"bench")
    fence = folder / "fence"
    fence.write_text(FENCE.format(python=sys.executable))
    fence.chmod(0o755)
    config = folder / "watchdog.toml"
    config.write_text(WATCHDOG.format(folder=folder, webhook=webhook, nodes=len(nodes)))
    log = folder / "watchdog.log"
    site.watchdog = start("chipmedic_watchdog", config, log)
    found = until(lambda: READY.search(log.read_text(errors="replace")), 120, "the watchdog")
    site.port, site.http = int(found[1]), found[2]
    for node in nodes:
        here = folder / "nodes" / node
        (here / "agent.toml").write_text(AGENT.format(name=node, here=here, port=site.port))
        site.start_agent(node)
    until(
        lambda: len(ask(f"http://{site.http}/api/v1/nodes?state=connected")["items"]) == len(nodes),
        300, "all agents",
    )  # fmt: skip


def until(look: Callable[[], Any], seconds: float, what: str = "") -> Any:
    """Return what `look` sees; None after so long, or the end of the run where it is named."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(0.2)
    if what:
        raise SystemExit(f"not seen within {seconds:g} s: {what}")
    return None
