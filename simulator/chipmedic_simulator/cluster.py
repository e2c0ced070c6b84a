"""A simulated cluster: made in a folder, then run by a supervisor as systemd would run it.

    python -m chipmedic_simulator.cluster FOLDER     # run it until SIGTERM, or the end of stdin

The supervisor starts the watchdog, an agent for each node, the scheduler and the desk where notices
arrive; it starts again what dies, and leaves nothing behind. It ends with whoever holds the other
end of its standard input, unless that one has written `keep`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chipmedic_simulator.configuration import (
    CHECKPOINT_EVERY,
    JOB,
    agent_config,
    module_argv,
    watchdog_config,
)
from chipmedic_simulator.host_root import write
from chipmedic_simulator.layout import MARK, SUPERVISOR, Addresses, Layout, remove, socket_folder
from chipmedic_simulator.node import SimulatedNode, Vendor
from chipmedic_simulator.scheduler.state import ClusterState, Job, Node, write_state

NODES: Mapping[str, Vendor] = {
    "gpu-1": Vendor.NVIDIA,
    "npu-1": Vendor.ASCEND,
    "gpu-2": Vendor.NVIDIA,
}
"""The job of two ranks gets the first two; the last one is the spare."""
CHIPS = 2
RANKS = 2
KEEP = b"keep\n"
LOOK_SECONDS = 0.1
RESTART_SECONDS = 1.0
"""As RestartSec of the units."""
STOP_SECONDS = 8.0
PORT_SECONDS = 15.0
_OF_OUR_OWN_UNIT = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "STATE_DIRECTORY", "WATCHDOG_USEC")


def create(folder: Path, *, language: str, is_temporary: bool) -> Layout:
    """Make the folder of a cluster that can then be run; `folder` is there and empty."""
    layout = Layout(folder)
    for path in (layout.logs, layout.job, layout.scheduler, layout.watchdog, layout.nodes):
        path.mkdir(parents=True)
    nodes = [SimulatedNode.create(layout.nodes / n, v, CHIPS) for n, v in NODES.items()]
    ports = _free_ports(3 + len(nodes))
    addresses = Addresses(
        http_port=ports[0],
        stream_port=ports[1],
        desk_port=ports[2],
        agent_ports=dict(zip(NODES, ports[3:], strict=True)),
        sockets=str(socket_folder(folder)),
        is_temporary=is_temporary,
    )
    layout.secret.touch(mode=0o600)
    layout.secret.write_text(secrets.token_hex(32), encoding="ascii")
    write(layout.watchdog_config, watchdog_config(layout, addresses, language))
    for node in nodes:
        write(layout.agent_config(node.name), agent_config(addresses, node))
    write_state(layout.scheduler, _scheduler_state(layout, addresses, nodes))
    layout.keep(addresses)
    return layout


def _scheduler_state(
    layout: Layout, addresses: Addresses, nodes: list[SimulatedNode]
) -> ClusterState:
    job = Job(
        name=JOB,
        ranks=RANKS,
        folder=str(layout.job),
        ring_folder=addresses.sockets,
        checkpoint_every=CHECKPOINT_EVERY,
    )
    return ClusterState(
        nodes={
            node.name: Node(
                name=node.name,
                hardware=str(node.folder),
                environment={"CHIPMEDIC_SOCKET": str(addresses.progress_socket(node.name))},
            )
            for node in nodes
        },
        job=job,
    )


def _free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@dataclass(frozen=True, slots=True)
class Program:
    """One process of the cluster."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    needs_port: int | None = None
    """It is started when somebody listens there, or after `PORT_SECONDS` at the latest."""


