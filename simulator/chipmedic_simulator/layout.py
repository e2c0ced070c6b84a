"""Where the parts of a simulated cluster lie in its folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from chipmedic.errors import ChipmedicError
from chipmedic_simulator.host_root import write
from chipmedic_simulator.node import SimulatedNode

SOCKET_PATH_MAX = 100
"""A Unix socket's path takes 108 bytes; some are kept for the names of the sockets."""
MARK = "CHIPMEDIC_SIMULATED_CLUSTER"
"""Environment of every process of a cluster: the cluster's folder."""
SUPERVISOR = "supervisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the parts of a running cluster listen; kept in `cluster.json`."""

    http_port: int
    stream_port: int
    desk_port: int
    agent_ports: dict[str, int]
    sockets: str
    """A folder with a short path: Unix sockets may not have a long one."""
    is_temporary: bool
    """The folder goes when the cluster stops."""

    @property
    def watchdog(self) -> str:
        """The watchdog's HTTP interface."""
        return f"http://127.0.0.1:{self.http_port}"

    def progress_socket(self, node: str) -> Path:
        """Return where the jobs of a node send their beats."""
        return Path(self.sockets) / f"{node}.sock"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder of one cluster."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the layout of a cluster that is there.

        Raises:
            ChipmedicError: there is none.
        """
        layout = cls(folder.absolute())
        if not layout.addresses_file.is_file():
            raise ChipmedicError(
                f"{folder}: no simulated cluster is there; start one with: "
                "chipmedic demo --keep --state FOLDER"
            )
        return layout

    @property
    def addresses_file(self) -> Path:
        """Its existence says that a cluster was made here."""
        return self.folder / "cluster.json"

    @property
    def addresses(self) -> Addresses:
        """Where the parts listen."""
        return Addresses(**json.loads(self.addresses_file.read_text(encoding="utf-8")))

    def keep(self, addresses: Addresses) -> None:
        """Write the addresses down."""
        write(self.addresses_file, json.dumps(asdict(addresses), indent=1))

    @property
    def logs(self) -> Path:
        """A file for each process."""
        return self.folder / "logs"

    @property
    def inbox(self) -> Path:
        """What people were told, as it arrived."""
        return self.folder / "inbox"

    @property
    def scheduler(self) -> Path:
        """The scheduler's folder."""
        return self.folder / "scheduler"

    @property
    def job(self) -> Path:
        """The training job's folder: control file, checkpoint, logs of the ranks."""
        return self.folder / "job"

    @property
    def watchdog(self) -> Path:
        """The watchdog's configuration and store."""
        return self.folder / "watchdog"

    @property
    def nodes(self) -> Path:
        """A folder for each node."""
        return self.folder / "nodes"

    @property
    def pids_file(self) -> Path:
        """The processes of the cluster by name."""
        return self.folder / "pids.json"

    def agent_config(self, node: str) -> Path:
        """Return the configuration of a node's agent."""
        return self.nodes / node / "agent.toml"

    @property
    def watchdog_config(self) -> Path:
        """The watchdog's configuration."""
        return self.watchdog / "watchdog.toml"

    @property
    def secret(self) -> Path:
        """The key with which the desk's webhook is signed."""
        return self.watchdog / "desk-hmac"

    def node_names(self) -> list[str]:
        """Return the nodes by name."""
        return sorted(path.name for path in self.nodes.iterdir())

    def node(self, name: str) -> SimulatedNode:
        """Return a node's hardware.

        Raises:
            ChipmedicError: the cluster has no such node.
        """
        if name not in self.node_names():
            known = ", ".join(self.node_names())
            raise ChipmedicError(f"--node {name!r}: no such node; there are: {known}")
        return SimulatedNode.open(self.nodes / name)

    def pids(self) -> dict[str, int]:
        """Return the processes of the cluster, the supervisor too; empty when it is stopped."""
        try:
            kept = json.loads(self.pids_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {str(name): int(pid) for name, pid in kept.items()}


def socket_folder(folder: Path) -> Path:
    """Return a folder for Unix sockets: inside the cluster's where that path is short enough."""
    inside = folder / "run"
    if len(str(inside)) <= SOCKET_PATH_MAX - len("/a-long-name.sock"):
        inside.mkdir(exist_ok=True)
        return inside
    return Path(tempfile.mkdtemp(prefix="chipmedic-", dir="/tmp"))


def remove(layout: Layout, addresses: Addresses) -> None:
    """Remove what must not stay: sockets elsewhere, and the whole folder of a temporary cluster."""
    if Path(addresses.sockets).parent != layout.folder:
        shutil.rmtree(addresses.sockets, ignore_errors=True)
    if addresses.is_temporary:
        shutil.rmtree(layout.folder, ignore_errors=True)
