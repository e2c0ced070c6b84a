"""What is kept of a job for good: the sums of its account, by phase and by cause.

They are written when a job has ended, because later its places and its incidents may be purged;
they stay when its progress and its ledger are purged, so that the sums over all jobs never shrink.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select

from chipmedic_watchdog.ledger.account import Account, account
from chipmedic_watchdog.ledger.history import TICKS_PER_SECOND
from chipmedic_watchdog.ledger.phases import LOST, Phase
from chipmedic_watchdog.ledger.record import GIVEN_UP_SECONDS, SILENT_SECONDS, chunks, load
from chipmedic_watchdog.ledger.sums import FORGOTTEN, UNEXPLAINED, Cause, by_cause
from chipmedic_watchdog.ledger.vendors import vendors_of
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows

SETTLED_MAX = 200
"""Jobs that are settled in one transaction."""
TICK_SECONDS = 2 / TICKS_PER_SECOND
"""By so much the end of an account can lie before its last row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One job that has ended."""

    job: str
    vendor: str
    began_at: float
    end_at: float
    starts: int
    highest_step: int | None
    seconds: Mapping[Phase, float]
    causes: Mapping[str, Cause]


def unsettled(connection: Connection, now: float) -> list[str]:
    """Return jobs that have ended, as far as time can tell, and whose sums are not kept yet."""
    progress, kept, places = schema.job_progress, schema.job_totals, schema.job_nodes
    moved = func.max(progress.c.at)
    reported = select(places.c.job).where(
        places.c.is_present.is_(True), places.c.received_at >= now - SILENT_SECONDS
    )
    query = (
        select(progress.c.job)
        .outerjoin(kept, kept.c.job == progress.c.job)
        .where(progress.c.job.not_in(reported))
        .group_by(progress.c.job, kept.c.end_at)
        .having(moved < now - GIVEN_UP_SECONDS)
        .having(or_(kept.c.end_at.is_(None), kept.c.end_at < moved - TICK_SECONDS))
        .order_by(moved.desc())
        .limit(SETTLED_MAX)
    )
    return list(connection.execute(query).scalars())


def revived(connection: Connection, now: float) -> list[str]:
    """Return jobs that run again after their sums were kept."""
    progress, kept = schema.job_progress, schema.job_totals
    moved = func.max(progress.c.at)
    query = (
        select(progress.c.job)
        .join(kept, kept.c.job == progress.c.job)
        .group_by(progress.c.job, kept.c.end_at)
        .having(moved >= now - GIVEN_UP_SECONDS)
        .having(kept.c.end_at < moved - TICK_SECONDS)
    )
    return list(connection.execute(query).scalars())


def settle(connection: Connection, jobs: Collection[str], now: float) -> int:
    """Keep the sums of these jobs, of those that are over; return of how many."""
    made = [
        one
        for history in load(connection, jobs, now).values()
        if (one := account(history)) is not None and one.is_over
    ]
    _keep(connection, made)
    return len(made)


def archive(connection: Connection, jobs: Collection[str], now: float) -> None:
    """Keep the sums of jobs whose progress is about to go, and delete their ledger."""
    histories = load(connection, jobs, now).values()
    made = [account(replace(history, is_over=True)) for history in histories]
    _keep(connection, [one for one in made if one is not None])
    for part in chunks(sorted(jobs)):
        connection.execute(delete(schema.ledger).where(schema.ledger.c.job.in_(part)))


def forget(connection: Connection, jobs: Iterable[str]) -> None:
    """Delete the sums of jobs."""
    for part in chunks(sorted(jobs)):
        for table in (schema.job_totals, schema.lost_totals):
            connection.execute(delete(table).where(table.c.job.in_(part)))


def _keep(connection: Connection, made: Collection[Account]) -> None:
    jobs = {one.job for one in made}
    vendors = vendors_of(connection, jobs)
    kinds = kinds_of(connection, made)
    forget(connection, jobs)
    write_rows(connection, schema.job_totals, [_row_of(one, vendors[one.job]) for one in made])
    write_rows(
        connection, schema.lost_totals, [row for one in made for row in _lost_rows(one, kinds)]
    )


def _row_of(one: Account, vendor: str) -> dict[str, Any]:
    return {
        "job": one.job,
        "vendor": vendor,
        "began_at": one.began_at,
        "end_at": one.end_at,
        "starts": one.starts,
        "highest_step": one.highest_step,
        "seconds": {phase.value: seconds for phase, seconds in one.seconds().items()},
    }


def _lost_rows(one: Account, kinds: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    if one.highest_step is None:
        return  # it tells no steps: nobody knows what is lost
    for name, cause in by_cause(one, kinds).items():
        interruptions = cause.interruptions
        for phase, seconds in cause.seconds.items():
            if seconds > 0 or interruptions:
                yield {
                    "job": one.job,
                    "phase": phase.value,
                    "cause": name,
                    "seconds": seconds,
                    "interruptions": interruptions,
                }
                interruptions = 0


def kinds_of(connection: Connection, made: Iterable[Account]) -> dict[str, str]:
    """Return the kind of each incident that an account names and the store still has."""
    ids = sorted({i.incident for one in made for i in one.lost if i.incident is not None})
    table = schema.incidents
    found: dict[str, str] = {}
    for part in chunks(ids):
        query = select(table.c.id, table.c.kind).where(table.c.id.in_(part))
        found.update((row.id, row.kind) for row in connection.execute(query))
    return found


def totals(connection: Connection, since: float, only: str | None = None) -> list[Total]:
    """Return the jobs that ended since a time, or only one of them."""
    table, lost = schema.job_totals, schema.lost_totals
    query = select(table).where(table.c.end_at >= since)
    if only is not None:
        query = query.where(table.c.job == only)
    rows = connection.execute(query).all()
    causes: defaultdict[str, dict[str, Cause]] = defaultdict(dict)
    for part in chunks(sorted(row.job for row in rows)):
        for row in connection.execute(select(lost).where(lost.c.job.in_(part))):
            cause = causes[row.job].setdefault(row.cause, Cause())
            cause.seconds[Phase(row.phase)] += row.seconds
            cause.interruptions += row.interruptions
    return [
        Total(
            job=row.job, vendor=row.vendor, began_at=row.began_at, end_at=row.end_at,
            starts=row.starts, highest_step=row.highest_step,
            seconds={phase: row.seconds.get(phase.value, 0.0) for phase in Phase},
            causes=causes[row.job],
        )
        for row in rows
    ]  # fmt: skip


def lost_so_far(connection: Connection, now: float) -> dict[tuple[str, str], float]:
    """Return the time that all jobs have ever lost, by phase and cause."""
    ledger, lost, incidents = schema.ledger, schema.lost_totals, schema.incidents
    spent = func.sum(func.coalesce(ledger.c.end_at, now) - ledger.c.start_at)
    running = (
        select(ledger.c.phase, ledger.c.incident.is_not(None), incidents.c.kind, spent)
        .outerjoin(incidents, incidents.c.id == ledger.c.incident)
        .where(ledger.c.phase.in_(LOST), ledger.c.job.not_in(select(schema.job_totals.c.job)))
        .group_by(ledger.c.phase, ledger.c.incident.is_not(None), incidents.c.kind)
    )
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for phase, has_incident, kind, seconds in connection.execute(running):
        cause = kind or (FORGOTTEN if has_incident else UNEXPLAINED)
        found[phase, cause] += max(0.0, seconds)
    ended = select(lost.c.phase, lost.c.cause, func.sum(lost.c.seconds))
    for phase, cause, seconds in connection.execute(ended.group_by(lost.c.phase, lost.c.cause)):
        found[phase, cause] += seconds
    return dict(found)
