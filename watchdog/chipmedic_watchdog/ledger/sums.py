"""Sums over many accounts: by phase, by cause, by vendor. Pure.

Times of an account are whole ticks, so that every sum here is exact, and the sums agree with one
another to the last bit: the causes with the phases of lost time, the vendors with the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from chipmedic_watchdog.ledger.account import Account
from chipmedic_watchdog.ledger.phases import LOST, Interval, Phase

UNEXPLAINED = "unexplained"
"""The cause of what no incident explains."""
FORGOTTEN = "forgotten"
"""The cause where the incident is no longer in the store."""


@dataclass(slots=True)
class Cause:
    """What one kind of incident has cost."""

    interruptions: int = 0
    seconds: dict[Phase, float] = field(default_factory=lambda: dict.fromkeys(LOST, 0.0))
    """By phase of lost time."""

    def add(self, other: Cause) -> None:
        """Count another job's."""
        self.interruptions += other.interruptions
        for phase, seconds in other.seconds.items():
            self.seconds[phase] += seconds

    @property
    def lost_seconds(self) -> float:
        """All phases together."""
        return sum(self.seconds.values())


@dataclass(slots=True)
class Whole:
    """Where the time of a group of jobs went."""

    jobs: int = 0
    seconds: dict[Phase, float] = field(default_factory=lambda: dict.fromkeys(Phase, 0.0))

    def add(self, seconds: Mapping[Phase, float]) -> None:
        """Count a job."""
        self.jobs += 1
        for phase, spent in seconds.items():
            self.seconds[phase] += spent

    @property
    def wall_seconds(self) -> float:
        """Of all its jobs together."""
        return sum(self.seconds.values())

    @property
    def lost_seconds(self) -> float:
        """What was lost of it."""
        return sum(self.seconds[phase] for phase in LOST)

    @property
    def effective_ratio(self) -> float | None:
        """Return the share that made new steps; None without any time."""
        wall_seconds = self.wall_seconds
        return self.seconds[Phase.PRODUCTIVE] / wall_seconds if wall_seconds else None


def waits(lost: Iterable[Interval]) -> Iterator[tuple[Interval, ...]]:
    """Yield each wait with its stages: neighbours that belong to one incident."""
    number, last = 0, None
    numbered = []
    for interval in lost:
        if last is not None and _begins_anew(last, interval):
            number += 1
        numbered.append((number, interval))
        last = interval
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield tuple(interval for _, interval in group)


def _begins_anew(before: Interval, after: Interval) -> bool:
    return (
        after.start_at != before.end_at
        or after.incident != before.incident
        or before.phase is Phase.RECOMPUTE
        or after.phase is Phase.DETECT
    )


def by_cause(one: Account, kinds: Mapping[str, str]) -> dict[str, Cause]:
    """Return what each cause has cost a job; `kinds`: of each incident that is known."""
    found: dict[str, Cause] = {}
    for wait in waits(one.lost):
        incident = wait[0].incident
        name = UNEXPLAINED if incident is None else kinds.get(incident, FORGOTTEN)
        cause = found.setdefault(name, Cause())
        cause.interruptions += 1
        for interval in wait:
            cause.seconds[interval.phase] += interval.seconds
    return found


def add_causes(total: dict[str, Cause], more: Mapping[str, Cause]) -> None:
    """Add one job's causes to those of others."""
    for name, cause in more.items():
        total.setdefault(name, Cause()).add(cause)
