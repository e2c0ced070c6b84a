"""What heartbeats say: proof of work, jobs and their progress; gathered, then written at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from chipmedic.model import JobStatus
from chipmedic_watchdog.intake.message import ReceivedHeartbeat
from chipmedic_watchdog.intake.progress import Progress, advance
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows


class Reports:
    """The heartbeats of one group; of several from one node the last one counts."""

    def __init__(self, connection: Connection, known: Mapping[str, Progress]) -> None:
        self._connection = connection
        self._known = known
        self._coverage: dict[tuple[str, str], dict[str, Any]] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self._present: dict[str, frozenset[str]] = {}
        self.progress: dict[str, Progress] = {}
        """The news of this group, by job."""

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
            news = advance(self._last(job.job), job, at)
            if news is not None:
                self.progress[job.job] = news
        if beat.job_names is not None:
            self._present[node] = beat.job_names

    def write(self) -> None:
        """Write all of it."""
        write_rows(self._connection, schema.coverage, list(self._coverage.values()))
        write_rows(self._connection, schema.job_nodes, list(self._jobs.values()))
        self._write_nodes()
        self._write_absent_jobs()
        rows = [
            {
                "job": job,
                "at": news.at,
                "step": news.step,
                "checkpoint_step": news.checkpoint_step,
                "attempt": news.attempt,
                "phase": news.phase,
            }
            for job, news in self.progress.items()
        ]
        write_rows(self._connection, schema.job_progress, rows)

    def _last(self, job: str) -> Progress | None:
        last = self.progress.get(job) or self._known.get(job)
        if last is not None:
            return last
        table = schema.job_progress
        row = self._connection.execute(
            select(table).where(table.c.job == job).order_by(table.c.at.desc()).limit(1)
        ).first()
        if row is None:
            return None
        return Progress(
            at=row.at,
            step=row.step,
            checkpoint_step=row.checkpoint_step,
            attempt=row.attempt,
            phase=row.phase,
        )

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
        table = schema.job_nodes
        for node, names in self._present.items():
            self._connection.execute(
                update(table)
                .where(
                    table.c.node == node, table.c.is_present.is_(True), table.c.job.not_in(names)
                )
                .values(is_present=False)
            )


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
