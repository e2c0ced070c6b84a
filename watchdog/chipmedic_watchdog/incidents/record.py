"""Incidents in the store: the picture read from it, and changes written to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from chipmedic.model import Severity
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.picture import (
    NODE_UNREACHABLE,
    FaultFact,
    IncidentChange,
    IncidentFact,
    Picture,
    Placement,
)
from chipmedic_watchdog.incidents.rules import RuleSet
from chipmedic_watchdog.intake.board import WATCHDOG
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import upsert

LATE_JOB_SECONDS = 300.0
"""A job that its node no longer reports still counts as hurt by a fault for this long, where nobody
has told when it ended."""
CHUNK = 5_000
"""Values in one IN list; SQLite takes 32,766."""

_FAULT = schema.faults.c
_FAULT_COLUMNS = (
    _FAULT.id, _FAULT.node, _FAULT.component, _FAULT.kind, _FAULT.severity, _FAULT.state,
    _FAULT.opened_at, _FAULT.cleared_at, _FAULT.node_since, _FAULT.summary, _FAULT.codes,
    _FAULT.job, _FAULT.source, _FAULT.incident, schema.nodes.c.skew_seconds,
)  # fmt: skip


def read_picture(
    connection: Connection,
    settings: IncidentSettings,
    rules: RuleSet,
    now: float,
    *,
    catching_up: frozenset[str] = frozenset(),
    silent: frozenset[str] = frozenset(),
) -> Picture:
    """Read all that the correlation needs; faults of nodes that are catching up are left out."""
    fresh = [
        fault
        for fault in fault_facts(
            connection,
            _FAULT.state == "open",
            _FAULT.incident.is_(None),
            or_(
                _FAULT.severity >= Severity.WARNING,
                and_(
                    _FAULT.kind.in_(sorted(rules.note_kinds)),
                    _FAULT.opened_at >= now - rules.note_seconds,
                ),
            ),
        )
        if fault[0].node not in catching_up
    ]
    faults = tuple(fault for fault, _ in fresh if fault.severity >= Severity.WARNING)
    notes = tuple(fault for fault, _ in fresh if fault.severity < Severity.WARNING)
    incidents = _incidents(connection, now - settings.reopen_seconds)
    members = [member for incident in incidents for member in incident.members]
    labels = _labels(connection, rules, faults, members)
    return Picture(
        now=now,
        faults=faults,
        notes=notes,
        incidents=tuple(incidents),
        placements=_placements(connection, (*faults, *notes, *members), now) if fresh else (),
        labels=labels,
        node_count=len(labels),
        silent=silent,
    )


def fault_facts(connection: Connection, *conditions: Any) -> list[tuple[FaultFact, str]]:
    """Return faults with the incident of each."""
    table = schema.faults.outerjoin(schema.nodes, _FAULT.node == schema.nodes.c.node)
    query = select(*_FAULT_COLUMNS).select_from(table).where(*conditions).order_by(_FAULT.id)
    return [(_fact(row), row.incident or "") for row in connection.execute(query)]


def _fact(row: Any) -> FaultFact:
    return FaultFact(
        id=row.id,
        node=row.node,
        component=row.component,
        kind=row.kind,
        severity=row.severity,
        state=row.state,
        opened_at=row.opened_at,
        began_at=began_at(row),
        cleared_at=row.cleared_at,
        summary=row.summary,
        codes=tuple(row.codes),
        job=row.job,
        source=row.source,
    )


def began_at(row: Any) -> float:
    """Return when a fault began, by the watchdog's clock; `row` is of `faults`, with the skew."""
    skew_seconds = 0.0 if row.source == WATCHDOG else row.skew_seconds or 0.0
    # A node's clock may be ahead: nothing began after we heard of it.
    return float(min(row.node_since - skew_seconds, row.opened_at))


def _incidents(connection: Connection, resolved_since: float) -> list[IncidentFact]:
    table = schema.incidents
    rows = connection.execute(
        select(table)
        .where(or_(table.c.state != "resolved", table.c.resolved_at >= resolved_since))
        .order_by(table.c.id)
    ).all()
    ids = [row.id for row in rows]
    members: dict[str, list[FaultFact]] = {}
    for part in _chunks(ids):
        for fault, incident in fault_facts(connection, _FAULT.incident.in_(part)):
            members.setdefault(incident, []).append(fault)
    recoveries: dict[str, set[str]] = {}
    steps = schema.recoveries
    for part in _chunks(ids):
        query = select(steps.c.incident, steps.c.state).where(steps.c.incident.in_(part))
        for row in connection.execute(query):
            recoveries.setdefault(row.incident, set()).add(row.state)
    return [
        IncidentFact(
            id=row.id,
            state=row.state,
            cause=row.cause,
            severity=row.severity,
            root_fault=row.root_fault,
            title=row.title,
            opened_at=row.opened_at,
            nodes=tuple(row.nodes),
            jobs=tuple(row.jobs),
            resolved_at=row.resolved_at,
            is_acknowledged=row.acknowledged_at is not None,
            members=tuple(members.get(row.id, ())),
            recovery_states=frozenset(recoveries.get(row.id, ())),
            reopened_count=row.reopened_count,
        )
        for row in rows
    ]


