"""What the scheduler wants and what it has started: `scheduler.json`, changed under a lock."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chipmedic_simulator.host_root import write

FILE = "scheduler.json"


@dataclass(slots=True, kw_only=True)
class Node:
    """One node of the cluster."""

    name: str
    is_isolated: bool = False
    reason: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to that of the ranks that run here."""
    hardware: str = ""
    """Folder of the simulated node whose chips a rank holds; empty: no chips."""


@dataclass(slots=True, kw_only=True)
class Rank:
    """One process of the running attempt."""

    rank: int
    node: str
    pid: int
    exit_status: int | None = None
    """Set when it has ended by itself."""


@dataclass(slots=True, kw_only=True)
class Job:
    """The one job."""

    name: str
    ranks: int
    folder: str
    ring_folder: str
    """Where the ranks meet: a short path, for a Unix socket's may not be long."""
    step_seconds: float = 0.2
    checkpoint_every: int = 10
    attempt: int = 0
    """Grows with each wanted start; the daemon follows."""
    tokens: list[str] = field(default_factory=list)
    """Restarts that were asked for."""
    running_attempt: int = -1
    running: list[Rank] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ClusterState:
    """What the file holds."""

    nodes: dict[str, Node]
    job: Job

    def free_nodes(self) -> list[str]:
        """Return the nodes that may get work, in their order."""
        return [node.name for node in self.nodes.values() if not node.is_isolated]

    def rank_on(self, node: str) -> Rank | None:
        """Return the rank that was started on a node."""
        return next((rank for rank in self.job.running if rank.node == node), None)


def read_state(folder: Path) -> ClusterState:
    """Return the present state.

    Raises:
        OSError: there is none.
    """
    data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    ranks = [Rank(**rank) for rank in data["job"].pop("running")]
    return ClusterState(
        nodes={name: Node(**node) for name, node in data["nodes"].items()},
        job=Job(**data["job"], running=ranks),
    )


def write_state(folder: Path, state: ClusterState) -> None:
    """Replace the state in one step."""
    write(folder / FILE, json.dumps(asdict(state), indent=1))


@contextmanager
def edit(folder: Path) -> Iterator[ClusterState]:
    """Yield the state to be changed; nobody else changes it meanwhile."""
    with (folder / "scheduler.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read_state(folder)
        yield state
        write_state(folder, state)
