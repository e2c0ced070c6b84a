"""What the ledger says to Prometheus: lost time by phase, and how effective running jobs are."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from chipmedic_watchdog.ledger.phases import LOST
from chipmedic_watchdog.ledger.summary import accounts
from chipmedic_watchdog.store import schema

SERIES_MAX = 200
"""Jobs with a series of their own: the ones that moved last. A scrape must stay cheap."""


def lost_seconds(connection: Connection, now: float) -> dict[str, float]:
    """Return the time that all jobs have lost so far, by phase; a phase without loss counts 0."""
    table = schema.ledger.c
    spent = func.sum(func.coalesce(table.end_at, now) - table.start_at)
    found = connection.execute(
        select(table.phase, spent).where(table.phase.in_(LOST)).group_by(table.phase)
    )
    return {phase.value: 0.0 for phase in LOST} | {row[0]: max(0.0, row[1]) for row in found}


def effective_ratios(connection: Connection, now: float) -> dict[str, float]:
    """Return the effective ratio of each running job that tells its steps."""
    nodes, progress = schema.job_nodes, schema.job_progress
    live = select(nodes.c.job).where(nodes.c.is_present.is_(True))
    jobs = connection.execute(
        select(progress.c.job)
        .where(progress.c.job.in_(live))
        .group_by(progress.c.job)
        .order_by(func.max(progress.c.at).desc())
        .limit(SERIES_MAX)
    ).scalars()
    return {
        one.job: one.effective_ratio
        for one in accounts(connection, list(jobs), now)
        if one.effective_ratio is not None and not one.is_over
    }
