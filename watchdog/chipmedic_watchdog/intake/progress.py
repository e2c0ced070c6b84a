"""Which reports of a job are news: pure."""

from __future__ import annotations

from dataclasses import dataclass

from chipmedic.model import JobStatus

STEP_SPACING_SECONDS = 1.0
"""Steps alone are kept at most this often; a new attempt, phase or checkpoint at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job had come at a moment: the furthest of its nodes."""

    at: float
    step: int
    checkpoint_step: int | None
    attempt: int
    phase: str | None


def advance(last: Progress | None, status: JobStatus, at: float) -> Progress | None:
    """Return what is to be kept of a report, or None where it says nothing new.

    A job that reports no step is not at step 0: nothing is kept of it. A node that lags behind the
    others, or still reports the attempt before, changes nothing.
    """
    if status.step is None:
        return None
    now = Progress(
        at=at,
        step=status.step,
        checkpoint_step=status.checkpoint_step,
        attempt=status.attempt,
        phase=status.phase,
    )
    if last is None or status.attempt > last.attempt:
        return now
    if status.attempt < last.attempt or status.step < last.step:
        return None
    has_checkpoint = (status.checkpoint_step or -1) > (last.checkpoint_step or -1)
    if has_checkpoint or (status.phase is not None and status.phase != last.phase):
        return _furthest(now, last)
    if status.step > last.step and at - last.at >= STEP_SPACING_SECONDS:
        return _furthest(now, last)
    return None


def _furthest(now: Progress, last: Progress) -> Progress:
    steps = [s for s in (now.checkpoint_step, last.checkpoint_step) if s is not None]
    return Progress(
        at=now.at,
        step=now.step,
        checkpoint_step=max(steps) if steps else None,
        attempt=now.attempt,
        phase=now.phase or last.phase,
    )
