"""What heartbeats say: proof of work, jobs and their progress; gathered, then written at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from chipmedic.model import JobStatus
from chipmedic_watchdog.intake.message import ReceivedHeartbeat
from chipmedic_watchdog.intake.progress import Mark, Progress, Sighting, Track, advance, resume
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows


class Reports:
    """The heartbeats of one group; of several from one node the last one counts."""

    def __init__(self, connection: Connection, known: Mapping[str, Track]) -> None:
        self._connection = connection
        self._known = known
        self._coverage: dict[tuple[str, str], dict[str, Any]] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self._present: dict[str, frozenset[str]] = {}
        self.tracks: dict[str, Track] = {}
        """How far each job of this group has come."""
        self._rows: dict[tuple[str, float], Progress | None] = {}
        """Rows of progress by job and time; None: to be removed."""

    def beat(self, node: str, beat: ReceivedHeartbeat, at: float) -> None:
        """Take one heartbeat."""
        self._nodes[node] = {
            "of_node": node,
            "last_seen_at": at,
            "skew_seconds": beat.at - at,
            "backlog_events": beat.backlog_events,
            "is_spool_failing": beat.is_spool_failing,
        }
        self.work(node, beat, at)

    def work(self, node: str, beat: ReceivedHeartbeat, at: float) -> None:
        """Take the part that a snapshot says as well: coverage and jobs."""
        for coverage in beat.coverage:
            self._coverage[node, coverage.check] = {
                "node": node,
                "check": coverage.check,
                "node_at": coverage.at,
                "received_at": at,
                "verdict": coverage.verdict.value,
                "detail": coverage.detail,
            }
        for job in beat.jobs:
            self._jobs[job.job, node] = _job_row(node, job, at)
            seen = Sighting(node=node, status=job, heard_at=at, skew_seconds=beat.at - at)
            self._advance(job.job, seen)
        if beat.job_names is not None:
            self._present[node] = beat.job_names

    def write(self) -> None:
        """Write all of it."""
        write_rows(self._connection, schema.coverage, list(self._coverage.values()))
        write_rows(self._connection, schema.job_nodes, list(self._jobs.values()))
        self._write_nodes()
        self._write_absent_jobs()
        self._write_progress()

    @property
    def has_progress(self) -> bool:
        """Say whether rows of progress change."""
        return bool(self._rows)

    def _advance(self, job: str, seen: Sighting) -> None:
        news = advance(self._track(job), seen)
        if news is None:
            return
        self.tracks[job], rows = news
        self._rows |= {(job, at): None for at in rows.removed}
        self._rows |= {(job, row.at): row for row in rows.written}

    def _track(self, job: str) -> Track | None:
        known = self.tracks.get(job) or self._known.get(job)
        if known is not None:
            return known
        table = schema.job_progress
        row = self._connection.execute(
            select(table).where(table.c.job == job).order_by(table.c.at.desc()).limit(1)
        ).first()
        if row is None:
            return None
        highest = select(func.max(table.c.step)).where(table.c.job == job)
        known_highest = self._connection.execute(highest).scalar()
        last = Progress(
            at=row.at,
            step=row.step,
            checkpoint_step=row.checkpoint_step,
            attempt=row.attempt,
            phase=row.phase,
            checkpoint_seconds=row.checkpoint_seconds,
            other_seconds=row.other_seconds,
            mark=Mark(row.mark),
        )
        return resume(last, -1 if known_highest is None else known_highest)

    def _write_progress(self) -> None:
        table = schema.job_progress
        gone = [{"of_job": job, "of_at": at} for (job, at), row in self._rows.items() if not row]
        if gone:
            statement = delete(table).where(
                table.c.job == bindparam("of_job"), table.c.at == bindparam("of_at")
            )
            self._connection.execute(statement, gone)
        rows = [
            {"job": job, **asdict(row), "mark": row.mark.value}
            for (job, _), row in self._rows.items()
            if row
        ]
        write_rows(self._connection, table, rows)

    def _write_nodes(self) -> None:
        if not self._nodes:
            return
        table = schema.nodes
        columns = ("last_seen_at", "skew_seconds", "backlog_events", "is_spool_failing")
        statement = (
            update(table)
            .where(table.c.node == bindparam("of_node"))
            .values({name: bindparam(name) for name in columns})
        )
        self._connection.execute(statement, list(self._nodes.values()))

    def _write_absent_jobs(self) -> None:
        if not self._present:
            return
        table = schema.job_nodes
        present = select(table.c.job, table.c.node).where(
            table.c.node.in_(sorted(self._present)), table.c.is_present.is_(True)
        )
        gone = [
            {"of_job": row.job, "of_node": row.node}
            for row in self._connection.execute(present)
            if row.job not in self._present[row.node]
        ]
        if gone:
            which = (table.c.job == bindparam("of_job"), table.c.node == bindparam("of_node"))
            self._connection.execute(update(table).where(*which).values(is_present=False), gone)


def _job_row(node: str, job: JobStatus, at: float) -> dict[str, Any]:
    return {
        "job": job.job,
        "node": node,
        "node_at": job.at,
        "received_at": at,
        "chips": job.chips,
        "pids": job.pids,
        "ranks": job.ranks,
        "step": job.step,
        "step_at": job.step_at,
        "phase": job.phase,
        "checkpoint_step": job.checkpoint_step,
        "attempt": job.attempt,
        "user": job.user,
        "name": job.name,
        "labels": job.labels,
        "is_present": True,
    }
