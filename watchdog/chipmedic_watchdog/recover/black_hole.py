"""Which nodes kill job after job within seconds: a pure function over the runs of the last minutes.

Such a node is idle again at once, so the scheduler gives it the next job, and it eats the queue.
Most jobs that die young die of themselves, so three of them on one node prove nothing. They count
where the same program, begun at about the same time, lives on other nodes and dies on none.

- Three in a row whose programs all live elsewhere: the node is the cause, and must leave.
- So it is with three users' jobs in a row, one of whose programs at least lives elsewhere.
- Three users' jobs in a row of which nothing more is known: people are told, no more.
- Two nodes that ran the same jobs cannot be told apart: people are told of both.

"In a row": since a job was last seen well on that node. One that was cancelled says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from chipmedic.recoverer import JobRun, RunOutcome
from chipmedic_watchdog.recover.settings import BlackHoleSettings

SHOWN = 6
SIBLINGS_LEAST = 2
"""So many runs of the same program that live elsewhere prove it; one may be luck."""
OUTLIVED_TIMES, OUTLIVED_LEAST_SECONDS = 3.0, 10.0
"""A run lives if it ends well, or has lived so many times as long as the one that died, and this
long: whoever waits for more lets the node kill more meanwhile."""


class Standing(StrEnum):
    """What a program's runs on other nodes say of it."""

    LIVES = "lives"
    DIES = "dies"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackHole:
    """A node under which jobs die."""

    node: str
    is_certain: bool
    """False: it may be the jobs, or another node that ran the same ones."""
    since: float
    """When the first of these jobs ended."""
    summary: str
    evidence: tuple[str, ...]


def judge(
    runs: Collection[JobRun],
    settings: BlackHoleSettings,
    now: float,
    *,
    forgiven_at: Mapping[str, float] | None = None,
) -> list[BlackHole]:
    """Return the nodes that kill jobs, by name.

    What ended on a node before `forgiven_at` was judged already: it came back, or was well.
    """
    streaks = _streaks(runs, settings, now, forgiven_at or {})
    found: list[BlackHole] = []
    for node, streak in sorted(streaks.items()):
        standings = {run.job: _standing(run, node, runs, settings, now) for run in streak}
        counted = [run for run in streak if standings[run.job] is not Standing.DIES]
        if len(counted) < settings.jobs:
            continue
        living = sum(standings[run.job] is Standing.LIVES for run in counted)
        users = len({run.user for run in counted})
        is_certain = living >= settings.jobs or (living > 0 and users >= settings.jobs)
        if not is_certain and users < settings.jobs:
            continue
        twins = [n for n, s in streaks.items() if n != node and {*counted} <= {*s}]
        found.append(_black_hole(node, counted, standings, twins, is_certain=is_certain))
    return found


def is_well_since(
    node: str, runs: Iterable[JobRun], since: float, settings: BlackHoleSettings, now: float
) -> bool:
    """Whether a job that began on the node after that time has ended well, or lives on."""
    return any(
        node in run.nodes and run.started_at > since and _well_until(run, settings, now) is not None
        for run in runs
    )


def _streaks(
    runs: Collection[JobRun],
    settings: BlackHoleSettings,
    now: float,
    forgiven_at: Mapping[str, float],
) -> dict[str, list[JobRun]]:
    """Return for each node the runs that died young there since it was last seen well."""
    well_until = dict(forgiven_at)
    for run in runs:
        until = _well_until(run, settings, now)
        if until is not None:
            for node in run.nodes:
                well_until[node] = max(well_until.get(node, until), until)
    streaks: dict[str, dict[str, JobRun]] = {}
    for run in sorted(runs, key=lambda run: (run.ended_at or now, run.job)):
        if not _died_young(run, settings) or now - (run.ended_at or now) > settings.window_seconds:
            continue
        for node in run.nodes:
            if (run.ended_at or now) > well_until.get(node, float("-inf")):
                streaks.setdefault(node, {}).setdefault(run.job, run)
    return {node: list(of_node.values()) for node, of_node in streaks.items()}


def _died_young(run: JobRun, settings: BlackHoleSettings) -> bool:
    return (
        run.outcome is RunOutcome.FAILED
        and run.ended_at is not None
        and run.ended_at - run.started_at <= settings.early_seconds
    )


def _well_until(run: JobRun, settings: BlackHoleSettings, now: float) -> float | None:
    """Return until when a run speaks for its nodes; None: it does not."""
    end = now if run.ended_at is None else run.ended_at
    if run.outcome is RunOutcome.WELL or end - run.started_at > settings.early_seconds:
        return end
    return None


def _standing(
    run: JobRun, node: str, runs: Iterable[JobRun], settings: BlackHoleSettings, now: float
) -> Standing:
    """Say how the runs of the same program do on other nodes, of about the same time."""
    if not run.family:
        return Standing.UNKNOWN
    siblings = [
        other
        for other in runs
        if other.family == run.family
        and node not in other.nodes
        and other.started_at > run.started_at - settings.window_seconds
    ]
    if any(_died_young(other, settings) for other in siblings):
        return Standing.DIES
    living = sum(_outlives(other, run, now) for other in siblings)
    return Standing.LIVES if living >= SIBLINGS_LEAST else Standing.UNKNOWN


def _outlives(other: JobRun, dead: JobRun, now: float) -> bool:
    if other.outcome is RunOutcome.WELL:
        return True
    enough = OUTLIVED_TIMES * ((dead.ended_at or now) - dead.started_at)
    lived_seconds = (now if other.ended_at is None else other.ended_at) - other.started_at
    return lived_seconds >= max(enough, OUTLIVED_LEAST_SECONDS)


def _black_hole(
    node: str,
    streak: Collection[JobRun],
    standings: dict[str, Standing],
    twins: Collection[str],
    *,
    is_certain: bool,
) -> BlackHole:
    longest = max((run.ended_at or 0.0) - run.started_at for run in streak)
    users = len({run.user for run in streak})
    of_users = f" of {users} users" if users > 1 else ""
    words = f"{len(streak)} jobs{of_users} in a row died here within {longest:.0f} s of their start"
    if twins:
        also = ", ".join(sorted(twins)[:SHOWN])
        words += f"; the same jobs ran on {also}, so it may be either"
    return BlackHole(
        node=node,
        is_certain=is_certain and not twins,
        since=min(run.ended_at or 0.0 for run in streak),
        summary=words,
        evidence=tuple(_line(run, standings[run.job]) for run in list(streak)[-SHOWN:]),
    )


SAYS = {
    Standing.LIVES: "others of the same program live elsewhere",
    Standing.DIES: "its program dies elsewhere too",
    Standing.UNKNOWN: "nothing is known of it elsewhere",
}


def _line(run: JobRun, standing: Standing) -> str:
    lived_seconds = (run.ended_at or run.started_at) - run.started_at
    where = ",".join(run.nodes[:SHOWN])
    words = f"failed after {lived_seconds:.0f} s; {SAYS[standing]}"
    return f"{run.job} of user {run.user} on {where}: {words}"