def _labels(
    connection: Connection,
    rules: RuleSet,
    faults: Sequence[FaultFact],
    members: Sequence[FaultFact],
) -> dict[str, dict[str, str]]:
    """Return the labels of all nodes where silence is judged, else of those that may share one."""
    table = schema.nodes
    query = select(table.c.node, table.c.labels)
    if any(fault.kind == NODE_UNREACHABLE for fault in faults):
        return {row.node: row.labels for row in connection.execute(query)}
    found: dict[str, dict[str, str]] = {}
    kinds = rules.label_kinds
    if kinds and any(fault.kind.startswith(kinds) for fault in faults):
        nodes = sorted({f.node for f in (*faults, *members) if f.kind.startswith(kinds)})
        for part in _chunks(nodes):
            rows = connection.execute(query.where(table.c.node.in_(part)))
            found |= {row.node: row.labels for row in rows}
    return found


def _placements(
    connection: Connection, faults: Sequence[FaultFact], now: float
) -> tuple[Placement, ...]:
    table = schema.job_nodes
    is_current = or_(table.c.is_present.is_(True), table.c.received_at >= now - LATE_JOB_SECONDS)
    nodes = sorted({fault.node for fault in faults})
    jobs = sorted({fault.job for fault in faults if fault.job is not None})
    rows: dict[tuple[str, str], Any] = {}
    placed = table.outerjoin(schema.nodes, table.c.node == schema.nodes.c.node)
    skew = schema.nodes.c.skew_seconds
    for column, names in ((table.c.node, nodes), (table.c.job, jobs)):
        for part in _chunks(names):
            query = select(table, skew).select_from(placed).where(column.in_(part), is_current)
            rows |= {(row.job, row.node): row for row in connection.execute(query)}
    newest = newest_attempts(connection, {job for job, _ in rows})
    return tuple(
        Placement(
            job=row.job,
            node=row.node,
            chips=frozenset(row.chips),
            is_left=has_left(row, newest[row.job], now),
            ended_at=ended_at(row),
        )
        for row in rows.values()
    )


def newest_attempts(connection: Connection, jobs: Iterable[str]) -> dict[str, int]:
    """Return which start of each job is the newest, over all of its nodes."""
    table = schema.job_nodes
    newest = func.max(table.c.attempt).label("newest")
    found: dict[str, int] = {}
    for part in _chunks(sorted(jobs)):
        query = select(table.c.job, newest).where(table.c.job.in_(part)).group_by(table.c.job)
        found |= {row.job: row.newest for row in connection.execute(query)}
    return found


def has_left(row: Any, newest: int, now: float) -> bool:
    """Say whether a job has gone on elsewhere since it was on a node; `row` is of `job_nodes`.

    A node goes on to report a job whose processes have ended, as it may have died of a fault there.
    """
    if row.attempt < newest:
        return True
    last_step_at = row.received_at if row.step_at is None else row.step_at
    is_told = ended_at(row) is not None
    return not (row.pids or is_told) and last_step_at < now - LATE_JOB_SECONDS


def ended_at(row: Any) -> float | None:
    """Return when the processes of a job on a node had ended, by the watchdog's clock, as it told.

    `row` is of `job_nodes`, with the node's `skew_seconds`.
    """
    told = str(row.labels.get("ended_at", ""))
    try:
        at = float(told) - (row.skew_seconds or 0.0)
    except ValueError:
        return None
    return at if not row.pids and math.isfinite(at) else None


def _chunks(values: Sequence[str]) -> Iterable[Sequence[str]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def write_changes(
    connection: Connection, changes: Iterable[IncidentChange], now: float
) -> list[tuple[str, IncidentChange]]:
    """Write what the correlation decided; returns it with the id of each incident."""
    written = []
    for change in changes:
        incident = change.incident or _next_id(connection)
        if change.incident is None:
            _insert(connection, incident, change, now)
        else:
            _update(connection, incident, change, now)
        for part in _chunks(change.attach):  # type: ignore[arg-type]
            connection.execute(
                update(schema.faults).where(_FAULT.id.in_(part)).values(incident=incident)
            )
        written.append((incident, change))
    return written


def _next_id(connection: Connection) -> str:
    counters = schema.counters
    value = connection.execute(
        select(counters.c.value).where(counters.c.name == "incident")
    ).scalar()
    row = {"name": "incident", "value": (value or 0) + 1}
    connection.execute(upsert(connection, counters, row), row)
    return f"inc-{row['value']:06d}"


def _columns(change: IncidentChange, now: float) -> dict[str, Any]:
    return {
        "state": change.state,
        "severity": change.severity,
        "kind": change.kind,
        "cause": change.cause,
        "title": change.title,
        "root_fault": change.root_fault,
        "nodes": change.nodes,
        "jobs": change.jobs,
        "updated_at": now,
    }


def _insert(connection: Connection, incident: str, change: IncidentChange, now: float) -> None:
    connection.execute(
        insert(schema.incidents).values(
            id=incident, fault_at=change.fault_at, opened_at=now, **_columns(change, now)
        )
    )


def _update(connection: Connection, incident: str, change: IncidentChange, now: float) -> None:
    table = schema.incidents
    columns = _columns(change, now)
    if change.is_news:
        columns["revision"] = table.c.revision + 1
    if change.resolve_reason is not None:
        columns |= {"resolved_at": now, "resolve_reason": change.resolve_reason}
    if change.is_reopened:
        columns |= {
            "reopened_count": table.c.reopened_count + 1,
            "resolved_at": None,
            "resolved_by": None,
            "resolve_reason": None,
            "acknowledged_at": None,
            "acknowledged_by": None,
        }
    connection.execute(update(table).where(table.c.id == incident).values(columns))
