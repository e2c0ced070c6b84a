"""The account of a job, or of all of them, as data for the interface, the demo and the report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from chipmedic_watchdog.ledger.account import Account
from chipmedic_watchdog.ledger.fleet import Fleet, accounts, fleet, moved_since
from chipmedic_watchdog.ledger.phases import Interval
from chipmedic_watchdog.ledger.sums import Cause, Whole, waits
from chipmedic_watchdog.ledger.totals import totals
from chipmedic_watchdog.ledger.vendors import vendors_of
from chipmedic_watchdog.ledger.window import cut
from chipmedic_watchdog.store import schema

JOBS_MAX = 1000
"""Jobs that a report lists one by one: the ones that moved last. The sums are over all."""


def summary(connection: Connection, job: str, now: float | None = None) -> dict[str, Any] | None:
    """Return where the time of a job went; None where it was never seen.

    `seconds` holds every phase and sums up to `wall_seconds` exactly. `losses` lists each wait with
    the steps that were made again for it. Times are UNIX seconds. `effective_ratio` is null where
    the job tells no steps.
    """
    found = accounts(connection, [job], time.time() if now is None else now)
    if not found:
        return _of_total(connection, job)
    vendor = vendors_of(connection, {job})[job]
    return of_job(found[0], vendor) | {"incidents": titles(connection, found)}


def report(connection: Connection, since: float, now: float | None = None) -> dict[str, Any]:
    """Return the accounts of the jobs that moved since then, and their sums; the newest first.

    Of a job that is older only what lies in the span is counted.
    """
    now = time.time() if now is None else now
    jobs = moved_since(connection, since)
    found = windowed(connection, jobs[:JOBS_MAX], since, now)
    vendors = vendors_of(connection, {one.job for one in found})
    sums = fleet(connection, since, now)
    return {
        "since": since,
        "until": now,
        "jobs": [of_job(one, vendors[one.job]) for one in found],
        "jobs_not_listed": len(jobs[JOBS_MAX:]) + sums.jobs_archived,
        **of_fleet(sums),
        "incidents": titles(connection, found),
    }


def windowed(connection: Connection, jobs: list[str], since: float, now: float) -> list[Account]:
    """Return of each job's account what lies after a time."""
    made = (cut(one, since) for one in accounts(connection, jobs, now))
    return [one for one in made if one is not None]


def of_fleet(sums: Fleet) -> dict[str, Any]:
    """Return the sums as data; the dearest cause and the largest vendor come first."""
    causes = sorted(sums.causes.items(), key=lambda pair: (-pair[1].lost_seconds, pair[0]))
    vendors = sorted(sums.vendors.items(), key=lambda pair: (-pair[1].wall_seconds, pair[0]))
    return {
        **_of_whole(sums.whole),
        "jobs_without_steps": sums.jobs_without_steps,
        "jobs_archived": sums.jobs_archived,
        "causes": [{"cause": name, **_of_cause(cause)} for name, cause in causes],
        "vendors": [
            {"vendor": name, "jobs": whole.jobs, **_of_whole(whole)} for name, whole in vendors
        ],
    }


def _of_whole(whole: Whole) -> dict[str, Any]:
    return {
        "wall_seconds": whole.wall_seconds,
        "lost_seconds": whole.lost_seconds,
        "effective_ratio": whole.effective_ratio,
        "seconds": _named(whole.seconds),
    }


def _of_cause(cause: Cause) -> dict[str, Any]:
    return {
        "interruptions": cause.interruptions,
        "lost_seconds": cause.lost_seconds,
        "seconds": _named(cause.seconds),
    }


def _named(seconds: Mapping[Any, float]) -> dict[str, float]:
    return {phase.value: spent for phase, spent in seconds.items()}


def of_job(one: Account, vendor: str) -> dict[str, Any]:
    """Return an account as data."""
    losses = [_of_wait(wait) for wait in waits(one.lost)]
    lost_seconds = sum(loss["seconds"] for loss in losses)
    return {
        "job": one.job,
        "vendor": vendor,
        "began_at": one.began_at,
        "end_at": one.end_at,
        "is_over": one.is_over,
        "is_archived": False,
        "wall_seconds": one.wall_seconds,
        "effective_ratio": one.effective_ratio,
        "lost_seconds": lost_seconds,
        "mean_lost_seconds": lost_seconds / len(losses) if losses else None,
        "starts": one.starts,
        "highest_step": one.highest_step,
        "seconds": _named(one.seconds()),
        "losses": losses,
    }


def _of_total(connection: Connection, job: str) -> dict[str, Any] | None:
    """Return what is left of a job whose progress was purged."""
    total = next((one for one in totals(connection, 0.0, only=job)), None)
    if total is None:
        return None
    whole = Whole()
    whole.add(total.seconds)
    interruptions = sum(cause.interruptions for cause in total.causes.values())
    lost_seconds = whole.lost_seconds if total.highest_step is not None else 0.0
    return {
        "job": job,
        "vendor": total.vendor,
        "began_at": total.began_at,
        "end_at": total.end_at,
        "is_over": True,
        "is_archived": True,
        "wall_seconds": whole.wall_seconds,
        "effective_ratio": None if total.highest_step is None else whole.effective_ratio,
        "lost_seconds": lost_seconds,
        "mean_lost_seconds": lost_seconds / interruptions if interruptions else None,
        "starts": total.starts,
        "highest_step": total.highest_step,
        "seconds": _named(total.seconds),
        "losses": [],
        "incidents": {},
    }


def _of_wait(stages: tuple[Interval, ...]) -> dict[str, Any]:
    first, end = stages[0], stages[-1]
    return {
        "incident": first.incident,
        "start_at": first.start_at,
        "end_at": None if end.is_open else end.end_at,
        "seconds": end.end_at - first.start_at,
        "stages": [_of_interval(stage) for stage in stages],
    }


def _of_interval(interval: Interval) -> dict[str, Any]:
    return {
        "phase": interval.phase.value,
        "start_at": interval.start_at,
        "end_at": None if interval.is_open else interval.end_at,
        "seconds": interval.seconds,
        "detail": interval.detail,
    }


def titles(connection: Connection, found: Iterable[Account]) -> dict[str, dict[str, Any]]:
    """Return what each incident is, for whoever reads the losses."""
    ids = sorted({i.incident for one in found for i in one.lost if i.incident is not None})
    table = schema.incidents
    rows = connection.execute(
        select(table.c.id, table.c.kind, table.c.title).where(table.c.id.in_(ids[:5_000]))
    )
    return {row.id: {"kind": row.kind, "title": row.title} for row in rows}
