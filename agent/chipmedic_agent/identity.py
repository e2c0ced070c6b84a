"""Who this node is: its name, boot and machine, read once at the start."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil

from chipmedic.host import Host, LinuxHost


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What does not change while the agent runs."""

    node: str
    boot_id: str
    boot_time: float
    machine_id: str
    version: str


def read_identity(host: Host, *, node: str, boot_id_file: str) -> Identity:
    """Read who this node is; what cannot be read is left empty, but there is always a boot id."""
    boot_time = psutil.boot_time()
    # Without a boot id (a captured root, say) the second of the boot tells boots apart as well.
    boot_id = _read(host, boot_id_file) or f"at-{boot_time:.0f}"
    return Identity(
        node=node,
        boot_id=boot_id,
        boot_time=boot_time,
        # A simulated root has none; what answers under a node's name is a real machine anyway.
        machine_id=_read(host, "/etc/machine-id") or _read(LinuxHost(), "/etc/machine-id"),
        version=agent_version(),
    )


def agent_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("chipmedic")
    except PackageNotFoundError:
        return "0+unknown"


def _read(host: Host, path: str) -> str:
    with contextlib.suppress(OSError):
        return host.read(path).strip()
    return ""
