"""The hang of a job: its progress stands still far longer than its own history explains.

Judged while processes of the job hold chips or live on this node. A job without any word of
progress is not judged: unknown is not hung. When a rank's process is gone while others of the job
live and wait, the same silence is `job.crashed`; that a whole job ended is the scheduler's to
tell, which knows the exit status: here a normal end and a crash look the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from chipmedic.faults.kinds import KINDS
from chipmedic.model import Change, Component, ComponentKind, Fault, JobStatus, Scan
from chipmedic_agent.detectors.board import Board, key_of
from chipmedic_agent.detectors.hang_model import (
    DONE,
    STEPPING,
    History,
    after_phase,
    after_steps,
    log_limit,
    names_phases,
    phase_limit,
    step_limit,
)
from chipmedic_agent.detectors.settings import DetectorSettings, HangSettings

HUNG, CRASHED = "job.hung", "job.crashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is remembered of one job."""

    start: str
    """Which start of the job this is; a new one begins with the grace of the first steps."""
    moved_at: float
    """When it last made progress, or from when on silence counts."""
    step: int | None = None
    phase: str | None = None
    phase_at: float = 0.0
    log_at: float | None = None
    history: History = field(default_factory=History)


@dataclass(frozen=True, slots=True)
class HangState:
    """State of `Hang`."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    courses: Mapping[str, Course] = field(default_factory=dict)
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Jobs that stand still."""

    name: str
    settings: HangSettings

    def start(self) -> HangState:
        """See `Detector.start`."""
        return HangState()

    def step(self, state: HangState, scan: Scan) -> tuple[HangState, list[Change]]:
        """See `Detector.step`."""
        if scan.source != "jobs" or _is_gap(scan):
            return state, []
        board = Board(state.open)
        courses: dict[str, Course] = {}
        was_away = state.at is not None and not (
            0 <= scan.at - state.at <= self.settings.distrust_seconds
        )
        for status in scan.jobs:
            course, has_moved = self._follow(state.courses.get(status.job), status, scan.at)
            if was_away:
                course = replace(course, moved_at=scan.at)
            courses[status.job] = course
            if has_moved:
                self._clear(board, status.job, scan.at, "moves again")
            else:
                self._judge(board, course, status, scan)
        for job in state.courses.keys() - courses.keys():
            self._clear(board, job, scan.at, "job has ended on this node")
        return HangState(board.open, courses, scan.at if courses else None), board.changes

    def _follow(self, known: Course | None, status: JobStatus, at: float) -> tuple[Course, bool]:
        """Return the course with what is new of a job, and whether that is progress."""
        start = f"{status.attempt}.{status.labels.get('torchrun_restart', '')}"
        if known is None:
            return _first_sight(status, start, at), False
        course = known
        if start != known.start or (
            status.step is not None and known.step is not None and status.step < known.step
        ):
            history = replace(known.history, steps_since_start=0)
            course = replace(_first_sight(status, start, at), history=history)
            return course, True
        has_moved = False
        if status.phase is not None and status.phase != course.phase:
            course, has_moved = self._with_phase(course, status, at), True
        if status.step is not None and (course.step is None or status.step > course.step):
            course, has_moved = self._with_step(course, status, at), True
        log_at = _number(status.labels.get("log_at"))
        if log_at is not None and course.step is None and log_at != course.log_at:
            course, has_moved = self._with_log(course, log_at, at), True
        return course, has_moved

    def _with_phase(self, course: Course, status: JobStatus, at: float) -> Course:
        history = course.history
        if names_phases(status.phase):
            history = replace(history, names_phases=True)
        if course.phase is not None and course.phase not in STEPPING:
            history = after_phase(history, course.phase, max(0.0, at - course.phase_at))
        return replace(course, phase=status.phase, phase_at=at, moved_at=at, history=history)

    def _with_step(self, course: Course, status: JobStatus, at: float) -> Course:
        step = 0 if status.step is None else status.step
        moved_at = min(at, status.step_at if status.step_at is not None else at)
        history = course.history
        if course.step is None:
            history = replace(history, steps_since_start=max(1, history.steps_since_start))
        elif course.phase is None or course.phase in STEPPING:
            seconds = max(0.0, moved_at - course.moved_at)
            longest = _number(status.labels.get("longest_step_seconds"))
            history = after_steps(
                history,
                steps=step - course.step,
                seconds=seconds,
                longest_seconds=seconds if longest is None else min(seconds, longest),
                settings=self.settings,
            )
        return replace(course, step=step, moved_at=moved_at, history=history)

    def _with_log(self, course: Course, log_at: float, at: float) -> Course:
        history = course.history
        if course.log_at is not None and log_at > course.log_at:
            pauses = (*history.pauses_seconds, log_at - course.log_at)
            history = replace(history, pauses_seconds=tuple(sorted(pauses)[-4:]))
        return replace(course, log_at=log_at, moved_at=min(at, log_at), history=history)

    def _judge(self, board: Board, course: Course, status: JobStatus, scan: Scan) -> None:
        """Open a fault when the silence is longer than the job's history explains."""
        if not (status.chips or status.pids):
            self._clear(board, status.job, scan.at, "its processes have ended")
            return
        if course.phase in DONE:
            return
        limit, words = self._limit(course)
        if limit is None or scan.at - course.moved_at < limit:
            return
        gone = status.labels.get("gone_ranks")
        kind = CRASHED if gone else HUNG
        if kind == CRASHED:
            board.clear(key_of(_component(status.job), HUNG), scan.at, "a rank is gone")
        board.hold(_fault(kind, course, status, scan, words))

    def _limit(self, course: Course) -> tuple[float | None, str]:
        """Return how long this job may be silent now, and what its history says in words."""
        history = course.history
        if course.phase is not None and course.phase not in STEPPING:
            limit = phase_limit(history, course.phase, self.settings)
            return limit, f"phase {course.phase} may take {limit:.0f} s"
        if course.step is not None or history.names_phases:
            limit = step_limit(history, self.settings)
            if history.steps_since_start < self.settings.first_steps:
                return limit, f"it has made {history.steps_since_start} steps since its start"
            steps = sorted(history.step_seconds)
            typical = steps[len(steps) // 2] if steps else 0.0
            return limit, f"a step takes {typical:.2f} s, its limit is {limit:.0f} s"
        if course.log_at is not None:
            limit = log_limit(history, self.settings)
            return limit, f"known by its log alone, its limit is {limit:.0f} s"
        return None, ""

    def _clear(self, board: Board, job: str, at: float, reason: str) -> None:
        for kind in (HUNG, CRASHED):
            board.clear(key_of(_component(job), kind), at, reason)


def _first_sight(status: JobStatus, start: str, at: float) -> Course:
    moved_at = at if status.step_at is None else min(at, status.step_at)
    return Course(
        start=start,
        moved_at=moved_at,
        step=status.step,
        phase=status.phase,
        phase_at=at,
        log_at=_number(status.labels.get("log_at")),
        history=History(
            names_phases=names_phases(status.phase),
            steps_since_start=0 if status.step is None else 1,
        ),
    )


def _fault(kind: str, course: Course, status: JobStatus, scan: Scan, words: str) -> Fault:
    where = f"step {course.step}" if course.step is not None else f"phase {course.phase}"
    if course.step is None and course.phase is None:
        where = "its log"
    silent = scan.at - course.moved_at
    verb = "has lost a rank and stands" if kind == CRASHED else "stands"
    return Fault(
        component=_component(status.job),
        kind=kind,
        severity=KINDS[kind].severity,
        action=KINDS[kind].action,
        since=course.moved_at,
        summary=f"{status.job} {verb} still at {where} for {silent:.0f} s ({words})",
        source=scan.source,
        evidence=tuple(_evidence(course, status)),
        job=status.job,
    )


def _evidence(course: Course, status: JobStatus) -> Iterable[str]:
    """Yield what shows where to look: the ranks, the processes, the phase."""
    moved = datetime.fromtimestamp(course.moved_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield f"last progress at {moved}: step {course.step}, phase {course.phase}"
    for label, words in (
        ("behind", "ranks that did not arrive: "),
        ("rank_steps", "steps by rank: "),
        ("gone_ranks", "ranks whose process is gone: "),
        ("processes", "processes not at work: "),
    ):
        if text := status.labels.get(label):
            yield words + text


def _component(job: str) -> Component:
    return Component(ComponentKind.JOB, job)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _is_gap(scan: Scan) -> bool:
    """Say whether the jobs could not be looked at this time."""
    return not scan.jobs and any(gap.metric is None for gap in scan.gaps)


def hang_detectors(settings: DetectorSettings) -> list[Hang]:
    """Return the detector of hangs."""
    return [Hang(name="hang", settings=settings.hang)]
