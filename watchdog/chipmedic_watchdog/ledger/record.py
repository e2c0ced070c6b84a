"""Reads the histories of jobs out of the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from chipmedic.model import Severity
from chipmedic.recoverer import StepKind
from chipmedic_watchdog.intake.progress import Mark, Progress
from chipmedic_watchdog.ledger.history import Act, History, IncidentFact, by_time
from chipmedic_watchdog.store import schema

SILENT_SECONDS = 600.0
"""A job of which no node has spoken for so long runs no more, unless an incident is open."""
GIVEN_UP_SECONDS = 3600.0
"""A job whose processes are gone is over when it has not moved for so long, incident or not."""
UNDER_WAY = ("planned", "proposed", "running", "verifying")
"""States of a recovery after which the job is to run again."""
CHUNK = 5_000
"""Values in one IN list; SQLite takes 32,766."""

_Row = Any
"""A row of SQLAlchemy; its columns are those of its query."""


def load(connection: Connection, jobs: Collection[str], now: float) -> dict[str, History]:
    """Return the history of each job that has one."""
    rows = _rows(connection, jobs)
    if not rows:
        return {}
    restarts = _restarts(connection, rows)
    incidents = _incidents(
        connection,
        since=min(found[0].at for found in rows.values()),
        named={row.incident for found in restarts.values() for row in found},
    )
    facts = _facts(connection, incidents)
    acts = _acts(connection, list(facts))
    running = _running(connection, rows, now)
    by_job = _by_job(incidents, restarts)
    histories = {}
    for job, progress in rows.items():
        mine = by_job.get(job, ())
        histories[job] = History(
            job=job,
            rows=progress,
            incidents=tuple(facts[row.id] for row in mine),
            acts=tuple(act for row in mine for act in acts.get(row.id, ())),
            now=now,
            is_over=not (
                job in running
                or any(row.state in UNDER_WAY for row in restarts.get(job, ()))
                or (
                    now - progress[-1].at < GIVEN_UP_SECONDS
                    and any(row.state != "resolved" for row in mine)
                )
            ),
        )
    return histories


def _by_job(
    incidents: Sequence[_Row], restarts: Mapping[str, Sequence[_Row]]
) -> dict[str, list[_Row]]:
    """Return the incidents of each job: those that name it, and those that restarted it."""
    restarted: defaultdict[str, set[str]] = defaultdict(set)
    for job, rows in restarts.items():
        for row in rows:
            restarted[row.incident].add(job)
    found: defaultdict[str, list[_Row]] = defaultdict(list)
    for incident in incidents:
        for job in {*incident.jobs, *restarted[incident.id]}:
            found[job].append(incident)
    return found


def _rows(connection: Connection, jobs: Collection[str]) -> dict[str, tuple[Progress, ...]]:
    table = schema.job_progress
    found: defaultdict[str, list[Progress]] = defaultdict(list)
    for part in chunks(sorted(jobs)):
        for row in connection.execute(select(table).where(table.c.job.in_(part))):
            found[row.job].append(
                Progress(
                    at=row.at,
                    step=row.step,
                    checkpoint_step=row.checkpoint_step,
                    attempt=row.attempt,
                    phase=row.phase,
                    checkpoint_seconds=row.checkpoint_seconds,
                    other_seconds=row.other_seconds,
                    mark=Mark(row.mark),
                )
            )
    return {job: by_time(rows) for job, rows in found.items()}


def _restarts(connection: Connection, jobs: Iterable[str]) -> dict[str, list[_Row]]:
    """Return the recoveries (incident, state) that restart each job."""
    steps, recoveries = schema.recovery_steps, schema.recoveries
    found: defaultdict[str, list[_Row]] = defaultdict(list)
    for part in chunks(sorted(jobs)):
        query = (
            select(steps.c.target, recoveries.c.incident, recoveries.c.state)
            .join(recoveries, recoveries.c.id == steps.c.recovery)
            .where(steps.c.kind == StepKind.RESTART.value, steps.c.target.in_(part))
        )
        for row in connection.execute(query):
            found[row.target].append(row)
    return found


def _incidents(connection: Connection, since: float, named: set[str]) -> list[_Row]:
    """Return the incidents that were open since then, and the named ones."""
    table = schema.incidents
    columns = (
        table.c.id, table.c.state, table.c.severity, table.c.jobs, table.c.opened_at,
        table.c.resolved_at,
    )  # fmt: skip
    is_recent = or_(table.c.resolved_at.is_(None), table.c.resolved_at >= since)
    found = {row.id: row for row in connection.execute(select(*columns).where(is_recent))}
    for part in chunks(sorted(named - found.keys())):
        query = select(*columns).where(table.c.id.in_(part))
        found |= {row.id: row for row in connection.execute(query)}
    return sorted(found.values(), key=lambda row: (row.opened_at, row.id))


def _facts(connection: Connection, rows: Sequence[_Row]) -> dict[str, IncidentFact]:
    """Return what the account needs of each incident that hurts a job."""
    rows = [row for row in rows if row.jobs]
    table = schema.faults
    alarms: dict[str, list[float]] = {row.id: [row.opened_at] for row in rows}
    for part in chunks(sorted(alarms)):
        query = select(table.c.incident, table.c.opened_at).where(table.c.incident.in_(part))
        for row in connection.execute(query):
            if row.opened_at > alarms[row.incident][0]:
                alarms[row.incident].append(row.opened_at)
    return {
        row.id: IncidentFact(
            id=row.id,
            severity=Severity(row.severity),
            alarms=tuple(sorted(alarms[row.id])),
            resolved_at=row.resolved_at,
        )
        for row in rows
    }


def _acts(connection: Connection, incidents: Sequence[str]) -> dict[str, list[Act]]:
    """Return the steps that were begun, by incident."""
    steps, recoveries = schema.recovery_steps, schema.recoveries
    found: defaultdict[str, list[Act]] = defaultdict(list)
    for part in chunks(sorted(incidents)):
        query = (
            select(
                recoveries.c.incident, recoveries.c.state.label("recovery_state"),
                recoveries.c.updated_at, steps.c.kind, steps.c.target, steps.c.started_at,
                steps.c.done_at,
            )
            .join(recoveries, recoveries.c.id == steps.c.recovery)
            .where(recoveries.c.incident.in_(part), steps.c.started_at.is_not(None))
            .where(steps.c.kind != StepKind.RETURN.value)
        )  # fmt: skip
        for row in connection.execute(query):
            ended_at = row.done_at
            if ended_at is None and row.recovery_state not in UNDER_WAY:
                ended_at = max(row.updated_at, row.started_at)  # it failed, or was stopped
            found[row.incident].append(
                Act(
                    incident=row.incident,
                    kind=row.kind,
                    target=row.target,
                    started_at=row.started_at,
                    ended_at=ended_at,
                )
            )
    return found


def _running(connection: Connection, jobs: Iterable[str], now: float) -> set[str]:
    """Return the jobs of which a node has lately told a living process."""
    table = schema.job_nodes
    found: set[str] = set()
    for part in chunks(sorted(jobs)):
        query = select(table.c.job, table.c.pids).where(
            and_(
                table.c.job.in_(part),
                table.c.is_present.is_(True),
                table.c.received_at >= now - SILENT_SECONDS,
            )
        )
        found |= {row.job for row in connection.execute(query) if row.pids}
    return found


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield parts that fit into one IN list."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
