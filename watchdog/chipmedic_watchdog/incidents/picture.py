"""What the correlation looks at and what it decides, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from chipmedic_watchdog.incidents.seen_late import had_ended

NODE_UNREACHABLE = "node.unreachable"


@dataclass(frozen=True, kw_only=True)
class FaultFact:
    """One fault of the store."""

    id: int
    node: str
    component: str
    kind: str
    severity: int
    state: str
    """`open`, `unknown` or `cleared`."""
    opened_at: float
    """When the watchdog heard of it."""
    began_at: float
    """When it began, by the watchdog's clock."""
    cleared_at: float | None = None
    """When the watchdog heard of its end; None while it lasts."""
    summary: str = ""
    codes: tuple[str, ...] = ()
    job: str | None = None
    source: str = ""
    """The check that saw it."""

    @cached_property
    def chip(self) -> str | None:
        """The uid of the chip that the component is, or is a link of."""
        kind, _, name = self.component.partition(":")
        if kind == "chip":
            return name
        return name.rpartition("/")[0] or None if kind == "link" else None

    @property
    def is_cleared(self) -> bool:
        """Whether it has ended."""
        return self.state == "cleared"

    def meets(self, other: FaultFact) -> bool:
        """Whether there was a moment at which both were there."""
        ends = [math.inf if f.cleared_at is None else f.cleared_at for f in (self, other)]
        return self.began_at <= ends[1] and other.began_at <= ends[0]


@dataclass(frozen=True, kw_only=True)
class IncidentFact:
    """One incident of the store, open or resolved a short time ago."""

    id: str
    state: str
    cause: str
    severity: int
    root_fault: int | None
    title: str
    opened_at: float
    nodes: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    resolved_at: float | None = None
    is_acknowledged: bool = False
    members: tuple[FaultFact, ...] = ()
    recovery_states: frozenset[str] = frozenset()
    reopened_count: int = 0

    @property
    def is_resolved(self) -> bool:
        """Whether it is over, for now."""
        return self.state == "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which job holds which chips of a node."""

    job: str
    node: str
    chips: frozenset[str] = frozenset()
    is_left: bool = False
    """The job has been started again since, elsewhere: what is wrong here hurts it no more."""
    ended_at: float | None = None
    """When its processes here had ended, the watchdog's clock; None: they live, or nobody knows."""

    def is_hurt_by(self, fault: FaultFact) -> bool:
        """Whether a fault of this node hurts the job: by its chip where it has one.

        A job that names no chips may hold any of them.
        """
        if self.is_left or not (fault.chip is None or not self.chips or fault.chip in self.chips):
            return False
        return not had_ended(
            self.ended_at, kind=fault.kind, source=fault.source, began_at=fault.began_at
        )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Everything that one run of the correlation knows."""

    now: float
    faults: tuple[FaultFact, ...] = ()
    """Open, of severity warning and above, in no incident yet."""
    notes: tuple[FaultFact, ...] = ()
    """Open, of severity info, in no incident, and perhaps one half of a pair."""
    incidents: tuple[IncidentFact, ...] = ()
    placements: tuple[Placement, ...] = ()
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By node; of all nodes where silence is to be judged, else of those that have faults."""
    node_count: int = 0
    silent: frozenset[str] = frozenset()
    """Nodes whose stream is lost, whether or not the verdict is out."""

    @cached_property
    def jobs_by_node(self) -> dict[str, list[Placement]]:
        """The jobs of each node."""
        found: dict[str, list[Placement]] = {}
        for placement in self.placements:
            found.setdefault(placement.node, []).append(placement)
        return found

    @cached_property
    def nodes_by_job(self) -> dict[str, set[str]]:
        """The nodes of each job."""
        found: dict[str, set[str]] = {}
        for placement in self.placements:
            found.setdefault(placement.job, set()).add(placement.node)
        return found

    def jobs_of(self, fault: FaultFact) -> set[str]:
        """Return the jobs that a fault hurts: by its chip where it has one, else by its node."""
        if fault.job is not None:
            return {fault.job}
        return {p.job for p in self.jobs_by_node.get(fault.node, ()) if p.is_hurt_by(fault)}


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentChange:
    """What is to be written of one incident."""

    incident: str | None
    """None: a new one."""
    attach: tuple[int, ...] = ()
    """Faults that join it."""
    state: str
    severity: int
    kind: str
    cause: str
    title: str
    root_fault: int
    nodes: tuple[str, ...]
    jobs: tuple[str, ...]
    fault_at: float
    is_news: bool = False
    """A person would want to know: the revision grows."""
    is_reopened: bool = False
    resolve_reason: str | None = None
