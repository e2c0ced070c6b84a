"""How long a job may be silent: what its own history says.

Steps: the limit is a multiple of the median step, or of the long pauses that have come more than
once and so belong to the job. Other phases (checkpoint, evaluate, compile ...) have limits of
their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from chipmedic_agent.detectors.settings import HangSettings

KEPT_STEPS = 100
KEPT_PAUSES = 16
KEPT_PHASES = 16
TRAINING = frozenset({"train", "training"})
UNNAMED = "step"
"""The phase of a job that has stepped past the phases that it named."""
STEPPING = TRAINING | {UNNAMED}
"""Phases in which steps are due; every other word is a phase that takes its time."""
DONE = frozenset({"done", "finished", "completed", "stopped"})
"""Phases after which silence is what is expected."""


_SAYS_NOTHING = frozenset({None, "init", UNNAMED})
"""Phases that do not show that the job would name an evaluation."""


def names_phases(phase: str | None) -> bool:
    """Say whether a job that tells this phase can be taken to tell the slow ones as well."""
    return phase not in _SAYS_NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRuns:
    """How long a phase other than training has taken so far."""

    count: int = 0
    longest_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a job has shown of itself; it outlives restarts of the job, not its end."""

    step_seconds: tuple[float, ...] = ()
    """Mean time of a step between looks, the last `KEPT_STEPS`."""
    pauses_seconds: tuple[float, ...] = ()
    """Silences that were long for the job and ended by themselves, the last `KEPT_PAUSES`."""
    phases: Mapping[str, PhaseRuns] = field(default_factory=dict)
    steps_since_start: int = 0
    names_phases: bool = False


def after_steps(
    history: History, *, steps: int, seconds: float, longest_seconds: float, settings: HangSettings
) -> History:
    """Learn from steps that were made in `seconds`, the slowest in `longest_seconds`."""
    known = history.step_seconds
    pauses = history.pauses_seconds
    if known and longest_seconds > settings.median_factor * _median(known):
        pauses = (*pauses, longest_seconds)[-KEPT_PAUSES:]
    return replace(
        history,
        step_seconds=(*known, seconds / steps)[-KEPT_STEPS:],
        pauses_seconds=pauses,
        steps_since_start=history.steps_since_start + steps,
    )


def after_phase(history: History, phase: str, seconds: float) -> History:
    """Learn how long a phase took."""
    if phase not in history.phases and len(history.phases) >= KEPT_PHASES:
        return history
    known = history.phases.get(phase, PhaseRuns())
    runs = PhaseRuns(count=known.count + 1, longest_seconds=max(known.longest_seconds, seconds))
    return replace(history, phases={**history.phases, phase: runs})


def step_limit(history: History, settings: HangSettings) -> float:
    """Return after how many seconds without a step a training job hangs."""
    if history.steps_since_start < settings.first_steps or not history.step_seconds:
        return settings.first_step_seconds
    floor = settings.floor_seconds if history.names_phases else settings.unphased_floor_seconds
    typical = settings.median_factor * _median(history.step_seconds)
    return max(floor, typical, settings.pause_factor * _own_pause(history))


def _own_pause(history: History) -> float:
    """Return the longest pause that belongs to the job.

    A job that names its phases must show a pause twice: once is an accident (a stalled file
    system) and must not hide the next hang. One that names none cannot say that it evaluates: once
    will do.
    """
    needed = 2 if history.names_phases else 1
    longest = sorted(history.pauses_seconds)
    return longest[-needed] if len(longest) >= needed else 0.0


def phase_limit(history: History, phase: str, settings: HangSettings) -> float:
    """Return after how many seconds a phase other than training hangs."""
    runs = history.phases.get(phase, PhaseRuns())
    if runs.count < 2:
        return settings.phase_seconds
    return max(settings.phase_floor_seconds, settings.phase_factor * runs.longest_seconds)


def log_limit(history: History, settings: HangSettings) -> float:
    """Return after how many seconds without a new line a job known by its log alone hangs."""
    longest = max(history.pauses_seconds, default=0.0)
    return max(settings.log_floor_seconds, settings.pause_factor * longest)


def _median(values: Sequence[float]) -> float:
    """Return the middle one, or the mean of the two; the library's takes 0.4 MiB."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
