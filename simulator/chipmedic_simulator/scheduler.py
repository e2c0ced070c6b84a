"""A scheduler of two commands and one job, for hosts without a real one.

    python -m chipmedic_simulator.scheduler --folder F run               # the daemon
    python -m chipmedic_simulator.scheduler --folder F isolate NODE --reason R
    python -m chipmedic_simulator.scheduler --folder F give-back NODE
    python -m chipmedic_simulator.scheduler --folder F restart JOB --token T
    python -m chipmedic_simulator.scheduler --folder F is-isolated NODE  # 0 or 75
    python -m chipmedic_simulator.scheduler --folder F is-running JOB --token T
    python -m chipmedic_simulator.scheduler --folder F status

Commands change `cluster.json` under a lock; the daemon brings the world to it. Each is idempotent: a
restart carries a token (the incident) and happens once per token. Exit status 75 (EX_TEMPFAIL) is
"not yet".
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STATE = "cluster.json"
EXIT_NOT_YET = 75
LOOK_SECONDS = 0.1
STOP_SECONDS = 5.0
"""From SIGTERM to SIGKILL, as KillWait of a real scheduler."""


@dataclass(slots=True, kw_only=True)
class Node:
    """One node of the cluster and the chip of it that a rank may have."""

    name: str
    is_isolated: bool = False
    reason: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    chip_trouble: str = ""
    """A file; while it exists the chip has an uncorrectable error."""
    attach: list[str] = field(default_factory=list)
    """A command that tells the simulated chip who holds it; `{pid}` is filled in."""


@dataclass(slots=True, kw_only=True)
class Job:
    """The one job."""

    name: str
    ranks: int
    folder: str
    step_seconds: float = 0.2
    checkpoint_every: int = 10
    is_wanted: bool = True
    attempt: int = 0
    """Grows with each wanted start; the daemon follows."""
    tokens: list[str] = field(default_factory=list)
    """Restarts that were asked for, by token."""
    running_attempt: int = -1
    placement: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    exits: list[list[int]] = field(default_factory=list)
    """(attempt, rank, exit status) of ranks that ended by themselves."""


@dataclass(slots=True, kw_only=True)
class ClusterState:
    """What `cluster.json` holds."""

    nodes: dict[str, Node]
    job: Job

    def free_nodes(self) -> list[str]:
        """Return the nodes that may get work, in their order."""
        return [node.name for node in self.nodes.values() if not node.is_isolated]


def read_state(folder: Path) -> ClusterState:
    """Return the present state."""
    data = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return ClusterState(
        nodes={name: Node(**node) for name, node in data["nodes"].items()}, job=Job(**data["job"])
    )


def write_state(folder: Path, state: ClusterState) -> None:
    """Replace the state in one step."""
    fresh = folder / f"{STATE}.{os.getpid()}.new"
    fresh.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    fresh.rename(folder / STATE)


@contextmanager
def edit(folder: Path) -> Iterator[ClusterState]:
    """Yield the state to be changed; nobody else changes it meanwhile."""
    with (folder / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read_state(folder)
        yield state
        write_state(folder, state)


class Launcher:
    """The daemon: starts the ranks of the wanted attempt and stops those of older ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ranks: list[subprocess.Popen[bytes]] = []
        self._attempt = -1
        self._is_stopping = False

    def run(self) -> int:
        """Follow `cluster.json` until SIGTERM."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._is_stopping:
            self._look()
            time.sleep(LOOK_SECONDS)
        self._stop_ranks()
        return 0

    def _on_signal(self, *_: object) -> None:
        self._is_stopping = True

    def _look(self) -> None:
        state = read_state(self._folder)
        job = state.job
        if self._attempt != job.attempt or not job.is_wanted:
            self._stop_ranks()
        if job.is_wanted and not self._ranks and self._attempt != job.attempt:
            self._start_ranks(state)
        self._note_exits()

    def _start_ranks(self, state: ClusterState) -> None:
        job = state.job
        placement = state.free_nodes()[: job.ranks]
        if len(placement) < job.ranks:
            return  # waits for a node, as a queue does
        attempt = job.attempt
        ring = self._folder / f"ring-{attempt}.sock"
        self._ranks = [
            self._start_rank(state, rank, state.nodes[name], ring)
            for rank, name in enumerate(placement)
        ]
        self._attempt = attempt
        with edit(self._folder) as fresh:
            fresh.job.running_attempt = attempt
            fresh.job.placement = placement
            fresh.job.pids = [process.pid for process in self._ranks]

    def _start_rank(
        self, state: ClusterState, rank: int, node: Node, ring: Path
    ) -> subprocess.Popen[bytes]:
        job = state.job
        environment = {
            **os.environ,
            **node.environment,
            "CHIPMEDIC_JOB": job.name,
            "RANK": str(rank),
            "WORLD_SIZE": str(job.ranks),
            "TORCHELASTIC_RESTART_COUNT": str(job.attempt),
        }
        argv = [
            *(sys.executable, "-m", "chipmedic_simulator.training.rank"),
            *("--folder", job.folder, "--ring", str(ring)),
            *("--chip-trouble", node.chip_trouble or os.devnull + ".none"),
            *("--step-seconds", str(job.step_seconds)),
            *("--checkpoint-every", str(job.checkpoint_every)),
        ]
        log = (Path(job.folder) / f"rank-{rank}.log").open("ab")
        with log:
            process = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if node.attach:
            command = [word.replace("{pid}", str(process.pid)) for word in node.attach]
            subprocess.run(command, check=False, env=environment, timeout=STOP_SECONDS)
        return process

    def _note_exits(self) -> None:
        ended = [(rank, p.returncode) for rank, p in enumerate(self._ranks) if p.poll() is not None]
        known = {(a, r) for a, r, _ in read_state(self._folder).job.exits}
        fresh = [(self._attempt, r, c) for r, c in ended if (self._attempt, r) not in known]
        if fresh:
            with edit(self._folder) as state:
                state.job.exits += [list(entry) for entry in fresh]

    def _stop_ranks(self) -> None:
        for process in self._ranks:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._ranks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
        self._ranks = []


def isolate(folder: Path, name: str, reason: str) -> int:
    """Keep new work off a node."""
    with edit(folder) as state:
        node = state.nodes[name]
        if not node.is_isolated:
            node.is_isolated, node.reason = True, reason
    return 0


def give_back(folder: Path, name: str) -> int:
    """Offer a node again."""
    with edit(folder) as state:
        state.nodes[name].is_isolated, state.nodes[name].reason = False, ""
    return 0


def restart(folder: Path, job: str, token: str) -> int:
    """Stop the job and start it again on nodes that are not isolated; once per token."""
    with edit(folder) as state:
        if state.job.name != job:
            raise KeyError(job)
        if token not in state.job.tokens:
            state.job.tokens.append(token)
            state.job.attempt += 1
            state.job.is_wanted = True
    return is_running(folder, job, token)


def is_running(folder: Path, job: str, token: str) -> int:
    """Say whether the attempt that a token asked for has started."""
    state = read_state(folder)
    is_started = token in state.job.tokens and state.job.running_attempt == state.job.attempt
    return 0 if state.job.name == job and is_started else EXIT_NOT_YET


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scheduler", description="The simulated scheduler.")
    parser.add_argument("--folder", type=Path, required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run")
    commands.add_parser("status")
    for name in ("isolate", "give-back", "is-isolated"):
        command = commands.add_parser(name)
        command.add_argument("node")
        if name == "isolate":
            command.add_argument("--reason", default="")
    for name in ("restart", "is-running"):
        command = commands.add_parser(name)
        command.add_argument("job")
        command.add_argument("--token", required=True)
    return parser


def _answer(given: Any) -> int:
    folder: Path = given.folder
    match given.command:
        case "run":
            return Launcher(folder).run()
        case "isolate":
            return isolate(folder, given.node, given.reason)
        case "give-back":
            return give_back(folder, given.node)
        case "restart":
            return restart(folder, given.job, given.token)
        case "is-running":
            return is_running(folder, given.job, given.token)
        case "is-isolated":
            return 0 if read_state(folder).nodes[given.node].is_isolated else EXIT_NOT_YET
    sys.stdout.write(json.dumps(asdict(read_state(folder)), indent=1) + "\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; an unknown node or job is one line and exit status 1."""
    given = _parser().parse_args(argv)
    try:
        return _answer(given)
    except KeyError as e:
        sys.stderr.write(f"scheduler: {given.command}: no such node or job: {e.args[0]}\n")
    except OSError as e:
        sys.stderr.write(f"scheduler: {e}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
