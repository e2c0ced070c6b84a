"""What an account is made of, as frozen values: progress, incidents, steps of recoveries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chipmedic.model import Severity
from chipmedic_watchdog.intake.progress import Progress

TICKS_PER_SECOND = 1024
"""All times of an account are whole ticks: a float adds and subtracts them without any error, so
that the parts of an account sum up to its whole exactly, in whatever order."""


def tick(seconds: float) -> float:
    """Return a time or a duration, rounded to a tick (about a millisecond)."""
    return round(seconds * TICKS_PER_SECOND) / TICKS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFact:
    """An incident that hurt the job."""

    id: str
    severity: Severity
    alarms: tuple[float, ...]
    """When it was opened, then when each later fault joined it; in order. Never empty."""
    resolved_at: float | None = None

    def alarm(self, since: float) -> float:
        """Return when it told of what happened since a time; that time, where it knew before."""
        return next((at for at in self.alarms if at >= since), since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One step of a recovery that was begun."""

    incident: str
    kind: str
    """As `StepKind`."""
    target: str
    started_at: float
    ended_at: float | None = None
    """None: it is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that is known of where the time of one job went."""

    job: str
    rows: tuple[Progress, ...]
    """By time."""
    incidents: tuple[IncidentFact, ...] = ()
    acts: tuple[Act, ...] = ()
    now: float
    is_over: bool = False
    """True: its processes are gone, and nobody is about to start it again."""

    def restarts(self, start: float, end: float) -> list[Act]:
        """Return the restarts of this job that touch a span of time, first begun first."""
        return [a for a in self.acts_in(start, end) if _is_restart(a) and a.target == self.job]

    def acts_in(self, start: float, end: float) -> list[Act]:
        """Return the acts that touch a span of time, first begun first."""
        found = (
            act
            for act in self.acts
            if act.started_at <= end and (act.ended_at is None or act.ended_at >= start)
        )
        return sorted(found, key=lambda act: act.started_at)


def _is_restart(act: Act) -> bool:
    return act.kind == "restart"


def by_time(rows: Iterable[Progress]) -> tuple[Progress, ...]:
    """Return rows by time."""
    return tuple(sorted(rows, key=lambda row: row.at))
