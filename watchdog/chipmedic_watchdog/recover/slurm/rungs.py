"""Which rungs of the ladder a Slurm job can take: by what Slurm says of it and its user allows."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import Rung
from chipmedic_watchdog.recover.settings import SlurmSettings
from chipmedic_watchdog.recover.slurm.commands import SlurmCommands
from chipmedic_watchdog.recover.slurm.text import CRASHED_STATES, SlurmJob
from chipmedic_watchdog.recover.slurm.wishes import Wishes, read_wishes

FREE_STATES = frozenset({"IDLE", "RESERVED"})
"""States of a spare node that nothing runs on."""


def rungs_of(
    commands: SlurmCommands, settings: SlurmSettings, number: str, leaving: Collection[str]
) -> Mapping[Rung, str]:
    """Say why the job cannot take each rung; "": it can. See `Laddered.rungs`.

    Slurm has no way to replace one process of a step, so that rung is missing.

    Raises:
        JobGone: Slurm does not know the job.
        DeliveryFailed: nothing could be read, or it is just ending.
    """
    job = commands.job(number)
    if job.state == "COMPLETING":
        # Ended, or queued again by Slurm itself? Its count of starts says so only afterwards.
        raise DeliveryFailed(f"job {number} is just ending; planned when that is over")
    if why := why_not_moved(job):
        return {Rung.REQUEUE: why, Rung.HOLD: ""}
    wishes = read_wishes(commands.comment(job.address))
    sick = [node for node in job.nodes if node in leaving]
    stays = f"it must leave {', '.join(sick)}" if sick else ""
    goes = "" if sick else "it is on no node that must leave"
    queued = _why_not_queued(commands, settings, job)
    spare = goes or queued or _why_no_spare(commands, settings, len(sick))
    return {
        Rung.IN_PLACE: stays or _why_not_stepped(job, is_allowed=wishes.in_place, word="in_place"),
        Rung.SPARE: spare,
        Rung.SHRINK: goes or _why_not_shrunk(commands, job, wishes, sick),
        Rung.REQUEUE: queued,
        Rung.HOLD: "",
    }


def why_not_moved(job: SlurmJob) -> str:
    """Say why a job cannot be restarted by us in any way; "": it can."""
    if not job.whole:
        return ""
    return (
        f"it is a part of the heterogeneous job {job.whole}, whose parts start again only together "
        f"and on nodes of their own kinds; its user must (scontrol requeue {job.whole})"
    )


def _why_not_stepped(job: SlurmJob, *, is_allowed: bool, word: str) -> str:
    if not is_allowed:
        return f"its user has not allowed it (--comment=chipmedic:{word})"
    return "" if job.state == "RUNNING" else f"it is {job.state}, not running"


def _why_not_shrunk(
    commands: SlurmCommands, job: SlurmJob, wishes: Wishes, sick: Collection[str]
) -> str:
    least = wishes.shrink_to
    if why := _why_not_stepped(job, is_allowed=least is not None, word="shrink=NODES"):
        return why
    left = len(job.nodes) - len(sick)
    if least is not None and left < least:
        return f"{left} nodes would be left, and its user wants {least} at least"
    if commands.batch_host(job.address) in sick:
        return "its script runs on the node that must leave"
    return ""


def _why_not_queued(commands: SlurmCommands, settings: SlurmSettings, job: SlurmJob) -> str:
    if not job.is_batch:
        return "not a batch job, so Slurm cannot start it again; its user must"
    if not job.may_requeue and not settings.despite_no_requeue:
        return "it must not be queued again (--no-requeue, or JobRequeue=0 in slurm.conf)"
    if job.state in CRASHED_STATES:
        code = commands.exit_code(job.id)
        if code in settings.no_requeue_exit_codes:
            return f"it ended with {code}, by which a program asks not to be started again"
    return ""


def _why_no_spare(commands: SlurmCommands, settings: SlurmSettings, needed: int) -> str:
    name = settings.spare_reservation
    if not name:
        return "no spare nodes are configured ([recover.slurm] spare_reservation)"
    states = commands.reserved(name)
    free = sorted(node for node, state in states.items() if state in FREE_STATES)
    if len(free) >= needed:
        return ""
    return f"{len(free)} of the {len(states)} spare nodes are free, and {needed} are needed"
