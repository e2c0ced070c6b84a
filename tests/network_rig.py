"""Both daemons in network namespaces of their own, for tests of the network between them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import select

from chipmedic_simulator.kernel_log import SimulatedKernelLog
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from waiting import PATIENCE_SECONDS, until
from watchdog_process import WatchdogProcess

HERE, THERE, MOVED = "10.77.0.1", "10.77.0.2", "10.77.0.3"
AT_ONCE = "[liveness]\nstartup_grace_seconds = 0\nrestart_seconds = 1\nmany_seconds = 1\n"
"""Not for a second chance of the network: the verdict is what is waited for."""
RUN = "from chipmedic_agent.main import run; run()"


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, timeout=20, capture_output=True)


@dataclass
class Net:
    """Two namespaces and the cable between them: `head` of the watchdog, `node` of the agent."""

    head: str = field(default_factory=lambda: f"cm-head-{os.getpid()}")
    node: str = field(default_factory=lambda: f"cm-node-{os.getpid()}")

    def lay(self) -> None:
        for name in (self.head, self.node):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self.head, "link", "add", "cable", "type", "veth", "peer", "cable",
           "netns", self.node)  # fmt: skip
        for name, address in ((self.head, HERE), (self.node, THERE)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")

    def remove(self) -> None:
        for name in (self.head, self.node):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def pull(self) -> None:
        ip("-n", self.node, "link", "set", "cable", "down")

    def plug(self) -> None:
        ip("-n", self.node, "link", "set", "cable", "up")

    def lose_answers(self) -> None:
        """What the node says arrives, and what the watchdog answers does not."""
        ip("-n", self.head, "route", "add", "blackhole", f"{THERE}/32")

    def answer_again(self) -> None:
        ip("-n", self.head, "route", "delete", "blackhole", f"{THERE}/32")

    def lose_words(self) -> None:
        """What the watchdog says arrives, and what the node says does not."""
        ip("-n", self.node, "route", "add", "blackhole", f"{HERE}/32")

    def speak_again(self) -> None:
        ip("-n", self.node, "route", "delete", "blackhole", f"{HERE}/32")

    def move(self) -> None:
        """Give the node another address, as DHCP may."""
        ip("-n", self.node, "address", "delete", f"{THERE}/24", "dev", "cable")
        ip("-n", self.node, "address", "add", f"{MOVED}/24", "dev", "cable")


@dataclass
class Site:
    """One watchdog and one agent."""

    folder: Path
    net: Net
    watchdog: WatchdogProcess
    agent: subprocess.Popen[bytes]
    kernel_log: SimulatedKernelLog
    broken: int = 0

    def break_chips(self, count: int) -> None:
        """Let chips that were well fall off the bus."""
        for _ in range(count):
            self.broken += 1
            self.kernel_log.say("off-bus", f"0000:{self.broken + 16:02x}:00.0")

    def rows(self, table: Any) -> list[Any]:
        database = Database(open_engine(f"sqlite:///{self.folder}/watchdog/store/watchdog.db"))
        try:
            return list(database.read_now(lambda c: c.execute(select(table)).all()))
        finally:
            database.close()

    def faults(self, kind: str) -> list[Any]:
        return [row for row in self.rows(schema.faults) if row.kind == kind]

    def is_silent(self) -> bool:
        return any(row.state == "open" for row in self.faults("node.unreachable"))

    def is_whole(self) -> bool:
        """Whether the node is there again, and every fault of its chips with its incident."""
        [node] = self.rows(schema.nodes)
        told = [row for row in self.faults("chip.lost") if row.incident]
        return node.state == "connected" and not self.is_silent() and len(told) >= self.broken

    def explain(self) -> str:
        return self.watchdog.log + (self.folder / "agent.log").read_text(errors="replace")


Kind = TypeVar("Kind", bound=Net)


@contextmanager
def laid(net: Kind) -> Iterator[Kind]:
    """Lay a net and remove it; skip the test where this machine does not let us."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces: needs root and iproute2")
    try:
        try:
            net.lay()
        except subprocess.CalledProcessError as e:
            pytest.skip(f"network namespaces: not allowed here: {e.stderr.decode().strip()}")
        yield net
    finally:
        net.remove()


@contextmanager
def running_site(net: Net, tmp_path: Path, config: str = AT_ONCE) -> Iterator[Site]:
    """Run both daemons, each on its side; `config` is the watchdog's."""
    watchdog = WatchdogProcess(
        tmp_path / "watchdog", config, prefix=("ip", "netns", "exec", net.head)
    )
    watchdog.start(stream=f"{HERE}:0")
    agent_config = tmp_path / "agent.toml"
    agent_config.write_text(
        f'node = "node-1"\nwatchdogs = ["{watchdog.address}"]\nhost_root = "{tmp_path}/root"\n'
        f'state_directory = "{tmp_path}/state"\nprogress_socket = "{tmp_path}/beats"\n'
        "[http]\nenabled = false\n"
    )
    kernel_log = SimulatedKernelLog(tmp_path / "root")
    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                net.node,
                sys.executable,
                "-c",
                RUN,
                "--config",
                str(agent_config),
            ],
            stdout=log,
            stderr=log,
        )
    made = Site(tmp_path, net, watchdog, agent, kernel_log)
    try:
        until(lambda: made.rows(schema.nodes) and made.is_whole(), explain=made.explain)
        yield made
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait(PATIENCE_SECONDS)
        watchdog.close()


def assert_each_once(site: Site) -> None:
    """Every fault and every event once."""
    begun = Counter(row.component for row in site.faults("chip.lost"))
    assert len(begun) == site.broken
    assert set(begun.values()) == {1}
    seqs = sorted(row.seq for row in site.rows(schema.events))
    assert seqs == list(range(1, len(seqs) + 1)), "every event, once"
