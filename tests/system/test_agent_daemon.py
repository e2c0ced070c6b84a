"""The agent as a real process: ready, killed in a burst, reloaded, stopped.

Its collector is a third party's: a package with an entry point of its own, which knows nothing of
ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from fake_watchdog import FakeWatchdog
from small_disk import fill, small_disk
from waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.system

CHIPS = 20
COMMAND = [sys.executable, "-c", "from chipmedic_agent.main import run; run()"]

ACME = '''
"""Chips whose flags go up and down once per scan, in a course that a cursor can resume."""
import os, time
from pathlib import Path
from chipmedic import Chip, Collector, Event, Metric, Reading, Scan

class Acme(Collector):
    vendor = "acme"
    period_seconds = 0.05
    def __init__(self, host):
        self.host, self.step = host, 0
    @classmethod
    def discover(cls, host):
        if os.environ.get("ACME_HANGS") == "discover":
            time.sleep(1000)
        return cls(host)
    def resume(self, cursor):
        self.step = int(cursor)
    def cursor(self):
        return str(self.step)
    def scan(self):
        if os.environ.get("ACME_HANGS") == "scan":
            time.sleep(1000)
        if self.step < int(os.environ["ACME_STEPS"]):
            self.step += 1
        chips = [Chip(uid=f"ACME-{n}", vendor="acme", model="A1", index=n) for n in range(CHIPS)]
        flags = [Reading(c.component, Metric.REMAP_FAILED, float(self.step % 2)) for c in chips]
        return Scan(source="acme", at=self.host.now(), chips=tuple(chips), readings=tuple(flags))
'''.replace("CHIPS", str(CHIPS))


def plugged(folder: Path) -> str:
    """Install the third party's package into a folder; return it for PYTHONPATH."""
    facts = folder / "acme-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[chipmedic.collectors]\nacme = acme:Acme\n")
    (folder / "acme.py").write_text(ACME)
    return str(folder)


