"""How far a job has come, in as few rows as tell it: pure.

A job that steps steadily is two rows however long it runs: where its stretch began and how far it
is now; the second moves along. A row stays for good where something happened (`Mark`). Pauses that
the job names (checkpoint, evaluation) are summed up in the rows, so that a stretch runs through
them. So the rows of a job grow with its troubles and not with its steps, and the ledger loses
nothing: every moment at which the job did not step as usual is a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from chipmedic.model import JobStatus

STEP_SPACING_SECONDS = 1.0
"""Steps alone are written at most this often; a new start, phase or checkpoint at once."""
STALL_SECONDS = 5.0
"""A wait is a stall when it is longer than usual by this, and longer than twice the usual."""
LONG_PAUSE_SECONDS = 600.0
"""A longer pause keeps its two rows."""
FRESH_SECONDS = 5.0
"""Node clocks are known no better than this; a step back counts when it is later by more."""
PAUSE_STEPS = 2
"""A node's pause is over when the job has stepped further than this since."""
TICK_SECONDS = 0.001
STEPPING = frozenset({"train", "training", "step"})
DONE = frozenset({"done", "finished", "completed", "stopped"})
_SAVING = ("checkpoint", "ckpt", "save", "saving")


class Mark(StrEnum):
    """Why a row of progress begins something."""

    NONE = ""
    """It goes on as in the row before."""
    START = "start"
    """A start of the job; its step may be untold yet."""
    STALL = "stall"
    """The first step after a wait that was far too long."""
    PAUSE = "pause"
    """A long pause ended."""
    OVERTAKE = "overtake"
    """The first row beyond the highest step of earlier starts."""


class Pause(StrEnum):
    """What a job does that names a phase in which no steps are due."""

    CHECKPOINT = "checkpoint"
    OTHER = "other"


