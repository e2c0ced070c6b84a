"""What a notice is made of, read out of the store in one view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from chipmedic.model import Severity
from chipmedic_watchdog.notify.late import Late, late_ranks
from chipmedic_watchdog.store import schema

STANDING = frozenset({"job.hung", "job.crashed"})
"""Kinds of incident at which a job stands, so that the steps of its ranks can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipFacts:
    """A chip of the inventory."""

    vendor: str
    model: str
    index: int
    die: int
    serial: str | None
    pci: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultFacts:
    """A fault of the incident."""

    id: int
    node: str
    component: str
    kind: str
    severity: Severity
    summary: str
    codes: tuple[str, ...]
    evidence: tuple[str, ...]
    job: str | None
    chip: ChipFacts | None
    """Of a chip or a link, where the inventory has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """A job that the incident hurts."""

    job: str
    name: str | None
    user: str | None
    node_count: int
    ranks: Mapping[str, tuple[int, ...]]
    """By node, for the incident's nodes alone."""
    pids: Mapping[str, tuple[int, ...]]
    step: int | None
    checkpoint_step: int | None
    known_as: str | None = None
    """How its users write it, where that is another number: `1234_5`, a task of an array."""
    late: tuple[Late, ...] = ()
    """Ranks that did not arrive where the others wait; of a job that stands still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryFacts:
    """The latest recovery of the incident."""

    id: str
    mode: str
    state: str
    adapter: str
    reason: str
    detail: str
    evidence: Mapping[str, Any]
    updated_at: float

    @property
    def is_return(self) -> bool:
        """Whether it gives a node back."""
        return self.evidence.get("kind") == "return"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFacts:
    """Everything that a notice of one incident may say."""

    id: str
    kind: str
    cause: str
    severity: Severity
    title: str
    state: str
    nodes: tuple[str, ...]
    fault_at: float
    opened_at: float
    resolved_at: float | None
    resolved_by: str | None
    resolve_reason: str | None
    revision: int
    reopened_count: int = 0
    is_acknowledged: bool = False
    faults: tuple[FaultFacts, ...] = ()
    """The root fault first, then the worst."""
    jobs: tuple[JobFacts, ...] = ()
    recovery: RecoveryFacts | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the root's node: rack, switch, ..."""
    isolated: tuple[str, ...] = ()
    """Nodes that chipmedic took out of service for it and has not given back."""

    @property
    def root(self) -> FaultFacts | None:
        """The fault nearest to the cause, where it is known."""
        return self.faults[0] if self.faults else None

    @property
    def nodes_to_look_at(self) -> tuple[str, ...]:
        """Where ranks did not arrive, where that is known; else the nodes that have the faults.

        Every node of a job that stands reports it, and the one that is the cause is often the last.
        """
        late = dict.fromkeys(one.node for job in self.jobs for one in job.late)
        return tuple(late) or self.nodes


def gather(connection: Connection, incident: Row[Any]) -> IncidentFacts:
    """Read what is known about a row of `incidents`."""
    faults = _faults(connection, incident)
    node = faults[0].node if faults else next(iter(incident.nodes), "")
    nodes = schema.nodes
    labels = connection.execute(select(nodes.c.labels).where(nodes.c.node == node)).scalar()
    return IncidentFacts(
        id=incident.id,
        kind=incident.kind,
        cause=incident.cause,
        severity=Severity(incident.severity),
        title=incident.title,
        state=incident.state,
        nodes=tuple(incident.nodes),
        fault_at=incident.fault_at,
        opened_at=incident.opened_at,
        resolved_at=incident.resolved_at,
        resolved_by=incident.resolved_by,
        resolve_reason=incident.resolve_reason,
        revision=incident.revision,
        reopened_count=incident.reopened_count,
        is_acknowledged=incident.acknowledged_at is not None,
        faults=tuple(faults),
        jobs=tuple(_job(connection, job, incident) for job in incident.jobs),
        recovery=latest_recoveries(connection, [incident.id]).get(incident.id),
        labels=labels or {},
        isolated=_isolated(connection, incident.id),
    )


def _isolated(connection: Connection, incident: str) -> tuple[str, ...]:
    table = schema.isolations
    query = select(table.c.node).where(table.c.incident == incident, table.c.returned_at.is_(None))
    return tuple(sorted(connection.execute(query).scalars()))


def _faults(connection: Connection, incident: Row[Any]) -> list[FaultFacts]:
    table, chips = schema.faults, schema.chips
    rows = list(connection.execute(select(table).where(table.c.incident == incident.id)))
    rows.sort(key=lambda row: (row.id != incident.root_fault, -row.severity, row.id))
    names = {row.node for row in rows}
    query = select(chips).where(chips.c.node.in_(names))
    inventory = {(row.node, row.uid): _chip(row) for row in connection.execute(query)}
    return [
        FaultFacts(
            id=row.id,
            node=row.node,
            component=row.component,
            kind=row.kind,
            severity=Severity(row.severity),
            summary=row.summary,
            codes=tuple(row.codes),
            evidence=tuple(row.evidence),
            job=row.job,
            chip=inventory.get((row.node, _chip_uid(row.component))),
        )
        for row in rows
    ]


def _chip_uid(component: str) -> str:
    kind, _, name = component.partition(":")
    return name.rpartition("/")[0] if kind == "link" else name


def _chip(row: Row[Any]) -> ChipFacts:
    return ChipFacts(
        vendor=row.vendor,
        model=row.model,
        index=row.chip_index,
        die=row.die,
        serial=row.serial,
        pci=row.pci,
    )


def _job(connection: Connection, job: str, incident: Row[Any]) -> JobFacts:
    table = schema.job_nodes
    known = list(connection.execute(select(table).where(table.c.job == job)))
    newest = max((row.attempt for row in known), default=0)
    # Where an earlier start of the job ran is not where it runs.
    rows = [row for row in known if row.attempt == newest]
    is_standing = incident.kind in STANDING and incident.state != "resolved"
    late = late_ranks(rows) if is_standing else ()
    shown = {*incident.nodes, *(one.node for one in late)}
    here = [row for row in rows if row.node in shown]
    steps = [row.step for row in rows if row.step is not None]
    checkpoints = [row.checkpoint_step for row in rows if row.checkpoint_step is not None]
    return JobFacts(
        job=job,
        name=next((row.name for row in rows if row.name), None),
        known_as=next((known for row in rows if (known := row.labels.get("array_task"))), None),
        user=next((row.user for row in rows if row.user), None),
        node_count=sum(1 for row in rows if row.is_present) or len(rows),
        ranks={row.node: tuple(row.ranks) for row in here if row.ranks},
        pids={row.node: tuple(row.pids) for row in here if row.pids},
        step=max(steps, default=None),
        checkpoint_step=max(checkpoints, default=None),
        late=late,
    )


def latest_recoveries(connection: Connection, incidents: list[str]) -> dict[str, RecoveryFacts]:
    """Return the newest recovery of each incident."""
    table = schema.recoveries
    query = select(table).where(table.c.incident.in_(incidents)).order_by(table.c.id)
    return {row.incident: _recovery(row) for row in connection.execute(query)}


def _recovery(row: Row[Any]) -> RecoveryFacts:
    return RecoveryFacts(
        id=row.id,
        mode=row.mode,
        state=row.state,
        adapter=row.adapter,
        reason=row.reason,
        detail=row.detail,
        evidence=row.evidence,
        updated_at=row.updated_at,
    )
