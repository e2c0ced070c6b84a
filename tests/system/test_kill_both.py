"""Both daemons as real processes, each killed with SIGKILL at random moments while chips fail."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_process import AgentProcess, stored
from chipmedic_simulator.kernel_log import SimulatedKernelLog
from waiting import until
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

FAULTS = 8


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
