"""Keeps the store bounded: old events and ended jobs go in small batches between the writes."""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy import Connection, bindparam, delete, func, select

from chipmedic.errors import StoreError
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store

log = logging.getLogger(__name__)

PERIOD_SECONDS = 600.0
PAUSE_SECONDS = 0.5
"""Between two batches, so that no commit of events waits long."""
BATCH_ROWS = 2_000
BATCH_JOBS = 200
"""Jobs of one batch; each has a few rows of progress."""
DAY_SECONDS = 86_400.0


class Retention:
    """Deletes what is older than the configured age; faults and incidents stay."""

    def __init__(self, database: Store, keep_days: float) -> None:
        self._database = database
        self._keep_days = keep_days

    async def run(self) -> None:
        """Purge now and then until cancelled."""
        while self._keep_days > 0:
            try:
                await self.purge(time.time() - self._keep_days * DAY_SECONDS)
            except StoreError as e:
                log.warning("purge put off: why=%s", e)
            await asyncio.sleep(PERIOD_SECONDS)

    async def purge(self, before: float) -> int:
        """Delete everything older; returns about how many rows."""
        total = 0
        while True:
            count = await self._database.write(lambda connection: purge_batch(connection, before))
            total += count
            if count < BATCH_ROWS:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        if total:
            log.info("purged: rows=%d", total)
        return total


def purge_batch(connection: Connection, before: float) -> int:
    """Delete one batch of old events, and what is known of jobs that ended so long ago."""
    events, progress = schema.events, schema.job_progress
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
    # Of a job that still runs, the oldest row is where its account begins.
    ended = (
        select(progress.c.job)
        .group_by(progress.c.job)
        .having(func.max(progress.c.at) < before)
        .limit(BATCH_JOBS)
    )
    jobs = list(connection.execute(ended).scalars())
    if jobs:
        connection.execute(delete(progress).where(progress.c.job.in_(jobs)))
    return max(
        len(keys), len(jobs) * BATCH_ROWS // BATCH_JOBS, _purge_placements(connection, before)
    )


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