def pause_of(phase: str | None) -> Pause | None:
    """Return which pause a phase is; None while steps are due, and at the end."""
    if phase is None or phase in STEPPING or phase in DONE:
        return None
    return Pause.CHECKPOINT if phase.startswith(_SAVING) else Pause.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job had come at a moment: the furthest of its nodes."""

    at: float
    """When the step was made, or the phase was heard of; the watchdog's clock."""
    step: int | None
    """None: not told yet by this start."""
    checkpoint_step: int | None
    attempt: int
    phase: str | None
    checkpoint_seconds: float = 0.0
    """Spent in checkpoints up to here, over the job's whole life."""
    other_seconds: float = 0.0
    """The same for the other pauses."""
    mark: Mark = Mark.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What one node said of a job, and when."""

    node: str
    status: JobStatus
    heard_at: float
    skew_seconds: float = 0.0
    """The node's clock minus ours."""

    @property
    def moved_at(self) -> float:
        """When the step was made, on our clock."""
        if self.status.step is None or self.status.step_at is None:
            return self.heard_at
        return min(self.status.step_at - self.skew_seconds, self.heard_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is remembered of a job between two reports."""

    start: Progress
    """The row with which the present stretch began."""
    kept: Progress
    """The newest row in the store; it may be `start`."""
    newest: Progress
    """The newest that is known; it may be in no row yet."""
    written_at: float
    highest_before: int = -1
    """The highest step of earlier starts."""
    pausing: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """By node: the pause that it said it is in, and the step then."""

    @property
    def pace_seconds(self) -> float | None:
        """Seconds per step in this stretch, pauses left out."""
        if self.start.step is None or self.newest.step is None:
            return None
        steps = self.newest.step - self.start.step
        return _net_seconds(self.start, self.newest) / steps if steps > 0 else None


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be changed in the store."""

    removed: tuple[float, ...] = ()
    """Times (`at`) of rows that go."""
    written: tuple[Progress, ...] = ()


def resume(last: Progress, highest: int) -> Track:
    """Return the track of a job of which only rows are left; it begins a new stretch."""
    return Track(start=last, kept=last, newest=last, written_at=last.at, highest_before=highest)


def advance(track: Track | None, seen: Sighting) -> tuple[Track, Rows] | None:
    """Return how the track goes on and which rows change, or None where nothing is new.

    A job that reports no step is not at step 0. A node that lags behind the others, or still
    reports the start before, changes nothing.
    """
    if track is None:
        return _begin(None, _first(seen, None), seen)
    newest, status = track.newest, seen.status
    if _is_new_start(newest, seen):
        return _begin(track, _first(seen, newest), seen)
    if status.attempt != newest.attempt or status.step is None:
        return None
    if newest.step is None:
        now = replace(_first(seen, newest), mark=Mark.NONE)
        return _stretch(track, now, seen, Rows(written=(now,)))
    if status.step > newest.step and seen.moved_at < newest.at - FRESH_SECONDS:
        return None  # further and yet earlier: it speaks of a start before this one
    return _go_on(track, seen)


def _is_new_start(newest: Progress, seen: Sighting) -> bool:
    """Say whether a node reports a later start: a higher attempt, or a later step that is lower.

    Not every launcher counts its starts, and some count from 0 again.
    """
    status = seen.status
    if status.attempt > newest.attempt:
        return True
    is_fresh = (
        status.step is not None
        and status.step_at is not None
        and seen.moved_at > newest.at + FRESH_SECONDS
    )
    if status.attempt < newest.attempt:
        return is_fresh
    is_back = status.step is not None and newest.step is not None and status.step < newest.step
    return is_back and is_fresh


def _first(seen: Sighting, before: Progress | None) -> Progress:
    status = seen.status
    at = seen.moved_at if before is None else _after(before, seen.moved_at)
    return Progress(
        at=at,
        step=status.step,
        checkpoint_step=status.checkpoint_step,
        attempt=status.attempt,
        phase=status.phase,
        checkpoint_seconds=before.checkpoint_seconds if before else 0.0,
        other_seconds=before.other_seconds if before else 0.0,
        mark=Mark.START,
    )


def _begin(track: Track | None, now: Progress, seen: Sighting) -> tuple[Track, Rows]:
    """Begin a start of the job."""
    before = _settled(track) if track is not None else Rows()
    rows = Rows(before.removed, (*before.written, now))
    highest = -1 if track is None else max(track.highest_before, _step(track.newest))
    return (
        Track(
            start=now, kept=now, newest=now, written_at=seen.heard_at, highest_before=highest,
            pausing=_pausing({}, seen),
        ),
        rows,
    )  # fmt: skip


def _settled(track: Track) -> Rows:
    """Make the newest known progress the end of its stretch."""
    if track.newest == track.kept:
        return Rows()
    removed = () if track.kept == track.start else (track.kept.at,)
    return Rows(removed, (track.newest,))


def _stretch(track: Track, now: Progress, seen: Sighting, rows: Rows) -> tuple[Track, Rows]:
    """Begin a new stretch within the same start."""
    return (
        replace(
            track, start=now, kept=now, newest=now, written_at=seen.heard_at,
            pausing=_pausing(track.pausing, seen),
        ),
        rows,
    )  # fmt: skip


def _go_on(track: Track, seen: Sighting) -> tuple[Track, Rows] | None:
    """Take in a report of the present start; of a node that lags only its pause is news."""
    newest = track.newest
    pausing = _pausing(track.pausing, seen)
    if _told(seen.status) < _step(newest) and pausing == track.pausing:
        return None
    now = _next(newest, seen, pausing)
    if now == newest:
        return None if pausing == track.pausing else (replace(track, pausing=pausing), Rows())
    mark = _mark(track, now)
    if mark is not Mark.NONE:
        now = replace(now, mark=mark)
        before = _settled(track)
        return _stretch(track, now, seen, Rows(before.removed, (*before.written, now)))
    if now.at == newest.at:  # only a checkpoint became safe: the row says so, and stays where it is
        now = replace(now, mark=newest.mark)
    is_news = now.phase != newest.phase or now.checkpoint_step != newest.checkpoint_step
    if not is_news and seen.heard_at - track.written_at < STEP_SPACING_SECONDS:
        return replace(track, newest=now, pausing=pausing), Rows()
    removed = () if track.kept.at in (track.start.at, now.at) else (track.kept.at,)
    start = now if now.at == track.start.at else track.start
    return (
        replace(
            track, start=start, kept=now, newest=now, written_at=seen.heard_at, pausing=pausing
        ),
        Rows(removed, (now,)),
    )


def _next(newest: Progress, seen: Sighting, pausing: Mapping[str, tuple[str, int]]) -> Progress:
    """Return the progress after a report."""
    status, known = seen.status, _step(newest)
    step = max(_told(status), known)
    phase = _phase(status.phase or newest.phase, step, pausing)
    safe = [s for s in (status.checkpoint_step, newest.checkpoint_step) if s is not None]
    at = newest.at
    if step > known:
        at = _after(newest, seen.moved_at)
    elif phase != newest.phase:
        at = _after(newest, seen.heard_at)
    spent = {Pause.CHECKPOINT: newest.checkpoint_seconds, Pause.OTHER: newest.other_seconds}
    pause = pause_of(newest.phase)
    if pause is not None:
        spent[pause] += at - newest.at
    return Progress(
        at=at,
        step=step,
        checkpoint_step=max(safe) if safe else None,
        attempt=newest.attempt,
        phase=phase,
        checkpoint_seconds=spent[Pause.CHECKPOINT],
        other_seconds=spent[Pause.OTHER],
        mark=newest.mark if at == newest.at else Mark.NONE,
    )


def _phase(told: str | None, step: int, pausing: Mapping[str, tuple[str, int]]) -> str | None:
    """Return the job's phase: one node may write the checkpoint while others wait in a step."""
    for name, since in pausing.values():
        if step - since <= PAUSE_STEPS:
            return name
    return "step" if pause_of(told) is not None else told


def _pausing(known: Mapping[str, tuple[str, int]], seen: Sighting) -> Mapping[str, tuple[str, int]]:
    """Return which nodes are in a pause, after a report."""
    phase, step = seen.status.phase, seen.status.step
    others = {node: pause for node, pause in known.items() if node != seen.node}
    if phase is None or step is None or pause_of(phase) is None:
        return others
    since = known.get(seen.node)
    if since is not None and since[0] == phase and step - since[1] <= PAUSE_STEPS:
        return known
    return {**others, seen.node: (phase, step)}


def _mark(track: Track, now: Progress) -> Mark:
    """Say whether the row before must stay, and why the new one begins something."""
    newest = track.newest
    if _step(newest) <= track.highest_before < _step(now):
        return Mark.OVERTAKE
    if pause_of(newest.phase) is not None and now.at - newest.at > LONG_PAUSE_SECONDS:
        return Mark.PAUSE
    pace_seconds = track.pace_seconds
    if pace_seconds is None:
        return Mark.NONE
    usual_seconds = max(1, _step(now) - _step(newest)) * pace_seconds
    late_seconds = _net_seconds(newest, now) - usual_seconds
    return Mark.STALL if late_seconds > max(STALL_SECONDS, usual_seconds) else Mark.NONE


def _net_seconds(first: Progress, last: Progress) -> float:
    pauses = (last.checkpoint_seconds - first.checkpoint_seconds) + (
        last.other_seconds - first.other_seconds
    )
    return last.at - first.at - pauses


def _after(before: Progress, at: float) -> float:
    return max(at, before.at + TICK_SECONDS)


def _step(progress: Progress) -> int:
    return -1 if progress.step is None else progress.step


def _told(status: JobStatus) -> int:
    return -1 if status.step is None else status.step
