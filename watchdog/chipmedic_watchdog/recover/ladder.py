"""The ladder: by which rung a job is restarted next. Pure; what was tried is in the store.

    in place → replace a process → spare node → shrink → queue again → hold for a person

A rung is left out with a reason: the policy's ladder lacks it, the adapter never has it or not for
this job, it was tried too often or a short while ago, or in this recovery. The first that is left
is taken; one that fails, or after which the job does not move, makes the next one due.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from chipmedic.model import Severity
from chipmedic.recoverer import Rung
from chipmedic.words import counted
from chipmedic_watchdog.recover.settings import LadderSettings, RecoverSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One time that a rung was taken for a job."""

    rung: Rung
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What the choice is made of."""

    job: str
    able: Mapping[Rung, str]
    """As `Laddered.rungs` says."""
    used: Collection[Use] = ()
    """Of the last `attempts_window_seconds`."""
    failed: Mapping[Rung, str] | None = None
    """Rungs that this recovery has tried, each with what came of it."""
    is_looked_at: bool = False
    """A person has said "try again": bounds on attempts do not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The rung that is taken, and why none of those before it was."""

    rung: Rung
    skipped: Mapping[Rung, str]

    @property
    def words(self) -> str:
        """The reasons in one line."""
        return "; ".join(f"{rung.value}: {why}" for rung, why in self.skipped.items())


def next_rung(
    ladder: Collection[Rung], facts: JobFacts, settings: RecoverSettings, now: float
) -> Choice:
    """Choose the first rung of the ladder that nothing speaks against; the last is always HOLD.

    A rung that cools down gives way to the next one. Where there is none it is taken even so: that
    a job stands is worse than a restart that may not last.
    """
    skipped: dict[Rung, str] = {}
    cooling: list[Rung] = []
    for rung in ladder:
        if rung is Rung.HOLD:
            break
        why = _why_not(rung, facts, settings)
        if not why and (why := _cools_down(rung, facts, settings, now)):
            cooling.append(rung)
        if not why:
            return Choice(rung=rung, skipped=skipped)
        skipped[rung] = why
    if cooling:
        del skipped[cooling[0]]
        return Choice(rung=cooling[0], skipped=skipped)
    return Choice(rung=Rung.HOLD, skipped=skipped)


def ladder_for(
    settings: RecoverSettings,
    kind: str,
    severity: Severity,
    partitions: Mapping[str, Collection[str]],
) -> tuple[Rung, ...]:
    """Return the ladder for an incident: of the first entry that fits, or every rung in order."""
    for entry in settings.ladders:
        if _fits(entry, kind, severity, partitions):
            return entry.rungs
    return tuple(Rung)


def _fits(
    entry: LadderSettings,
    kind: str,
    severity: Severity,
    partitions: Mapping[str, Collection[str]],
) -> bool:
    if not any(fnmatchcase(kind, pattern) for pattern in entry.kinds):
        return False
    if severity < Severity[entry.severity.upper()]:
        return False
    if not entry.partitions:
        return True
    return bool(partitions) and all(
        any(fnmatchcase(name, pattern) for name in names for pattern in entry.partitions)
        for names in partitions.values()
    )


def _why_not(rung: Rung, facts: JobFacts, settings: RecoverSettings) -> str:
    if rung in (facts.failed or {}):
        return f"tried: {(facts.failed or {})[rung]}"
    if rung not in facts.able:
        return "there is no such way here"
    if facts.able[rung]:
        return facts.able[rung]
    most = settings.rung(rung).attempts
    count = sum(use.rung is rung for use in facts.used)
    if most is None or facts.is_looked_at or count < most:
        return ""
    return (
        f"taken {counted(count, 'time')} in {settings.attempts_window_seconds / 3600:g} h already"
    )


def _cools_down(rung: Rung, facts: JobFacts, settings: RecoverSettings, now: float) -> str:
    latest = max((use.at for use in facts.used if use.rung is rung), default=None)
    if facts.is_looked_at or latest is None:
        return ""
    if now - latest >= settings.rung(rung).cool_down_seconds:
        return ""
    return f"taken {now - latest:.0f} s ago, and it did not last"
