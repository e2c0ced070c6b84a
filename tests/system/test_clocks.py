"""Clocks that are wrong, and that are set while daemons run: libfaketime below real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from agent_process import AgentProcess, stored
from chipmedic_simulator.kernel_log import SimulatedKernelLog
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from waiting import until
from watchdog_process import WatchdogProcess

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(LIBRARY is None, reason="no libfaketime: apt-get install faketime"),
]
HOUR = 3600
STEPS = (-HOUR, 2 * HOUR, -3 * HOUR, 0)
"""Seconds beside the right time, one after the other."""
SLACK_SECONDS = 120.0
PATIENT = "[liveness]\nquiet_seconds = 60\nsilence_seconds = 60\nrestart_seconds = 60\n"
"""Longer than a busy machine lets a daemon stand still, and far less than the clocks are set."""


class FakeClock:
    """A clock that is set while those look at it who were started with its environment."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set it so far beside the right time; the monotonic clock goes on as it is."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def clock(tmp_path: Path) -> FakeClock:
    return FakeClock(tmp_path)


@pytest.fixture
def whose(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def watchdog(tmp_path: Path, clock: FakeClock, whose: str) -> Iterator[WatchdogProcess]:
    process = WatchdogProcess(tmp_path / "watchdog", PATIENT)
    if whose == "watchdog":
        process.environment |= clock.environment
    process.start()
    yield process
    process.close()


@pytest.fixture
def agent(
    tmp_path: Path, clock: FakeClock, whose: str, watchdog: WatchdogProcess
) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path / "agent", watchdog.address)
    if whose == "agent":
        process.environment |= clock.environment
    yield process
    process.kill()


@pytest.mark.parametrize("whose", ["agent", "watchdog"], indirect=True)
def test_a_clock_that_is_set_loses_nothing_and_condemns_nobody(
    whose: str, clock: FakeClock, watchdog: WatchdogProcess, agent: AgentProcess
) -> None:
    began = time.time()
    log = SimulatedKernelLog(agent.folder / "root")
    agent.start()
    until(lambda: "stream open" in agent.log.read_text(), "the agent is not connected")
    for number, seconds in enumerate(STEPS, start=1):
        clock.set(seconds)
        time.sleep(1.5)  # silence is judged each 0.1 s
        log.say("off-bus", f"0000:{number:02x}:00.0")
        until(lambda n=number: len(stored(watchdog)[2]) == n, f"the fault after {seconds} s")
    agent.kill()
    agent.start()
    log.say("off-bus", "0000:77:00.0")
    until(lambda: len(stored(watchdog)[2]) == len(STEPS) + 1, "the fault after a restart")

    begun, seqs, told = stored(watchdog)
    assert set(begun.values()) == set(told.values()) == {1}
    assert sorted(seqs) == list(range(1, len(seqs) + 1)), "every event, once"
    database = Database(open_engine(f"sqlite:///{watchdog.folder}/store/watchdog.db"))
    faults = database.read_now(lambda c: c.execute(select(schema.faults)).mappings().all())
    database.close()
    assert [f["node"] for f in faults if f["kind"] == "node.unreachable"] == []
    if whose == "agent":  # what is told and counted is by the watchdog's clock
        opened = [f["opened_at"] for f in faults]
        assert began - SLACK_SECONDS < min(opened)
        assert max(opened) < time.time() + SLACK_SECONDS
