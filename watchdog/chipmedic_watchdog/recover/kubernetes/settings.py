"""Section `[recover.kubernetes]` of the watchdog's configuration."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import Any

from chipmedic.section import Check, Section, above_zero, checks
from chipmedic_watchdog.recover.setting_checks import placeholders

PACKAGE = "kubernetes"
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PREFIXED = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


def _prefixed(key: str) -> Check:
    """Check that it is a name that Kubernetes takes for a label or a taint, where it is set."""

    def check(section: Any) -> Iterator[str]:
        if (name := getattr(section, key)) and not _PREFIXED.fullmatch(name):
            yield f"{key}: {name!r} is no name of a label or taint"

    return check


class RefusedEviction(StrEnum):
    """What becomes of a pod that a disruption budget does not let go."""

    WAIT = "wait"
    """It stays; when the step's time is over, a person decides."""
    DELETE = "delete"
    """After `budget_patience_seconds` it is deleted, past the budget, with its time to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings(Section):
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

    def _package(self) -> Iterator[str]:
        found = find_spec(PACKAGE)
        if found is None or found.origin is None:  # a mere folder of that name has no origin
            yield f"it needs the package {PACKAGE}: {sys.executable} -m pip install {PACKAGE}"

    def _grace(self) -> Iterator[str]:
        if self.grace_seconds is not None and self.grace_seconds < 1:
            yield "grace_seconds: less than 1 would kill without a proof of the end"

    def _context(self) -> Iterator[str]:
        if self.context and not self.kubeconfig:
            yield "context: there is no kubeconfig that it could be of"

    def _namespaces(self) -> Iterator[str]:
        for name in self.namespaces:
            if not _NAMESPACE.fullmatch(name):
                yield f"namespaces: {name!r} is no name of a namespace"

    CHECKS = checks(
        _package,
        above_zero("request_timeout_seconds", "isolate_timeout_seconds"),
        above_zero("restart_timeout_seconds", "budget_patience_seconds"),
        above_zero("stuck_after_seconds", "fence_timeout_seconds"),
        placeholders("fence", {"node", "incident"}),
        _grace,
        _context,
        _namespaces,
        _prefixed("node_label"),
        _prefixed("taint"),
    )
