"""What is remembered of jobs' progress, in the store: their nodes are on several watchdogs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select, text

from chipmedic_watchdog.intake.progress import Mark, Progress, Track
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows


class SharedTracks(Mapping[str, Track]):
    """The tracks of the store; one that was looked at is nobody else's until the commit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seen: dict[str, Track | None] = {}

    def __getitem__(self, job: str) -> Track:
        if job not in self._seen:
            self._seen[job] = self._load(job)
        track = self._seen[job]
        if track is None:
            raise KeyError(job)
        return track

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def _load(self, job: str) -> Track | None:
        # A lock on the name, not on the row: two watchdogs may hear of a new job at once.
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:job, 0))")
        self._connection.execute(lock, {"job": job})
        table = schema.job_tracks
        body = self._connection.execute(select(table.c.body).where(table.c.job == job)).scalar()
        return None if body is None else track_from_json(body)


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
