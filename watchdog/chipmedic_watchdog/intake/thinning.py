"""Heartbeats without what the store knows already.

Ten thousand agents repeat the same verdicts every few seconds. A row is written when it says
something new, and often enough besides that its age tells whether the check still runs.
"""

from __future__ import annotations

from dataclasses import replace

from chipmedic.model import Coverage, JobStatus
from chipmedic_watchdog.intake.message import ReceivedHeartbeat

REWRITE_SECONDS = 20.0


class Thinning:
    """What one agent's heartbeats have said so far."""

    def __init__(self) -> None:
        self._coverage: dict[str, tuple[str, str, float]] = {}
        self._jobs: dict[str, tuple[JobStatus, float]] = {}
        self._names: frozenset[str] | None = None
        self._state: tuple[int, bool] | None = None
        self._written_at = 0.0

    def __call__(self, beat: ReceivedHeartbeat, at: float) -> ReceivedHeartbeat | None:
        """Return the part that is to be written; None: it says nothing new at all."""
        names = beat.job_names if beat.job_names != self._names else None
        if beat.job_names is not None:
            self._names = beat.job_names
            self._jobs = {k: v for k, v in self._jobs.items() if k in beat.job_names}
        coverage = tuple(c for c in beat.coverage if self._is_verdict_news(c, at))
        jobs = tuple(job for job in beat.jobs if self._is_job_news(job, at))
        state = (beat.backlog_events, beat.is_spool_failing)
        is_same = state == self._state and _is_fresh(self._written_at, at)
        if is_same and not (coverage or jobs) and names is None:
            return None
        self._state, self._written_at = state, at
        return replace(beat, coverage=coverage, jobs=jobs, job_names=names)

    def _is_verdict_news(self, coverage: Coverage, at: float) -> bool:
        verdict, detail, written_at = self._coverage.get(coverage.check, ("", "", 0.0))
        if (verdict, detail) == (coverage.verdict, coverage.detail) and _is_fresh(written_at, at):
            return False
        self._coverage[coverage.check] = (coverage.verdict, coverage.detail, at)
        return True

    def _is_job_news(self, job: JobStatus, at: float) -> bool:
        bare = replace(job, at=0.0)
        known, written_at = self._jobs.get(job.job, (None, 0.0))
        if bare == known and _is_fresh(written_at, at):
            return False
        self._jobs[job.job] = (bare, at)
        return True


def _is_fresh(written_at: float, at: float) -> bool:
    return 0 <= at - written_at < REWRITE_SECONDS
