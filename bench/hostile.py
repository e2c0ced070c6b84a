"""How long an honest node's fault takes to its notice while another node does all it can.

    .venv/bin/python bench/hostile.py [--faults 20] [--attack storm ...]

Target (docs/benchmarks.md): the target of the path holds under attack: p50 at most 1 s, p99 at most
3 s. One watchdog with one channel, a program that is started for each notice. The attacks are those
of the system test, each a process of its own with a lower priority, since in the field it works on
another machine. Stages by the watchdog's own record, so that a late look here counts nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from grpc import aio
from measure import machine, print_table, quantile

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from fake_agent import FakeAgent, a_fault, event  # noqa: E402
from watchdog_process import WatchdogProcess  # noqa: E402

ATTACKS = ("none", "noise", "storm", "snapshots", "names", "hellos", "deaf")
HEAD_START_SECONDS = 3.0
WAIT_SECONDS = 120.0
STAGES = ("acknowledged", "incident", "in the outbox", "delivered", "in all")


@contextmanager
def attacked(address: str, attack: str) -> Iterator[None]:
    """Attack until the block ends."""
    if attack == "none":
        yield
        return
    script = TESTS / "system" / "test_hostile_agent.py"
    process = subprocess.Popen(
        [sys.executable, str(script), address, attack],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    try:
        time.sleep(HEAD_START_SECONDS)
        yield
    finally:
        process.kill()
        process.wait()


async def tell(watchdog: WatchdogProcess, node: str) -> tuple[float, float]:
    """Report one fault, again where the stream breaks; return when it was sent and acknowledged."""
    sent = time.time()
    while True:
        try:
            async with FakeAgent(watchdog.address, node=node) as agent:
                await agent.events(event(1, a_fault(f"chip:GPU-{node}", since=sent)))
                await agent.acked(1)
                acked = time.time()
                await delivered(watchdog, node)
                await agent.goodbye()
        except (AssertionError, TimeoutError, aio.AioRpcError) as e:
            print(f"{node}: {e}", file=sys.stderr)
        else:
            return sent, acked


async def delivered(watchdog: WatchdogProcess, node: str) -> None:
    """Wait until the fault of a node is told."""
    end = time.monotonic() + WAIT_SECONDS
    while not moments(watchdog, node) and time.monotonic() < end:
        await asyncio.sleep(0.05)


def moments(watchdog: WatchdogProcess, node: str) -> tuple[float, float, float] | None:
    """Return when the incident, its notice and its delivery were written."""
    with closing(sqlite3.connect(watchdog.folder / "store" / "watchdog.db")) as store:
        found: tuple[float, float, float] | None = store.execute(
            "SELECT i.opened_at, n.created_at, n.delivered_at FROM incidents i"
            " JOIN notices n ON n.incident = i.id AND n.occasion = 'opened'"
            " WHERE i.nodes = ? AND n.delivered_at IS NOT NULL",
            (f'["{node}"]',),
        ).fetchone()
    return found


def measure(attack: str, faults: int) -> list[list[float]]:
    """Return the seconds of each stage, for each fault."""
    with tempfile.TemporaryDirectory(prefix="chipmedic-hostile-") as folder:
        watchdog = WatchdogProcess(
            Path(folder),
            "[notify.channels.pager]\nkind = 'command'\nargv = ['/bin/true']\n"
            "maximum_per_node_per_minute = 0\n",
        )
        watchdog.start(timeout_seconds=60)
        try:
            with attacked(watchdog.address, attack):
                return [asyncio.run(one(watchdog, f"honest-{n}")) for n in range(faults)]
        finally:
            watchdog.kill(signal.SIGKILL)


async def one(watchdog: WatchdogProcess, node: str) -> list[float]:
    """Return the seconds of each stage of one fault; an undelivered one counts as the wait."""
    sent, acked = await tell(watchdog, node)
    found = moments(watchdog, node)
    if found is None:
        return [WAIT_SECONDS] * len(STAGES)
    opened, created, arrived = found
    return [acked - sent, opened - sent, created - opened, arrived - created, arrived - sent]


def main() -> None:
    """Measure each attack and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--attack", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    arguments = parser.parse_args()
    rows = []
    for attack in arguments.attack:
        taken = measure(attack, arguments.faults)
        columns = list(zip(*taken, strict=True))
        shown = [f"{quantile(c, 0.5):.2f} / {max(c):.2f}" for c in columns]
        rows.append((attack, *shown))
    print(machine())
    print(f"{arguments.faults} faults of honest nodes under each attack; seconds, p50 / worst")
    print_table(("attack", *STAGES), rows)


if __name__ == "__main__":
    main()
