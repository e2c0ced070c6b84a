"""Whether a restarted job moves again."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from chipmedic.recoverer import ENDED, StepKind
from chipmedic_watchdog.recover import book
from chipmedic_watchdog.recover.lineage import goes_on_as
from chipmedic_watchdog.store import schema


def jobs_still(connection: Connection, recovery: str) -> list[str]:
    """Return the restarted jobs that have not reported since; a job that never reports is not one.

    Nor is one that had ended by itself: waiting for it would keep the others from the next restart.

    A row of `job_progress` is written when step, phase or attempt change, so a row after the
    restart began that has a higher attempt, or any row after it ended, says that the job moves.
    """
    return [
        stored.step.target
        for stored in book.steps(connection, recovery)
        if stored.step.kind is StepKind.RESTART
        and stored.state == "done"
        and ENDED not in stored.undo
        and _stands_still(connection, stored)
    ]


def _stands_still(connection: Connection, stored: book.StoredStep) -> bool:
    table = schema.job_progress
    # A new start is a row before its first step is told.
    has_step = table.c.step.is_not(None)
    rows = (table.c.job == stored.step.target) & has_step
    begun = stored.started_at or 0.0
    ended = stored.done_at or begun
    before = connection.execute(
        select(func.max(table.c.attempt)).where(rows, table.c.at <= begun)
    ).scalar()
    if before is None:
        return False
    moved = (table.c.at > ended) | ((table.c.at > begun) & (table.c.attempt > before))
    if names := goes_on_as(stored.undo):
        rows, moved = table.c.job.in_(names) & has_step, table.c.at > begun
    return connection.execute(select(func.count()).where(rows, moved)).scalar_one() == 0
