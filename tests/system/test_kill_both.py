"""Both daemons as real processes, each killed with SIGKILL at random moments while chips fail."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from chipmedic_simulator.kernel_log import SimulatedKernelLog
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from waiting import PATIENCE_SECONDS, until
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

RUN = "from chipmedic_agent.main import run; run()"
FAULTS = 8


class AgentProcess:
    """The real `chipmedic-agent` on a simulated root; its state stays over restarts."""

    def __init__(self, folder: Path, watchdog: str) -> None:
        self.folder = folder
        self.config = folder / "agent.toml"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = dict(os.environ)
        folder.mkdir()
        self.config.write_text(
            f'node = "node-1"\nwatchdogs = ["{watchdog}"]\nhost_root = "{folder}/root"\n'
            f'state_directory = "{folder}/state"\nprogress_socket = "{folder}/beats"\n'
            f'[http]\nlisten = "127.0.0.1:0"\n'
        )

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, "--config", self.config],
                stdout=log, stderr=log, env=self.environment, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_SECONDS)
            self.process = None


@pytest.fixture
def watchdog(tmp_path: Path) -> Iterator[WatchdogProcess]:
    process = WatchdogProcess(tmp_path / "watchdog")
    process.start()
    yield process
    process.close()


@pytest.fixture
def agent(tmp_path: Path, watchdog: WatchdogProcess) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path / "agent", watchdog.address)
    yield process
    process.kill()


def stored(watchdog: WatchdogProcess) -> tuple[Counter[str], list[int], Counter[str]]:
    """Return how often each chip's fault began, all event numbers, and how many incidents have it.

    Of the chips that the test has broken; other faults of this host are none of its business.
    """
    database = Database(open_engine(f"sqlite:///{watchdog.folder}/store/watchdog.db"))
    try:
        faults = database.read_now(lambda c: c.execute(select(schema.faults)).mappings().all())
        seqs = database.read_now(lambda c: list(c.execute(select(schema.events.c.seq)).scalars()))
    finally:
        database.close()
    ours = [fault for fault in faults if fault["kind"] == "chip.lost"]
    begun = Counter(fault["component"] for fault in ours)
    told = Counter(fault["component"] for fault in ours if fault["incident"])
    return begun, seqs, told


@pytest.mark.parametrize("seed", [1, 2])
def test_no_fault_is_lost_or_told_twice(
    watchdog: WatchdogProcess, agent: AgentProcess, seed: int
) -> None:
    rng = random.Random(seed)
    log = SimulatedKernelLog(agent.folder / "root")
    agent.start()
    until(lambda: "stream open" in agent.log.read_text(), "the agent is not connected")
    kills: Counter[str] = Counter()
    for number in range(FAULTS):
        log.say("off-bus", f"0000:{number + 16:02x}:00.0")
        time.sleep(rng.uniform(0.0, 0.8))
        victim = rng.choice(["agent", "watchdog", "nobody"])
        if victim == "agent" and kills["agent"] < 2:
            agent.kill()
            agent.start()
            kills["agent"] += 1
        elif victim == "watchdog" and kills["watchdog"] < 2:
            watchdog.kill()
            watchdog.start(stream=watchdog.address)
            kills["watchdog"] += 1
    assert kills["agent"], f"seed {seed} kills no agent"
    assert kills["watchdog"], f"seed {seed} kills no watchdog"
    until(lambda: len(stored(watchdog)[2]) >= FAULTS, f"seed {seed}: not every fault came")
    begun, seqs, told = stored(watchdog)
    assert set(begun.values()) == {1}, f"seed {seed}"
    assert len(begun) == len(told) == FAULTS
    assert sorted(seqs) == list(range(1, len(seqs) + 1)), "every event, once"
