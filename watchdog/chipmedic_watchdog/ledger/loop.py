"""Keeps the table `ledger` true: each lost interval of each job, and the incident it is due to.

Accounts are made anew from the history, which has few rows per job; only what differs is written,
so that a row keeps its id from the moment its loss begins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from chipmedic.errors import StoreError
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.ledger.account import QUIET_SECONDS, Account
from chipmedic_watchdog.ledger.fleet import accounts
from chipmedic_watchdog.ledger.phases import Phase
from chipmedic_watchdog.ledger.totals import forget, revived, settle, unsettled
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
SPACING_SECONDS = 1.0
"""Progress rings with every commit; more often than this nobody looks at a ledger."""
SETTLE_SECONDS = 60.0
"""Between two looks for jobs that have ended."""

Row = dict[str, Any]
Fingerprint = tuple[int, float | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """What the table lacks of a job's account."""

    removed: tuple[int, ...]
    changed: tuple[Row, ...]
    added: tuple[Row, ...]

    def __bool__(self) -> bool:
        return bool(self.removed or self.changed or self.added)


class LedgerLoop:
    """Writes the ledger until it is cancelled."""

    def __init__(self, database: Store, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        self._bell = Bell()
        self._known: dict[str, Fingerprint] = {}
        """The rows of each job as they were when it was last accounted for."""
        self._looked_at = 0.0
        self._trouble = ""

    def wake(self) -> None:
        """Look now: something changed."""
        self._bell.ring()

    async def run(self) -> None:
        """Work until cancelled."""
        settled_at = 0.0
        while True:
            try:
                await self.look()
                if self._now() >= settled_at + SETTLE_SECONDS:
                    settled_at = self._now()
                    await self.settle()
                self._trouble = ""
            except StoreError as e:
                if str(e) != self._trouble:
                    log.warning("the ledger waits for the store: why=%s", e)
                self._trouble = str(e)
            await asyncio.sleep(SPACING_SECONDS)
            await self._bell.wait(POLL_SECONDS)

    async def settle(self) -> None:
        """Keep the sums of jobs that have ended; forget those of jobs that run again."""
        now = self._now()

        def read(connection: Connection) -> tuple[list[str], list[str]]:
            return unsettled(connection, now), revived(connection, now)

        ended, running = await self._database.read(read)
        if running:
            await self._database.write(lambda connection: forget(connection, running))
        if ended:
            await self._database.write(lambda connection: settle(connection, ended, now))

    async def look(self) -> None:
        """Account for the jobs whose account can have changed."""
        now = self._now()

        def read(connection: Connection) -> tuple[dict[str, Fingerprint], list[Difference]]:
            live = _fingerprints(connection)
            jobs = self._changed(live) | _hurt(connection, now, self._looked_at)
            made = accounts(connection, sorted(jobs & live.keys()), now)
            return live, [d for one in made if (d := _difference(connection, one))]

        live, differences = await self._database.read(read)
        if differences:
            await self._database.write(lambda connection: _write(connection, differences))
        self._known, self._looked_at = live, now

    def _changed(self, live: dict[str, Fingerprint]) -> set[str]:
        return {job for job, fingerprint in live.items() if self._known.get(job) != fingerprint}


def _fingerprints(connection: Connection) -> dict[str, Fingerprint]:
    """Return of each job that a node reports, or that a loss is open of, what its rows are."""
    table, nodes, ledger = schema.job_progress, schema.job_nodes, schema.ledger
    live = select(nodes.c.job).where(nodes.c.is_present.is_(True))
    open_ = select(ledger.c.job).where(ledger.c.end_at.is_(None))
    marked_at = func.max(table.c.at).filter(table.c.mark != "")
    query = (
        select(table.c.job, func.count(), marked_at)
        .where(table.c.job.in_(live.union(open_)))
        .group_by(table.c.job)
    )
    return {job: (count, at) for job, count, at in connection.execute(query)}


def _hurt(connection: Connection, now: float, looked_at: float) -> set[str]:
    """Return the jobs that lose time now, stand still, or are named by what changed lately."""
    ledger, progress, incidents = schema.ledger, schema.job_progress, schema.incidents
    steps, recoveries = schema.recovery_steps, schema.recoveries
    jobs = set(connection.execute(select(ledger.c.job).where(ledger.c.end_at.is_(None))).scalars())
    quiet = (
        select(progress.c.job)
        .group_by(progress.c.job)
        .having(func.max(progress.c.at) < now - QUIET_SECONDS)
    )
    live = select(schema.job_nodes.c.job).where(schema.job_nodes.c.is_present.is_(True))
    jobs.update(connection.execute(quiet.where(progress.c.job.in_(live))).scalars())
    is_changed = (incidents.c.updated_at >= looked_at) | (incidents.c.state != "resolved")
    for named in connection.execute(select(incidents.c.jobs).where(is_changed)).scalars():
        jobs.update(named)
    restarted = (
        select(steps.c.target)
        .join(recoveries, recoveries.c.id == steps.c.recovery)
        .where(steps.c.kind == "restart", recoveries.c.updated_at >= looked_at)
    )
    jobs.update(connection.execute(restarted).scalars())
    return jobs


def _rows_of(one: Account) -> list[Row]:
    if one.highest_step is None:
        return []  # it tells no steps: nobody knows what is lost
    start = [i for i in one.intervals if i.phase is Phase.START]
    return [
        {
            "job": one.job,
            "phase": interval.phase.value,
            "start_at": interval.start_at,
            "end_at": None if interval.is_open else interval.end_at,
            "incident": interval.incident,
            "detail": interval.detail,
        }
        for interval in (*start, *one.lost)
    ]


def _difference(connection: Connection, one: Account) -> Difference:
    """Compare an account with the table; a stage is the same while its phase and start are."""
    table = schema.ledger
    rows = connection.execute(select(table).where(table.c.job == one.job).order_by(table.c.id))
    present = {(row["phase"], row["start_at"]): dict(row) for row in rows.mappings()}
    changed, added = [], []
    for row in _rows_of(one):
        known = present.pop((row["phase"], row["start_at"]), None)
        if known is None:
            added.append(row)
        elif any(known[name] != value for name, value in row.items()):
            changed.append({"id": known["id"], **row})
    return Difference(tuple(row["id"] for row in present.values()), tuple(changed), tuple(added))


def _write(connection: Connection, differences: list[Difference]) -> None:
    table = schema.ledger
    for difference in differences:
        if difference.removed:
            connection.execute(delete(table).where(table.c.id.in_(difference.removed)))
        for row in difference.changed:
            connection.execute(update(table).where(table.c.id == row["id"]).values(row))
        if difference.added:
            connection.execute(insert(table), list(difference.added))