class AgentProcess:
    """One `chipmedic-agent` with a folder of its own."""

    def __init__(self, folder: Path, *, steps: int = 0, hangs: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "agent.toml"
        self.notify = folder / "notify.sock"
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"
        self._plug = plugged(folder / "plug")
        self._env = {"ACME_STEPS": str(steps), "ACME_HANGS": hangs}
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(self.notify))
        self._manager.settimeout(PATIENCE_SECONDS)

    def configure(self, *lines: str, watchdog: str = "") -> None:
        text = [
            'node = "n-1"',
            f'watchdogs = ["{watchdog}"]' if watchdog else "",
            f'state_directory = "{self.folder / "state"}"',
            f'progress_socket = "{self.folder / "progress.sock"}"',
            f'host_root = "{self.folder / "root"}"',
            *lines,
            f'[http]\nlisten = "127.0.0.1:{self.port}"',
        ]
        self.config.write_text("\n".join(text))

    def start(self) -> None:
        path = os.pathsep.join(filter(None, [self._plug, os.environ.get("PYTHONPATH", "")]))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--config", str(self.config)],
                env={
                    **os.environ,
                    **self._env,
                    "PYTHONPATH": path,
                    "NOTIFY_SOCKET": str(self.notify),
                    "WATCHDOG_USEC": "3000000",
                },
                stderr=log,
            )

    def heard(self) -> str:
        """Return what systemd would have heard next."""
        return self._manager.recv(4096).decode()

    def is_not_heard(self) -> None:
        """Fill the queue of the socket, so that nothing of the agent gets in."""
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                try:
                    other.sendto(b"full", str(self.notify))
                except BlockingIOError:
                    return

    def hears(self, word: str) -> str:
        while word not in (message := self.heard()):
            pass
        return message

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def page(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()

    def health(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.page("/healthz")[1])
        return report

    def until_healthy(self, is_so: Any, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(urllib.error.URLError):
                report = self.health()
                if is_so(report):
                    return report
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {self.log.read_text()}")
            time.sleep(0.05)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)
        self._manager.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def agents() -> Iterator[list[AgentProcess]]:
    made: list[AgentProcess] = []
    yield made
    for agent in made:
        agent.close()


@pytest.fixture
async def watchdog() -> AsyncIterator[FakeWatchdog]:
    server = FakeWatchdog()
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("hangs", ["discover", "scan"])
def test_ready_and_alive_though_every_probe_hangs(
    folder: Path, agents: list[AgentProcess], hangs: str
) -> None:
    agent = AgentProcess(folder, hangs=hangs)
    agents.append(agent)
    agent.configure()
    agent.start()
    agent.hears("READY=1")
    agent.hears("WATCHDOG=1")
    report = agent.until_healthy(lambda report: True)
    assert report["status"] in ("ok", "degraded")
    agent.signal(signal.SIGTERM)
    agent.hears("STOPPING=1")
    assert agent.wait() == 0, "a stuck thread does not hold up the end"


async def test_kill_nine_in_a_burst_loses_and_doubles_nothing(
    folder: Path, agents: list[AgentProcess], watchdog: FakeWatchdog
) -> None:
    steps = 500
    agent = AgentProcess(folder, steps=steps)
    agents.append(agent)
    agent.configure(watchdog=watchdog.address)
    for kill_at in (700, 2500, 4800, 7000, None):
        agent.start()
        if kill_at is None:
            break
        await watchdog.until(lambda at=kill_at: len(watchdog.events) >= at)
        agent.signal(signal.SIGKILL)
        await asyncio.to_thread(agent.wait)
    await watchdog.until(lambda: len(watchdog.events) >= steps * CHIPS)
    await asyncio.sleep(0.3)
    assert {hello.epoch for hello in watchdog.hellos} == {watchdog.hellos[0].epoch}
    assert watchdog.seqs() == list(range(1, steps * CHIPS + 1))
    epoch = watchdog.hellos[0].epoch
    for chip in range(CHIPS):
        course = [
            event.transition
            for (_, _), event in sorted(watchdog.events.items())
            if event.fault.component == f"chip:ACME-{chip}"
        ]
        assert course == [pb.TRANSITION_RAISED, pb.TRANSITION_CLEARED] * (steps // 2)
    assert watchdog.acked(epoch) == steps * CHIPS


async def test_sigterm_says_goodbye_and_a_restart_goes_on(
    folder: Path, agents: list[AgentProcess], watchdog: FakeWatchdog
) -> None:
    agent = AgentProcess(folder, steps=1)
    agents.append(agent)
    agent.configure(watchdog=watchdog.address)
    agent.start()
    await watchdog.until(lambda: len(watchdog.events) == CHIPS)
    agent.signal(signal.SIGTERM)
    assert await asyncio.to_thread(agent.wait) == 0
    await watchdog.until(lambda: watchdog.goodbyes == ["SIGTERM"])
    before = len(watchdog.snapshots)
    agent.start()
    await watchdog.until(lambda: len(watchdog.snapshots) > before)
    assert len(watchdog.snapshots[-1].open) == CHIPS, "what was open is open"
    assert len(watchdog.events) == CHIPS, "and is not told again"


async def test_a_wrong_reload_changes_nothing_and_says_so(
    folder: Path, agents: list[AgentProcess], watchdog: FakeWatchdog
) -> None:
    agent = AgentProcess(folder)
    agents.append(agent)
    agent.configure('labels = {rack = "r1"}', watchdog=watchdog.address)
    agent.start()
    await asyncio.to_thread(agent.hears, "READY=1")
    await watchdog.until(lambda: len(watchdog.hellos) == 1)
    await asyncio.to_thread(agent.until_healthy, lambda report: report["uplink"]["watchdog"])
    agent.configure('lables = {rack = "r2"}', watchdog=watchdog.address)
    agent.signal(signal.SIGHUP)
    message = await asyncio.to_thread(agent.hears, "RELOADING=1")
    assert "MONOTONIC_USEC=" in message
    await asyncio.to_thread(agent.hears, "READY=1")
    report = agent.health()
    assert report["configuration"]["is_successful"] is False
    assert report["configuration"]["problems"] == ["lables: unknown key; did you mean labels?"]
    assert report["status"] == "degraded"
    assert "chipmedic_config_last_reload_successful 0.0" in agent.page("/metrics")[1]
    assert "did you mean labels?" in agent.log.read_text()
    assert len(watchdog.hellos) == 1
    agent.configure(
        'labels = {rack = "r2"}',
        "[collectors.jobs]\nenabled = false",
        watchdog=watchdog.address,
    )
    agent.signal(signal.SIGHUP)
    await watchdog.until(lambda: len(watchdog.hellos) >= 2)
    assert dict(watchdog.hellos[-1].labels) == {"rack": "r2"}
    report = agent.health()
    assert report["configuration"]["is_successful"] is True
    (jobs,) = (check for check in report["checks"] if check["check"] == "jobs")
    assert (jobs["verdict"], jobs["detail"]) == ("unknown", "switched off by the configuration")


def test_a_service_manager_that_does_not_listen_stops_nothing(
    folder: Path, agents: list[AgentProcess]
) -> None:
    agent = AgentProcess(folder)
    agents.append(agent)
    agent.configure()
    agent.is_not_heard()
    agent.start()
    agent.until_healthy(lambda report: True)
    time.sleep(2.5)  # it has tried to say that it lives: that is due each second
    agent.until_healthy(lambda report: report["loop_age_seconds"] < 2)


def test_the_metrics_page_is_accepted_by_promtool(folder: Path, agents: list[AgentProcess]) -> None:
    agent = AgentProcess(folder, steps=1)
    agents.append(agent)
    agent.configure()
    agent.start()
    agent.until_healthy(lambda report: len(report["faults"]) == CHIPS)
    page = agent.page("/metrics")[1]
    assert 'chipmedic_chip_remap_failed{chip="ACME-3",index="3",pci="",vendor="acme"} 1.0' in page
    assert 'kind="memory.remap_failed"' in page
    assert 'chipmedic_collector_up{collector="acme"} 1.0' in page
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_second_agent_on_the_same_folder_says_why_it_ends(
    folder: Path, agents: list[AgentProcess]
) -> None:
    agent = AgentProcess(folder)
    agents.append(agent)
    agent.configure()
    agent.start()
    agent.hears("READY=1")
    second = subprocess.run(
        [*COMMAND, "--config", str(agent.config)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert second.returncode == 1
    assert "in use by another agent" in second.stderr
    assert "Traceback" not in second.stderr


def test_check_config_says_everything_that_is_wrong(folder: Path) -> None:
    config = folder / "agent.toml"
    config.write_text("watchdgos = []\n[spool]\nbytes_max = 1\n")
    command = [*COMMAND, "--check-config", "--config", str(config)]
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 78
    assert "did you mean watchdogs?" in wrong.stderr
    assert "bytes_max: 1" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    config.write_text("")
    right = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (right.returncode, right.stdout) == (0, f"{config}: ok\n")


async def test_a_full_disk_loses_nothing_and_is_told(
    folder: Path, agents: list[AgentProcess], watchdog: FakeWatchdog
) -> None:
    agent = AgentProcess(folder, steps=1)
    agents.append(agent)
    with small_disk(folder / "state", "256k") as state:
        ballast = fill(state)
        agent.configure(watchdog=watchdog.address)
        agent.start()
        await watchdog.until(lambda: len(watchdog.events) == CHIPS)
        await watchdog.until(lambda: any(beat.is_spool_failing for beat in watchdog.heartbeats))
        status, text = agent.page("/healthz")
        assert (status, json.loads(text)["status"]) == (503, "failing")
        assert "chipmedic_spool_failing 1.0" in agent.page("/metrics")[1]
        ballast.unlink()
        await asyncio.to_thread(
            agent.until_healthy, lambda report: not report["spool"]["trouble"], 20
        )
        agent.signal(signal.SIGTERM)
        assert await asyncio.to_thread(agent.wait) == 0
        agent.start()
        await watchdog.until(lambda: len(watchdog.hellos) >= 2 and len(watchdog.snapshots) >= 2)
        assert len(watchdog.snapshots[-1].open) == CHIPS
        agent.close()
