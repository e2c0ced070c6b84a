"""Which jobs ran where and how they ended, read from `squeue -t all`; slurmdbd is not needed.

Slurm keeps ended jobs for `MinJobAge` seconds (300 unless a site has changed it).
"""

from __future__ import annotations

from chipmedic.recoverer import JobRun, RunOutcome
from chipmedic_watchdog.recover.slurm.text import RUN_FIELDS, expand_hosts

OUTCOMES = {
    "RUNNING": RunOutcome.RUNNING,
    "SUSPENDED": RunOutcome.RUNNING,
    "STOPPED": RunOutcome.RUNNING,
    "COMPLETED": RunOutcome.WELL,
    "FAILED": RunOutcome.FAILED,
    "COMPLETING": RunOutcome.FAILED,
    "NODE_FAIL": RunOutcome.FAILED,
    "BOOT_FAIL": RunOutcome.FAILED,
    "OUT_OF_MEMORY": RunOutcome.FAILED,
    "CANCELLED": RunOutcome.STOPPED,
    "TIMEOUT": RunOutcome.STOPPED,
    "DEADLINE": RunOutcome.STOPPED,
    "PREEMPTED": RunOutcome.STOPPED,
}
"""States that are not here are no run. COMPLETING is what Slurm shows while the epilog works, and
so while its brake is on: with an error as its end it has failed, without one nobody knows yet."""

NAMES_WANTED_AT = 3
"""So many failed jobs that are no tasks of an array make their names worth asking for."""


def read_runs(text: str) -> list[JobRun]:
    """Read what `squeue -O RUN_FORMAT` printed; a line that is none costs no other.

    No job at all is a proper answer: nothing runs and nothing has ended.
    """
    found = [_run(line.split("|")) for line in text.splitlines()]
    return [run for run in found if run is not None]


def read_names(text: str) -> dict[str, str]:
    """Read what `squeue -o NAMES_FORMAT` printed: a job's number -> its name.

    A user may write anything into a name, a new line with another job's number too: a number that
    is there twice has no name.
    """
    names: dict[str, str | None] = {}
    for line in text.splitlines():
        number, bar, name = line.partition("|")
        if bar:
            names[number] = None if number in names else name
    return {number: name for number, name in names.items() if name}


def needs_names(runs: list[JobRun]) -> bool:
    """Whether the names of jobs could say more than the runs do."""
    lone = [run for run in runs if not run.family and run.outcome is RunOutcome.FAILED]
    return len(lone) >= NAMES_WANTED_AT


def with_families(runs: list[JobRun], names: dict[str, str]) -> list[JobRun]:
    """Take jobs of one user and one name for one program, where they are no tasks of an array."""
    return [_named(run, names.get(run.job.partition(":")[2], "")) for run in runs]


def _named(run: JobRun, name: str) -> JobRun:
    if run.family or not name:
        return run
    return JobRun(
        job=run.job,
        family=f"name:{run.user}:{name}",
        user=run.user,
        nodes=run.nodes,
        started_at=run.started_at,
        ended_at=run.ended_at,
        outcome=run.outcome,
    )


def _run(cells: list[str]) -> JobRun | None:
    if len(cells) < len(RUN_FIELDS):
        return None
    identity, state, start, end, user, array, task, exit_code, nodes = (
        c.strip() for c in cells[:9]
    )
    outcome = OUTCOMES.get(state.upper())
    if outcome is None or not (start.isdecimal() and identity.isdecimal()):
        return None
    if outcome is not RunOutcome.RUNNING and not end.isdecimal():
        return None
    if state.upper() == "COMPLETING" and exit_code in ("", "0"):
        return None
    if outcome is RunOutcome.FAILED and _signal(exit_code) in STOPPING_SIGNALS:
        outcome = RunOutcome.STOPPED
    try:
        hosts = tuple(expand_hosts(nodes))
    except ValueError:
        return None
    is_task = task.isdecimal()
    return JobRun(
        job=f"slurm:{array}_{task}" if is_task else f"slurm:{identity}",
        family=f"array:{array}" if is_task else "",
        user=user,
        nodes=hosts,
        started_at=float(start),
        ended_at=None if outcome is RunOutcome.RUNNING else float(end),
        outcome=outcome,
    )


STOPPING_SIGNALS = frozenset({2, 15})
"""SIGINT and SIGTERM: somebody ended it."""


def _signal(exit_code: str) -> int:
    """Return the signal in a status as wait(2) gives it; 0 for none."""
    return int(exit_code) & 0x7F if exit_code.isdecimal() else 0
