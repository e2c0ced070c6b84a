"""What is remembered of jobs' progress, in the store: their nodes are on several watchdogs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select, text

from chipmedic_watchdog.intake.progress import Mark, Progress, Track
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows

# By name and not by row, for two watchdogs may hear of a new job at once; in one order everywhere,
# so that two never wait for each other.
_LOCK = text(
    "SELECT pg_advisory_xact_lock(key) FROM (SELECT DISTINCT hashtextextended(job, 0) AS key "
    "FROM unnest(CAST(:jobs AS text[])) AS job ORDER BY key OFFSET 0) AS keys"
)


def load_tracks(connection: Connection, jobs: Collection[str]) -> dict[str, Track]:
    """Return the tracks of these jobs; they are nobody else's until the end of the transaction."""
    if not jobs:
        return {}
    connection.execute(_LOCK, {"jobs": sorted(jobs)})
    table = schema.job_tracks
    rows = connection.execute(select(table.c.job, table.c.body).where(table.c.job.in_(jobs)))
    return {row.job: track_from_json(row.body) for row in rows}


def write_tracks(connection: Connection, tracks: Mapping[str, Track], at: float) -> None:
    """Write the tracks that a group has changed."""
    rows = [
        {"job": job, "body": asdict(track), "written_at": at}
        for job, track in sorted(tracks.items())
    ]
    write_rows(connection, schema.job_tracks, rows)


def track_from_json(body: Mapping[str, Any]) -> Track:
    """Return what `write_tracks` wrote."""
    return Track(
        start=_progress(body["start"]),
        kept=_progress(body["kept"]),
        newest=_progress(body["newest"]),
        written_at=body["written_at"],
        highest_before=body["highest_before"],
        pausing={node: (phase, step) for node, (phase, step) in body["pausing"].items()},
    )


def _progress(body: Mapping[str, Any]) -> Progress:
    return Progress(**{**body, "mark": Mark(body["mark"])})
