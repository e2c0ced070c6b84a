"""The account of a job, or of all of them, as data for the interface, the demo and the report."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, select

from chipmedic_watchdog.ledger.account import Account, account
from chipmedic_watchdog.ledger.phases import Interval, Phase
from chipmedic_watchdog.ledger.record import load
from chipmedic_watchdog.store import schema

JOBS_MAX = 1000
"""Jobs of one report: the ones that moved last."""


def summary(connection: Connection, job: str, now: float | None = None) -> dict[str, Any] | None:
    """Return where the time of a job went; None where it was never seen.

    `seconds` holds every phase and sums up to `wall_seconds` exactly. `losses` lists each wait with
    the steps that were made again for it. Times are UNIX seconds. `effective_ratio` is null where
    the job tells no steps.
    """
    found = accounts(connection, [job], time.time() if now is None else now)
    return _of_job(found[0]) | _titles(connection, found) if found else None


def report(connection: Connection, since: float, now: float | None = None) -> dict[str, Any]:
    """Return the accounts of the jobs that moved since then, and their sum; the newest first.

    A job that is older counts with its whole life.
    """
    table = schema.job_progress
    moved = func.max(table.c.at)
    query = (
        select(table.c.job)
        .group_by(table.c.job)
        .having(moved >= since)
        .order_by(moved.desc())
        .limit(JOBS_MAX)
    )
    jobs = list(connection.execute(query).scalars())
    found = accounts(connection, jobs, time.time() if now is None else now)
    known = [one for one in found if one.effective_ratio is not None]
    wall_seconds = math.fsum(one.wall_seconds for one in known)
    spent = {p.value: math.fsum(one.seconds()[p] for one in known) for p in Phase}
    return {
        "since": since,
        "jobs": [_of_job(one) for one in found],
        "wall_seconds": wall_seconds,
        "seconds": spent,
        "effective_ratio": spent["productive"] / wall_seconds if wall_seconds else None,
        "jobs_without_steps": len(found) - len(known),
        **_titles(connection, found),
    }


def accounts(connection: Connection, jobs: Collection[str], now: float) -> list[Account]:
    """Return the account of each job that has one, in the order of the jobs."""
    histories = load(connection, jobs, now)
    made = (account(histories[job]) for job in jobs if job in histories)
    return [one for one in made if one is not None]


def _of_job(one: Account) -> dict[str, Any]:
    losses = list(_losses(one.lost))
    lost_seconds = sum(loss["seconds"] for loss in losses)
    return {
        "job": one.job,
        "began_at": one.began_at,
        "end_at": one.end_at,
        "is_over": one.is_over,
        "wall_seconds": one.wall_seconds,
        "effective_ratio": one.effective_ratio,
        "lost_seconds": lost_seconds,
        "mean_lost_seconds": lost_seconds / len(losses) if losses else None,
        "starts": one.starts,
        "highest_step": one.highest_step,
        "seconds": {phase.value: seconds for phase, seconds in one.seconds().items()},
        "losses": losses,
    }


def _losses(lost: Iterable[Interval]) -> Iterable[dict[str, Any]]:
    """Yield each wait with its stages: neighbours that belong to one incident."""
    number, last = 0, None
    numbered = []
    for interval in lost:
        if last is not None and _begins_anew(last, interval):
            number += 1
        numbered.append((number, interval))
        last = interval
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        stages = [interval for _, interval in group]
        first, end = stages[0], stages[-1]
        yield {
            "incident": first.incident,
            "start_at": first.start_at,
            "end_at": None if end.is_open else end.end_at,
            "seconds": end.end_at - first.start_at,
            "stages": [_of_interval(stage) for stage in stages],
        }


def _begins_anew(before: Interval, after: Interval) -> bool:
    return (
        after.start_at != before.end_at
        or after.incident != before.incident
        or before.phase is Phase.RECOMPUTE
        or after.phase is Phase.DETECT
    )


def _of_interval(interval: Interval) -> dict[str, Any]:
    return {
        "phase": interval.phase.value,
        "start_at": interval.start_at,
        "end_at": None if interval.is_open else interval.end_at,
        "seconds": interval.seconds,
        "detail": interval.detail,
    }


def _titles(connection: Connection, found: Iterable[Account]) -> dict[str, dict[str, Any]]:
    """Return what each incident is, for whoever reads the losses."""
    ids = sorted({i.incident for one in found for i in one.lost if i.incident is not None})
    table = schema.incidents
    rows = connection.execute(
        select(table.c.id, table.c.kind, table.c.title).where(table.c.id.in_(ids[:5_000]))
    )
    return {"incidents": {row.id: {"kind": row.kind, "title": row.title} for row in rows}}
