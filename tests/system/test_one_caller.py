"""The tools of Ascend chips serve one caller at a time, so the agent is never two.

Real processes: each tool holds a lock of the kernel while it runs, which a killed one lets go.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chipmedic import GapReason, Scan
from chipmedic_agent.config import CollectorSettings
from chipmedic_agent.registry import Found
from chipmedic_agent.scanner import Scanner
from chipmedic_collectors.ascend import Ascend
from chipmedic_simulator.ascend_tools import AscendHost, install, save
from chipmedic_simulator.ascend_tools.state import STATE_VARIABLE
from tool_bench import SteppingHost, tools_left
from waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.system

GUARD = """#!/bin/sh
exec 9>"{folder}/lock"
flock -n 9 || echo "{tool} $*" >> "{folder}/overlaps"
echo "{tool} $*" >> "{folder}/runs"
"{folder}/real/{tool}" "$@"
"""


class Bench:
    """Simulated tools behind a guard, and the state that they follow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ascend = AscendHost.simulated(2)
        self.save()
        install(folder / "real")
        (folder / "bin").mkdir()
        for tool in ("npu-smi", "hccn_tool"):
            guard = folder / "bin" / tool
            guard.write_text(GUARD.format(folder=folder, tool=tool), encoding="utf-8")
            guard.chmod(0o755)
        env = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            STATE_VARIABLE: str(folder / "ascend.json"),
        }
        self.host = SteppingHost(folder / "root", env)

    def save(self) -> None:
        save(self.ascend, self._folder / "ascend.json")

    def has_run(self, tool: str) -> bool:
        return any(line.startswith(tool) for line in self.lines("runs"))

    def lines(self, name: str) -> list[str]:
        path = self._folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


async def hammer(scanner: Scanner, seconds: float, is_enough: Callable[[], bool]) -> None:
    """Ask for scans from several sides at once, beside the scanner's own quick beat.

    For so long at least, and until it is enough.
    """
    end = time.monotonic() + seconds
    last = end + PATIENCE_SECONDS

    async def ask() -> None:
        while time.monotonic() < end or (not is_enough() and time.monotonic() < last):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(scanner.scan_now(), 1.0)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(ask() for _ in range(4)))


@pytest.mark.skipif(shutil.which("flock") is None, reason="util-linux is not here")
async def test_no_two_tools_run_at_once_and_a_hung_one_is_gone_before_the_next(
    tmp_path: Path,
) -> None:
    bench, seen = Bench(tmp_path), list[Scan]()
    collector = Ascend(bench.host)
    scanner = Scanner(
        "ascend",
        lambda: Found(collector),
        consume=lambda scan, _: seen.append(scan),
        now=time.time,
        settings=CollectorSettings(period_seconds=0.05, deadline_seconds=60.0),
    )
    task = asyncio.create_task(scanner.run())
    try:
        await hammer(
            scanner, 2.0, lambda: bench.has_run("hccn_tool") and any(s.chips for s in seen)
        )
        healthy = len(bench.lines("runs"))
        bench.ascend.hang_seconds = 600
        bench.save()
        bench.host.limit_seconds = 0.5
        await hammer(scanner, 2.0, lambda: bench.host.stuck.killed.get("npu-smi", 0) > 1)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert bench.lines("overlaps") == []
    assert healthy >= 4
    assert {line.split()[0] for line in bench.lines("runs")} == {"npu-smi", "hccn_tool"}
    assert any(scan.chips for scan in seen)
    assert any(gap.reason is GapReason.TIMED_OUT for scan in seen for gap in scan.gaps)
    assert bench.host.stuck.killed["npu-smi"] >= 1
    assert bench.host.stuck.abandoned == {}
    await eventually(lambda: not tools_left(str(tmp_path)), "a tool outlived its scan")
