"""Keeps the store bounded: what is old goes in small batches between the writes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy import Connection, bindparam, delete, exists, func, select

from chipmedic.errors import StoreError
from chipmedic_watchdog.ledger.totals import archive
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store

log = logging.getLogger(__name__)

PERIOD_SECONDS = 600.0
PAUSE_SECONDS = 0.5
"""Between two batches, so that no commit of events waits long."""
BATCH_ROWS = 2_000
BATCH_JOBS = 200
"""Jobs of one batch; each has a few rows of progress."""
BATCH_INCIDENTS = 200
ENDED_RECOVERIES = ("done", "failed", "not_taken", "stopped")
DAY_SECONDS = 86_400.0

Batch = Callable[[Connection, float], int]
"""Deletes one batch of what is older; `BATCH_ROWS` and more: there is another one."""


class Retention:
    """Deletes what is older than the configured ages; what is open or under way stays."""

    def __init__(
        self,
        database: Store,
        keep_days: float,
        keep_incidents_days: float = 0.0,
        keep_jobs_days: float = 0.0,
    ) -> None:
        self._database = database
        purges = (
            (keep_days, purge_batch),
            (keep_jobs_days, purge_jobs),  # before the incidents, which are the causes of losses
            (keep_incidents_days, purge_incidents),
        )
        self._purges = [(days * DAY_SECONDS, purge) for days, purge in purges if days > 0]

    async def run(self) -> None:
        """Purge now and then until cancelled."""
        while self._purges:
            try:
                for keep_seconds, purge in self._purges:
                    await self.purge(time.time() - keep_seconds, purge)
            except StoreError as e:
                log.warning("purge put off: why=%s", e)
            await asyncio.sleep(PERIOD_SECONDS)

    async def purge(self, before: float, batch: Batch | None = None) -> int:
        """Delete everything older, batch by batch; returns about how many rows."""
        work = batch or purge_batch
        total = 0
        while True:
            count = await self._database.write(lambda connection: work(connection, before))
            total += count
            if count < BATCH_ROWS:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        if total:
            log.info("purged: rows=%d", total)
        return total


def purge_batch(connection: Connection, before: float) -> int:
    """Delete one batch of old events, and of where jobs ran."""
    events = schema.events
    keys = connection.execute(
        select(events.c.node, events.c.epoch, events.c.seq)
        .where(events.c.received_at < before)
        .limit(BATCH_ROWS)
    ).all()
    for node, epoch in {(key.node, key.epoch) for key in keys}:
        seqs = [key.seq for key in keys if (key.node, key.epoch) == (node, epoch)]
        connection.execute(
            delete(events).where(
                events.c.node == node, events.c.epoch == epoch, events.c.seq.in_(seqs)
            )
        )
    return max(len(keys), _purge_placements(connection, before))


def purge_jobs(connection: Connection, before: float) -> int:
    """Delete progress and ledger of one batch of jobs that ended so long ago; their sums stay.

    Of a job that still runs, the oldest row is where its account begins.
    """
    progress, ledger = schema.job_progress, schema.ledger
    ended = (
        select(progress.c.job)
        .group_by(progress.c.job)
        .having(func.max(progress.c.at) < before)
        .limit(BATCH_JOBS)
    )
    jobs = list(connection.execute(ended).scalars())
    archive(connection, jobs, before)
    for table in (progress, schema.job_tracks):
        connection.execute(delete(table).where(table.c.job.in_(jobs)))
    # Before there were sums, the progress went and the losses stayed.
    alone = select(ledger.c.id).where(
        ledger.c.end_at < before, ledger.c.job.not_in(select(progress.c.job))
    )
    ids = list(connection.execute(alone.limit(BATCH_ROWS)).scalars())
    connection.execute(delete(ledger).where(ledger.c.id.in_(ids)))
    return max(len(jobs) * BATCH_ROWS // BATCH_JOBS, len(ids))


def _purge_placements(connection: Connection, before: float) -> int:
    """Delete where jobs ran that no node has reported since; a job that runs is reported anew."""
    table = schema.job_nodes
    keys = connection.execute(
        select(table.c.job, table.c.node).where(table.c.received_at < before).limit(BATCH_ROWS)
    ).all()
    if keys:
        key = (table.c.job == bindparam("of_job")) & (table.c.node == bindparam("of_node"))
        rows = [{"of_job": row.job, "of_node": row.node} for row in keys]
        connection.execute(delete(table).where(key), rows)
    return len(keys)


def purge_incidents(connection: Connection, before: float) -> int:
    """Delete one batch of incidents that ended so long ago, and all that belongs to them.

    One stays whose fault is still there or cannot be seen, that has a recovery under way, or for
    which a node is still out of service. The sums of the ledger and the audit keep what they say.
    """
    incidents, faults = schema.incidents.c, schema.faults.c
    isolations, recoveries = schema.isolations.c, schema.recoveries.c
    busy = (
        select(faults.incident).where(faults.incident == incidents.id, faults.state != "cleared"),
        select(isolations.id).where(
            isolations.incident == incidents.id, isolations.returned_at.is_(None)
        ),
        select(recoveries.id).where(
            recoveries.incident == incidents.id, recoveries.state.not_in(ENDED_RECOVERIES)
        ),
    )
    query = (
        select(incidents.id)
        .where(incidents.state == "resolved", incidents.resolved_at < before)
        .where(*(~exists(blocker) for blocker in busy))
        .order_by(incidents.id)
        .limit(BATCH_INCIDENTS)
    )
    found = list(connection.execute(query).scalars())
    count = _delete_incidents(connection, found) if found else 0
    old = select(faults.id).where(faults.state == "cleared", faults.incident.is_(None))
    alone = list(
        connection.execute(old.where(faults.cleared_at < before).limit(BATCH_ROWS)).scalars()
    )
    if alone:
        connection.execute(delete(schema.faults).where(faults.id.in_(alone)))
    notices, silences = schema.notices.c, schema.silences.c
    others = [  # digests and tests are of no incident
        delete(schema.notices).where(notices.incident == "", notices.created_at < before),
        delete(schema.silences).where(silences.ends_at < before),
    ]
    count += sum(connection.execute(statement).rowcount for statement in others)
    is_full = len(found) == BATCH_INCIDENTS or len(alone) == BATCH_ROWS
    return max(count + len(alone), BATCH_ROWS if is_full else 0)


def _delete_incidents(connection: Connection, found: list[str]) -> int:
    """Delete incidents with all of their rows; returns how many rows."""
    recoveries = schema.recoveries.c
    names = list(
        connection.execute(select(recoveries.id).where(recoveries.incident.in_(found))).scalars()
    )
    steps = schema.recovery_steps
    count = connection.execute(delete(steps).where(steps.c.recovery.in_(names))).rowcount
    for table in (
        schema.recoveries, schema.isolations, schema.notices, schema.notice_marks,
        schema.notice_holds, schema.faults,
    ):  # fmt: skip
        count += connection.execute(delete(table).where(table.c.incident.in_(found))).rowcount
    connection.execute(delete(schema.incidents).where(schema.incidents.c.id.in_(found)))
    return count + len(found)
