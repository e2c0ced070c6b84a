"""Where the time of all jobs went in a span of time: the sums by phase, by cause, by vendor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from chipmedic_watchdog.ledger.account import Account, account
from chipmedic_watchdog.ledger.record import load
from chipmedic_watchdog.ledger.sums import Cause, Whole, add_causes, by_cause
from chipmedic_watchdog.ledger.totals import Total, kinds_of, totals
from chipmedic_watchdog.ledger.vendors import vendors_of
from chipmedic_watchdog.ledger.window import cut
from chipmedic_watchdog.store import schema

PART_JOBS = 500
"""Accounts that are in memory at once."""


@dataclass(slots=True)
class Fleet:
    """The sums over all jobs that moved in a span of time."""

    whole: Whole = field(default_factory=Whole)
    """Of the jobs that tell their steps."""
    vendors: dict[str, Whole] = field(default_factory=dict)
    causes: dict[str, Cause] = field(default_factory=dict)
    jobs_without_steps: int = 0
    jobs_archived: int = 0
    """Of which only the sums are left; they count with their whole life."""

    def add(self, one: Account, vendor: str, kinds: dict[str, str]) -> None:
        """Count a job."""
        if one.highest_step is None:
            self.jobs_without_steps += 1
            return
        seconds = one.seconds()
        self.whole.add(seconds)
        self.vendors.setdefault(vendor, Whole()).add(seconds)
        add_causes(self.causes, by_cause(one, kinds))

    def add_total(self, one: Total) -> None:
        """Count a job that has ended."""
        if one.highest_step is None:
            self.jobs_without_steps += 1
            return
        self.whole.add(one.seconds)
        self.vendors.setdefault(one.vendor, Whole()).add(one.seconds)
        add_causes(self.causes, one.causes)


def moved_since(connection: Connection, since: float) -> list[str]:
    """Return the jobs that moved since a time and whose progress is still there, newest first."""
    table = schema.job_progress
    moved = func.max(table.c.at)
    query = (
        select(table.c.job)
        .group_by(table.c.job)
        .having(moved >= since)
        .order_by(moved.desc(), table.c.job)
    )
    return list(connection.execute(query).scalars())


def fleet(connection: Connection, since: float, now: float) -> Fleet:
    """Sum up the jobs that moved since a time.

    One whose sums are kept is not accounted for anew, unless only a part of it is in the span.
    """
    found = Fleet()
    present = moved_since(connection, since)
    has_progress = set(present)
    counted = set()
    for total in totals(connection, since):
        is_archived = total.job not in has_progress
        if is_archived or total.began_at >= since:
            found.add_total(total)
            counted.add(total.job)
            found.jobs_archived += is_archived
    for part in _parts([job for job in present if job not in counted]):
        made = accounts(connection, part, now)
        kinds, vendors = kinds_of(connection, made), vendors_of(connection, set(part))
        for one in made:
            if (inside := cut(one, since)) is not None:
                found.add(inside, vendors[one.job], kinds)
    return found


def accounts(connection: Connection, jobs: Sequence[str], now: float) -> list[Account]:
    """Return the account of each job that has one, in the order of the jobs."""
    histories = load(connection, jobs, now)
    made = (account(histories[job]) for job in jobs if job in histories)
    return [one for one in made if one is not None]


def _parts(jobs: Sequence[str]) -> Iterator[Sequence[str]]:
    return (jobs[start : start + PART_JOBS] for start in range(0, len(jobs), PART_JOBS))
