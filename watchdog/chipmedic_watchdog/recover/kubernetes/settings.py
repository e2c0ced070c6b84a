"""Section `[recover.kubernetes]` of the watchdog's configuration."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from chipmedic_watchdog.recover.setting_checks import placeholders, positive

PACKAGE = "kubernetes"
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PREFIXED = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


class RefusedEviction(StrEnum):
    """What becomes of a pod that a disruption budget does not let go."""

    WAIT = "wait"
    """It stays; when the step's time is over, a person decides."""
    DELETE = "delete"
    """After `budget_patience_seconds` it is deleted, past the budget, with its time to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """Section `[recover.kubernetes]`."""

    kubeconfig: str = ""
    """A kubeconfig file; empty: the service account of the pod that the watchdog runs in."""
    context: str = ""
    """The context of that file; empty: its current one."""
    namespaces: tuple[str, ...] = ()
    """Jobs are restarted in these alone; empty: in all."""
    node_label: str = "chipmedic.dev/node"
    """A label of nodes with the name that the agent reports, where that is not the node's own."""
    taint: str = "chipmedic.dev/fault"
    """Key of the taint of an isolated node; empty: it is cordoned only."""
    condition: str = "ChipmedicFault"
    """Type of the node condition that tells of it; empty: none is written."""
    request_timeout_seconds: float = 10.0
    """For one request to the API server."""
    isolate_timeout_seconds: float = 60.0
    restart_timeout_seconds: float = 600.0
    """From the eviction to new pods that run; the grace of the old ones is a part of it."""
    grace_seconds: int | None = None
    """From SIGTERM to SIGKILL of an evicted pod; unset: as the pod says."""
    refused_eviction: RefusedEviction = RefusedEviction.WAIT
    """What becomes of a pod that a disruption budget does not let go: `wait` leaves it to a person,
    `delete` takes it after the patience below."""
    budget_patience_seconds: float = 120.0
    stuck_after_seconds: float = 60.0
    """A pod that is there so long after its grace has a process that cannot be killed."""
    fence: tuple[str, ...] = ()
    """A command that proves a node dead (power off), with `{node}`; without it a job whose node
    does not answer is left to a person, because its old processes may still write."""
    fence_timeout_seconds: float = 60.0
    start_without_fence: bool = False
    """Start the job even so; only for jobs whose checkpoints are safe from two writers."""

    def __post_init__(self) -> None:
        found = find_spec(PACKAGE)
        if found is None or found.origin is None:  # a mere folder of that name has no origin
            raise ValueError(
                f"it needs the package {PACKAGE}: {sys.executable} -m pip install {PACKAGE}"
            )
        positive(self, "request_timeout_seconds", "isolate_timeout_seconds")
        positive(self, "restart_timeout_seconds", "budget_patience_seconds")
        positive(self, "stuck_after_seconds", "fence_timeout_seconds")
        placeholders("fence", self.fence, {"node", "incident"})
        if self.grace_seconds is not None and self.grace_seconds < 1:
            raise ValueError("grace_seconds: less than 1 would kill without a proof of the end")
        if self.context and not self.kubeconfig:
            raise ValueError("context: there is no kubeconfig that it could be of")
        for name in self.namespaces:
            if not _NAMESPACE.fullmatch(name):
                raise ValueError(f"namespaces: {name!r} is no name of a namespace")
        for key in ("node_label", "taint"):
            if (name := getattr(self, key)) and not _PREFIXED.fullmatch(name):
                raise ValueError(f"{key}: {name!r} is no name of a label or taint")
