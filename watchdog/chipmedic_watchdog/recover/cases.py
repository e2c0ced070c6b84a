"""Reads the cases of the policy out of the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, func, select

from chipmedic.model import Action, Severity
from chipmedic.recoverer import StepKind
from chipmedic_watchdog.incidents.record import began_at, ended_at
from chipmedic_watchdog.recover import book
from chipmedic_watchdog.recover.case import Case, FaultView, IncidentView, Placement
from chipmedic_watchdog.recover.modes import partitions_of
from chipmedic_watchdog.recover.policy import may_return
from chipmedic_watchdog.store import schema


def load(connection: Connection, incident: str | None = None) -> list[Case]:
    """Return a case for every incident that is not resolved, or for one alone."""
    table = schema.incidents
    query = select(table).where(table.c.state != "resolved")
    if incident is not None:
        query = query.where(table.c.id == incident)
    rows = list(connection.execute(query))
    ids = [row.id for row in rows]
    if not rows:
        return []
    jobs = sorted({job for row in rows for job in row.jobs})
    faults = _faults(connection, ids)
    nodes = {fault.node for found in faults.values() for fault in found}
    placements = _placements(connection, jobs, nodes)
    placed = frozenset(job for job in jobs if _is_placed(connection, job))
    isolated = open_isolations(connection)
    restarted = book.restarted_at(connection, jobs)
    partitions = _partitions(connection, {node for row in rows for node in row.nodes})
    return [
        Case(
            incident=_incident(row),
            faults=tuple(faults.get(row.id, ())),
            placements=tuple(p for p in placements if p.job in row.jobs),
            placed_jobs=placed & frozenset(row.jobs),
            isolated=isolated | _handled(connection, row.id, row.reopened_count),
            partitions={node: partitions.get(node, frozenset()) for node in row.nodes},
            restarted_at={job: at for job, at in restarted.items() if job in row.jobs},
        )
        for row in rows
    ]


def _partitions(connection: Connection, nodes: Iterable[str]) -> dict[str, frozenset[str]]:
    table = schema.nodes
    query = select(table.c.node, table.c.labels).where(table.c.node.in_(list(nodes)))
    return {row.node: partitions_of(row.labels) for row in connection.execute(query)}


def open_isolations(connection: Connection) -> frozenset[str]:
    """Return the nodes that we hold isolated."""
    table = schema.isolations
    query = select(table.c.node).where(table.c.returned_at.is_(None))
    return frozenset(connection.execute(query).scalars())


def known_nodes(connection: Connection) -> list[str]:
    """Return the names of all nodes."""
    return list(connection.execute(select(schema.nodes.c.node)).scalars())


def keeps_out(connection: Connection, node: str, *, by_person: bool = False) -> str | None:
    """Return the kind of a fault because of which a node must stay out, or None."""
    table = schema.faults
    query = _with_skew(table).where(table.c.node == node, table.c.state != "cleared")
    faults = [_fault(row) for row in connection.execute(query)]
    fault = may_return(node, faults, by_person=by_person)
    return None if fault is None else fault.kind


def _handled(connection: Connection, incident: str, reopened_count: int) -> frozenset[str]:
    """Return the nodes that this incident has isolated since it was last opened.

    A node that a person resumed meanwhile is among them: their word ends our repair. So is one
    that was found in somebody else's hands.
    """
    recoveries, steps = schema.recoveries, schema.recovery_steps
    query = (
        select(steps.c.target, recoveries.c.evidence)
        .join(recoveries, recoveries.c.id == steps.c.recovery)
        .where(recoveries.c.incident == incident)
        .where(steps.c.kind == StepKind.ISOLATE.value, steps.c.state == "done")
    )
    rows = connection.execute(query)
    return frozenset(
        row.target for row in rows if row.evidence.get("reopened", 0) == reopened_count
    )


def _faults(connection: Connection, incidents: Iterable[str]) -> dict[str, list[FaultView]]:
    table = schema.faults
    of_incidents = table.c.incident.in_(list(incidents))
    query = _with_skew(table).where(of_incidents, table.c.state != "cleared")
    found: dict[str, list[FaultView]] = {}
    for row in connection.execute(query.order_by(table.c.id)):
        found.setdefault(row.incident, []).append(_fault(row))
    return found


def _with_skew(table: Table) -> Select[Any]:
    """Return the query of a table's rows, each with how far its node's clock is ahead of ours."""
    nodes = schema.nodes
    joined = table.outerjoin(nodes, table.c.node == nodes.c.node)
    return select(table, nodes.c.skew_seconds).select_from(joined)


def _is_placed(connection: Connection, job: str) -> bool:
    table = schema.job_nodes
    query = select(table.c.job).where(table.c.job == job).limit(1)
    return connection.execute(query).first() is not None


def _placements(
    connection: Connection, jobs: Iterable[str], nodes: Iterable[str]
) -> list[Placement]:
    """Return which jobs are or were on which nodes.

    A job is present where processes of its newest start live: a node goes on to report a job whose
    processes have ended, and may hold one of an earlier start that cannot die.
    """
    table = schema.job_nodes
    of_jobs = table.c.job.in_(list(jobs))
    newest_of = func.max(table.c.attempt).label("newest")
    attempts = select(table.c.job, newest_of).where(of_jobs).group_by(table.c.job)
    newest = {row.job: row.newest for row in connection.execute(attempts)}
    query = _with_skew(table).where(of_jobs, table.c.node.in_(list(nodes)))
    return [
        Placement(
            job=row.job,
            node=row.node,
            received_at=row.received_at,
            is_present=row.is_present and bool(row.pids) and row.attempt >= newest[row.job],
            ended_at=ended_at(row),
        )
        for row in connection.execute(query)
    ]


def _incident(row: Row[Any]) -> IncidentView:
    return IncidentView(
        id=row.id,
        kind=row.kind,
        severity=Severity(row.severity),
        state=row.state,
        nodes=tuple(row.nodes),
        jobs=tuple(row.jobs),
        cause=row.cause,
        reopened_count=row.reopened_count,
    )


def _fault(row: Row[Any]) -> FaultView:
    return FaultView(
        id=row.id,
        node=row.node,
        component=row.component,
        kind=row.kind,
        severity=Severity(row.severity),
        action=Action(row.action),
        opened_at=row.opened_at,
        began_at=began_at(row),
        source=row.source,
        codes=tuple(row.codes),
        job=row.job,
        is_open=row.state == "open",
    )
