"""What the policy judges: an incident with its faults, and what is known of nodes and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmedic.model import Action, Severity
from chipmedic.recoverer import NodeView
from chipmedic_watchdog.incidents.seen_late import had_ended


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultView:
    """One fault of an incident that is not cleared."""

    id: int
    node: str
    component: str
    """As `str(Component)`."""
    kind: str
    severity: Severity
    action: Action
    opened_at: float
    began_at: float | None = None
    """When it began, by the watchdog's clock; None: when it was heard of."""
    source: str = ""
    """The check that saw it."""
    codes: tuple[str, ...] = ()
    job: str | None = None
    is_open: bool = True
    """False: its check cannot look any more; the condition is unknown."""

    def is_after(self, ended_at: float | None) -> bool:
        """Whether it began when a job's processes had ended already, for a reason of their own."""
        return had_ended(ended_at, kind=self.kind, source=self.source, began_at=self.begins_at)

    @property
    def begins_at(self) -> float:
        """When it began, as far as that is known, by the watchdog's clock."""
        return self.opened_at if self.began_at is None else self.began_at

    @property
    def chip(self) -> str | None:
        """The uid of the chip that it is on; a link belongs to its chip."""
        kind, _, name = self.component.partition(":")
        return name.partition("/")[0] if kind in ("chip", "link") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A job on a node."""

    job: str
    node: str
    received_at: float
    is_present: bool
    """Processes of its newest start live there, as the node has reported last."""
    ended_at: float | None = None
    """When its processes there had ended, by the watchdog's clock; None: they live, or nobody
    knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """An incident as the policy sees it."""

    id: str
    kind: str
    severity: Severity
    state: str
    nodes: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    cause: str = ""
    """Id of the correlation's rule: `software.same_code/1`."""
    reopened_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a decision is made of."""

    incident: IncidentView
    faults: tuple[FaultView, ...] = ()
    placements: tuple[Placement, ...] = ()
    """Of the incident's jobs on the nodes of its faults; a job may have thousands of others."""
    placed_jobs: frozenset[str] = frozenset()
    """The incident's jobs of which any node is known."""
    isolated: frozenset[str] = frozenset()
    """Nodes that need no isolation: we hold them isolated, or this incident has done so before."""
    partitions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of each node of the incident, as the agents' labels name them."""
    on_probation: frozenset[str] = frozenset()
    """Nodes that were given back a short while ago."""
    restarted_at: Mapping[str, float] = field(default_factory=dict)
    """When chipmedic last finished a restart of a job."""
    views: Mapping[str, NodeView] | None = None
    """The scheduler's word on nodes; None: not asked, or it did not answer."""
