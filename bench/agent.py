"""What the agent costs on a node with eight chips.

Target: at most 0.5 % of a core and 48 MiB (PSS of the whole process tree), 8 chips, 5 s sampling.

    python bench/agent.py [--seconds 60]

The chips are simulated at the lowest interface: the real NVML binding reads a fake library in the
agent's child process; everything else is this machine's own. CPU is the sum over the tree.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from chipmedic_simulator.nvml.environment import environment
from chipmedic_simulator.nvml.state import create

CHIPS = 8
SETTLE_SECONDS = 20.0
TARGET_CORE_PERCENT = 0.5
TARGET_MIB = 48.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure")
    seconds: float = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nvml = create(folder / "nvml.state", gpus=CHIPS)
        variables, how = environment(nvml.path)
        config = folder / "agent.toml"
        port = free_port()
        config.write_text(
            f'node = "bench"\nstate_directory = "{folder / "state"}"\n'
            f'progress_socket = "{folder / "progress.sock"}"\n'
            f'[http]\nlisten = "127.0.0.1:{port}"\n'
        )
        command = [sys.executable, "-c", "from chipmedic_agent.main import run; run()"]
        agent = subprocess.Popen(
            [*command, "--config", str(config), "--log-level", "warning"],
            env={**os.environ, **variables},
        )
        try:
            time.sleep(SETTLE_SECONDS)
            before = cpu_seconds(agent.pid)
            time.sleep(seconds)
            percent = (cpu_seconds(agent.pid) - before) / seconds * 100
            parts = memory_mib(agent.pid)
            chips = scraped(port, "chipmedic_chip_present{")
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(20)
    print(f"library: {how}; chips seen: {chips} of {CHIPS}")
    print(f"cpu: {percent:.2f} % of a core over {seconds:g} s (target {TARGET_CORE_PERCENT})")
    for what, mib in parts:
        print(f"  pss {mib:5.1f} MiB  {what}")
    total = sum(mib for _, mib in parts)
    print(f"memory: {total:.1f} MiB PSS of {len(parts)} processes (target {TARGET_MIB:g})")
    is_good = chips == CHIPS and percent <= TARGET_CORE_PERCENT and total <= TARGET_MIB
    print("met" if is_good else "NOT met")
    return 0 if is_good else 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """Return what the tree used so far; of ended children what their parents have counted."""
    return sum(sum(process.cpu_times()[:4]) for process in tree(pid))


def memory_mib(pid: int) -> list[tuple[str, float]]:
    return [
        (" ".join(process.cmdline())[-60:], process.memory_full_info().pss / 1048576)
        for process in tree(pid)
    ]


def scraped(port: int, prefix: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        return sum(1 for line in page.read().decode().splitlines() if line.startswith(prefix))


if __name__ == "__main__":
    raise SystemExit(main())