def programs(layout: Layout) -> list[Program]:
    """Return the processes of a cluster, in the order of their start."""
    addresses = layout.addresses
    inbox = ["desk", str(layout.inbox), "--port", str(addresses.desk_port)]
    found = [
        Program("desk", module_argv("inbox", *inbox, "--secret-file", str(layout.secret)), {}),
        Program(
            "scheduler", module_argv("scheduler", "--folder", str(layout.scheduler), "run"), {}
        ),
        Program("watchdog", _daemon("watchdog", layout.watchdog_config), {}),
    ]
    for name in layout.node_names():
        environment, _ = layout.node(name).environment()
        argv = _daemon("agent", layout.agent_config(name))
        # An agent that finds no watchdog tries again later and later: that is time lost here.
        program = Program(f"agent-{name}", argv, environment, needs_port=addresses.stream_port)
        found.append(program)
    return found


def _daemon(name: str, config: Path) -> list[str]:
    """Return the command line of the real daemon: what its console script does."""
    start = f"from chipmedic_{name}.main import run; run()"
    return [sys.executable, "-P", "-c", start, "--config", str(config)]


class Supervisor:
    """Runs the processes of one cluster."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._programs = {program.name: program for program in programs(layout)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._start_at: dict[str, float] = dict.fromkeys(self._programs, 0.0)
        self._began = time.monotonic()
        self._is_stopping = False
        self._is_kept = False

    def run(self) -> int:
        """Work until SIGTERM, SIGINT or the end of standard input."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            while not self._is_stopping:
                self._look()
                self._listen()
        finally:
            self._stop()
        return 0

    def _on_signal(self, *_: object) -> None:
        self._is_stopping = True

    def _look(self) -> None:
        """Start what is due, and note what has died."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                self._say(f"{name} ended with {process.returncode}")
                del self._running[name]
                self._start_at[name] = time.monotonic() + RESTART_SECONDS
        due = [name for name, at in self._start_at.items() if self._is_due(name, at)]
        for name in due:
            del self._start_at[name]
            self._running[name] = self._start(self._programs[name])
        if due:
            pids = {name: process.pid for name, process in self._running.items()}
            write(self._layout.pids_file, json.dumps(pids | {SUPERVISOR: os.getpid()}))

    def _is_due(self, name: str, at: float) -> bool:
        now = time.monotonic()
        port = self._programs[name].needs_port
        is_waited_for = port is not None and now < self._began + PORT_SECONDS
        return now >= at and not (is_waited_for and port is not None and not _is_open(port))

    def _listen(self) -> None:
        """Wait a moment for the word of whoever started us."""
        if self._is_kept:
            time.sleep(LOOK_SECONDS)
            return
        if not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
            return
        told = os.read(sys.stdin.fileno(), len(KEEP))
        self._is_kept = told == KEEP
        self._is_stopping = not told

    def _start(self, program: Program) -> subprocess.Popen[bytes]:
        inherited = {k: v for k, v in os.environ.items() if k not in _OF_OUR_OWN_UNIT}
        loopback = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        mark = {MARK: str(self._layout.folder)}
        with (self._layout.logs / f"{program.name}.log").open("ab") as log:
            return subprocess.Popen(
                program.argv,
                env=inherited | loopback | program.environment | mark,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us alone, we end them in order
            )

    def _stop(self) -> None:
        """End all, the job first; then sweep, and remove what must not stay."""
        addresses = self._layout.addresses
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)  # one may have been stopped to be silent
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for pid in members(self._layout.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._running.values():
            process.wait()
        self._layout.pids_file.unlink(missing_ok=True)
        remove(self._layout, addresses)

    def _say(self, line: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stderr.flush()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def members(folder: Path) -> list[int]:
    """Return the processes of a cluster that live, whoever started them; not the caller."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            pid = int(path.parent.name)
            if pid != os.getpid() and mark in path.read_bytes().split(b"\0"):
                found.append(pid)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the cluster of a folder."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 1:
        sys.stderr.write("usage: python -m chipmedic_simulator.cluster FOLDER\n")
        return 2
    return Supervisor(Layout.open(Path(words[0]))).run()


if __name__ == "__main__":
    sys.exit(main())
