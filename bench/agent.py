"""What the agent costs: CPU share and PSS of its whole process tree, beside node_exporter's.

    .venv/bin/python bench/agent.py [--seconds 120] [--rounds 3]

Target (docs/benchmarks.md): at most 0.5 % of a core and 48 MiB, eight chips, 5 s sampling.

Eight simulated NVIDIA chips through the real nvidia-ml-py and the C library in the agent's child
process; a PCI bus of 200 devices, as such hosts have; the kernel's own log where it may be read;
the agent's own periods; a stream to a real watchdog; a job that beats once a second. The agent and
node_exporter are scraped every 5 s in the same minutes on the same machine; a round is one sample.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from measure import Cost, cost_of_tree, machine, print_table, spread

from chipmedic.beat import beat
from chipmedic_simulator.host_root import BUS_LIST, bus_line
from chipmedic_simulator.node import SimulatedNode, Vendor

CHIPS = 8
BUS_DEVICES = 200
"""Bridges, functions of processors, NICs and drives of a host with eight chips."""
WARM_UP_SECONDS = 20.0
READY_SECONDS = 60.0
SCRAPE_SECONDS = 5.0
AGENT, EXPORTER, WATCHDOG = "127.0.0.1:19480", "127.0.0.1:19100", "127.0.0.1:19443"
STREAM_IS_OPEN = "chipmedic_uplink_connected 1.0"


def start_agent(folder: Path) -> subprocess.Popen[bytes]:
    """Start an agent on a simulated node."""
    node = SimulatedNode.create(folder / "node-1", Vendor.NVIDIA, CHIPS)
    fill_bus(node.root, BUS_DEVICES)
    log = node.root / "dev/kmsg"
    if os.access("/dev/kmsg", os.R_OK):  # the simulated one is a file, which cannot wake its reader
        log.unlink()
        log.symlink_to("/dev/kmsg")
    config = folder / "agent.toml"
    config.write_text(
        f'node = "node-1"\nstate_directory = "{folder}/state"\nhost_root = "{node.root}"\n'
        f'progress_socket = "{folder}/beat"\nhttp.listen = "{AGENT}"\n'
        f'watchdogs = ["{WATCHDOG}"]\n',
        encoding="utf-8",
    )
    environment, words = node.environment()
    print(f"{words}; the kernel's log is {log.resolve()}")
    return start("chipmedic_agent", config, environment)


def fill_bus(root: Path, devices: int) -> None:
    """Add what else is on the bus: PCI bridges."""
    folder = root / "sys/bus/pci/devices"
    with (root / BUS_LIST).open("a", encoding="ascii") as listed:
        listed.write(bus_line("0x8086", "0x352a") * (devices - len(list(folder.iterdir()))))
    for number in range(devices - len(list(folder.iterdir()))):
        device = folder / f"0001:{number // 32:02x}:{number % 32:02x}.0"
        device.mkdir()
        for name, text in (("vendor", "0x8086"), ("device", "0x352a"), ("class", "0x060400")):
            (device / name).write_text(f"{text}\n", encoding="ascii")


def start_watchdog(folder: Path) -> subprocess.Popen[bytes]:
    """Start the agent's watchdog, which is not measured."""
    config = folder / "watchdog.toml"
    config.write_text(
        f'[store]\nurl = "sqlite:///{folder}/watchdog.db"\n'
        f'[stream]\nlisten = "{WATCHDOG}"\n[http]\nlisten = "127.0.0.1:0"\n',
        encoding="utf-8",
    )
    return start("chipmedic_watchdog", config, {})


def start(program: str, config: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a daemon; its log stands beside its configuration."""
    code = f"from {program}.main import run; run()"
    with config.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, "--config", str(config)],
            env=os.environ | dict(environment),
            stdout=log,
            stderr=log,
        )


def start_exporter() -> subprocess.Popen[bytes] | None:
    """Start node_exporter with its defaults, where it is installed."""
    try:
        return subprocess.Popen(
            ["prometheus-node-exporter", f"--web.listen-address={EXPORTER}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        print("prometheus-node-exporter is not installed: no peer in this run")
        return None


def scrape(address: str) -> str:
    """Return the metrics page."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return answer.read().decode()


def live(seconds: float, socket: str, addresses: list[str]) -> None:
    """Let time pass as on a node: a beat each second, a scrape every five."""
    end = time.monotonic() + seconds
    step = 0
    while time.monotonic() < end:
        step += 1
        beat(step=step, phase="train", job="local:bench", rank=0, socket_path=socket)
        if step % SCRAPE_SECONDS == 0:
            for address in addresses:
                scrape(address)
        time.sleep(1.0)


def main() -> int:
    """Measure, print the table; the exit status says whether every chip was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        watchdog = start_watchdog(folder)
        running = {"chipmedic-agent": start_agent(folder)}
        if peer := start_exporter():
            running["node_exporter"] = peer
        try:
            wait_until_ready()
            measure(running, folder, given.seconds, given.rounds)
            page = scrape(AGENT)
        finally:
            for process in (*running.values(), watchdog):
                process.terminate()
                process.wait(timeout=60)
    seen, is_connected = page.count("chipmedic_chip_present{"), STREAM_IS_OPEN in page
    print(f"chips seen: {seen} of {CHIPS}; stream open: {is_connected}")
    return 0 if seen == CHIPS and is_connected else 1


def wait_until_ready() -> None:
    """Wait until the agent has its stream."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if STREAM_IS_OPEN in scrape(AGENT):
                return
        time.sleep(0.5)
    raise SystemExit("the agent has no stream; is the watchdog installed?")


def measure(
    running: dict[str, subprocess.Popen[bytes]], folder: Path, seconds: float, rounds: int
) -> None:
    """Run the rounds and print one row per program."""
    addresses = [AGENT, EXPORTER][: len(running)]
    live(WARM_UP_SECONDS, f"{folder}/beat", addresses)
    shares: dict[str, list[float]] = {name: [] for name in running}
    memory: dict[str, list[float]] = {name: [] for name in running}
    alone: dict[str, list[float]] = {name: [] for name in running}
    last: dict[str, Cost] = {}
    for _ in range(rounds):
        before = {name: cost_of_tree(process.pid) for name, process in running.items()}
        at = time.monotonic()
        live(seconds, f"{folder}/beat", addresses)
        for name, process in running.items():
            last[name] = cost_of_tree(process.pid)
            used = last[name].cpu_seconds - before[name].cpu_seconds
            shares[name].append(100.0 * used / (time.monotonic() - at))
            memory[name].append(last[name].pss_bytes / 2**20)
            alone[name].append(last[name].alone_bytes / 2**20)
    peer = sum(shares.get("node_exporter", [0.0]))
    rows = [
        (
            name,
            last[name].processes,
            spread(shares[name]),
            spread(memory[name]),
            spread(alone[name]),
            f"{sum(shares[name]) / peer:.2f}" if peer else "-",
        )
        for name in running
    ]
    print(f"{rounds} rounds of {seconds:g} s, scraped every {SCRAPE_SECONDS:g} s")
    head = ("program", "processes", "CPU % of a core", "PSS MiB", "alone MiB")
    print_table((*head, "CPU / node_exporter"), rows)


if __name__ == "__main__":
    raise SystemExit(main())
