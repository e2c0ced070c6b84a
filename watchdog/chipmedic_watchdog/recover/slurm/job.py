"""The restart of one Slurm job, driven by what Slurm says at each call, so that it can be resumed.

    running ─requeue→ completing ─(KillWait)→ pending ─exclude, StartTime=now→ running elsewhere

`restarts` in the step's arguments is Slurm's count when it was planned: a higher count says that
the job was started again, whoever did it and whichever of our processes was killed meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import ENDED, Step, StepKind, StepResult
from chipmedic_watchdog.recover.settings import SlurmSettings
from chipmedic_watchdog.recover.slurm.commands import SlurmCommands
from chipmedic_watchdog.recover.slurm.rungs import why_not_moved
from chipmedic_watchdog.recover.slurm.text import (
    CRASHED_STATES,
    ENDED_STATES,
    RUNNING_STATES,
    SlurmJob,
)

HELD_REASONS = frozenset(
    {
        "JobHeldUser",
        "JobHeldAdmin",
        "Dependency",
        "DependencyNeverSatisfied",
        # A node refused it, and Slurm holds it for that; scontrol writes it in the second way.
        "launch failed requeued held",
        "launch_failed_requeued_held",
    }
)
CRASHES_FORGIVEN = 2
"""A job that fails right after its start is queued again so often: a node may refuse the launch."""
HELD_STATES = frozenset({"SPECIAL_EXIT", "REQUEUE_HOLD", "RESV_DEL_HOLD"})


class SlurmRestart:
    """Restarts jobs."""

    def __init__(self, commands: SlurmCommands, settings: SlurmSettings) -> None:
        self._commands = commands
        self._settings = settings
        self._ended_at: dict[tuple[str, int], float] = {}
        """When a run was first seen to have ended; after our own restart it is seen anew."""
        self._fenced: set[tuple[str, str, str]] = set()
        """Node, job and run for which it was proved dead: it stays down for Slurm while somebody
        mends and boots it, and must not be switched off again then."""

    def plan(
        self,
        name: str,
        excluded: list[str],
        reason: str,
        *,
        reservation: str = "",
        let_in: Collection[str] = (),
    ) -> Step:
        """Plan the restart of `slurm:<number>`, away from the excluded nodes.

        With a `reservation` (of kind FLEX) it may use that one's nodes, too. Of `let_in` it was
        kept off by us and need not be any more.

        Raises:
            DeliveryFailed: the job is not known, or it is just ending.
        """
        number = name.partition(":")[2]
        job = self._commands.job(number)
        if job.state == "COMPLETING":
            # Ended, or queued again by Slurm itself? Its count of starts says so only afterwards.
            raise DeliveryFailed(f"job {number} is just ending; planned when that is over")
        if why := why_not_moved(job):
            raise DeliveryFailed(why, is_permanent=True)
        # A job that waits was started again already (NODE_FAIL requeues by itself).
        count = job.restarts - 1 if job.state == "PENDING" else job.restarts
        present = self._commands.excluded(job.address)
        theirs = [node for node in present if node not in let_in]
        wanted = [*theirs, *(node for node in excluded if node not in theirs)]
        exclude = f" ExcNodeList={','.join(wanted)}" if wanted != present else ""
        exclude += f" ReservationName={reservation}" if reservation else ""
        return Step(
            kind=StepKind.RESTART,
            target=name,
            description=f"scontrol requeue {job.address}; when it is PENDING: "
            f"scontrol update JobId={job.address}{exclude} StartTime=now",
            timeout_seconds=self._settings.restart_timeout_seconds,
            arguments={
                "job": number,
                "reason": reason,
                "restarts": str(count),
                "nodes": ",".join(job.nodes),
                "exclude": ",".join(excluded),
                "excluded_before": ",".join(theirs),
                "let_in": ",".join(let_in),
                "reservation": reservation,
                "requeue": "1" if job.may_requeue else "0",
            },
        )

    def do(self, step: Step) -> StepResult:
        """Do the next thing and say what is waited for."""
        job = self._commands.job(step.arguments["job"])
        if job.state in ENDED_STATES:
            detail = f"the job has ended by itself: {job.state}"
            return StepResult(is_done=True, detail=detail, undo={ENDED: job.state})
        if job.state in HELD_STATES or job.reason in HELD_REASONS:
            raise DeliveryFailed(
                f"the job is held in Slurm ({job.state}, {job.reason}); it is not released by us",
                is_permanent=True,
            )
        if job.state == "PENDING":
            return self._release(job, step)
        again = job.restarts - int(step.arguments["restarts"])
        if job.state in CRASHED_STATES and again > CRASHES_FORGIVEN:
            raise DeliveryFailed(
                f"started again {again} times and crashed each time: {job.state}, {job.reason}",
                is_permanent=True,
            )
        if job.state in RUNNING_STATES and _is_moved(job, step):
            return self._settle(job, step)
        if job.state in RUNNING_STATES | CRASHED_STATES:
            return self._requeue(job, step)
        return StepResult(is_done=False, detail=f"{job.state}: waiting for its end")

    def confirm(self, step: Step) -> StepResult:
        """Say whether the job runs again, away from the excluded nodes."""
        job = self._commands.job(step.arguments["job"])
        where = f"{job.state} on {','.join(job.nodes)}" if job.nodes else job.state
        ended = job.state in ENDED_STATES
        return StepResult(
            is_done=ended or (job.state in RUNNING_STATES and _is_moved(job, step)), detail=where
        )

    def _requeue(self, job: SlurmJob, step: Step) -> StepResult:
        if not job.is_batch:
            raise DeliveryFailed(
                "not a batch job, so Slurm cannot start it again; its user must",
                is_permanent=True,
            )
        if not job.may_requeue:
            self._commands.update_job(job.address, Requeue="1")
        undo = {"nodes_before": ",".join(job.nodes), "requeue": step.arguments["requeue"]}
        if self._prove_ended(set(job.nodes), step):
            return StepResult(is_done=False, detail="fenced; Slurm queues the job again", undo=undo)
        self._commands.requeue(job.address)
        detail = f"requeued; it ran on {','.join(job.nodes)}"
        return StepResult(is_done=False, detail=detail, undo=undo)

    def _release(self, job: SlurmJob, step: Step) -> StepResult:
        """Keep a pending job off the bad nodes and let it start at once."""
        wanted = _names(step, "exclude")
        try:
            self._prove_ended({*_names(step, "nodes"), *wanted}, step)
        except DeliveryFailed as e:
            if e.is_permanent:
                self._commands.hold(job.address)
            raise
        present = self._commands.excluded(job.address)
        theirs = [node for node in present if node not in _names(step, "let_in")]
        excluded = [*theirs, *(node for node in wanted if node not in theirs)]
        if set(excluded) != set(present):
            self._commands.update_job(job.address, ExcNodeList=",".join(excluded))
        spares = step.arguments.get("reservation", "")
        if spares and self._commands.reservation_of(job.address) != spares:
            self._commands.update_job(job.address, ReservationName=spares)
        if job.reason == "BeginTime":
            waited = self._commands.now() - self._ended_at.setdefault(
                _run(job), self._commands.now()
            )
            if waited < self._settings.start_delay_seconds:
                return StepResult(is_done=False, detail="ended; starts again in a moment")
            self._commands.update_job(job.address, StartTime="now")
        return StepResult(is_done=False, detail=f"PENDING ({job.reason}): waiting for its start")

    def _settle(self, job: SlurmJob, step: Step) -> StepResult:
        """The job runs elsewhere: put back what was only needed for the way there."""
        self._ended_at.pop(_run(job), None)
        if step.arguments["requeue"] == "0" and job.may_requeue:
            self._commands.update_job(job.address, Requeue="0")
        return StepResult(is_done=True, detail=f"runs on {','.join(job.nodes)}")

    def _prove_ended(self, nodes: set[str], step: Step) -> bool:
        """Make sure that no old process can still write; return whether Slurm was told of a death.

        Raises:
            DeliveryFailed: a node does not answer and cannot be fenced.
        """
        is_told = False
        if self._settings.start_without_fence:
            return is_told
        for name in sorted(nodes):
            node = self._commands.node(name)
            if node.answers:
                continue
            if node.is_unheard:
                raise DeliveryFailed(f"Slurm's controller has just started: {name} is unknown yet")
            incident = step.arguments["reason"].split()[0].partition(":")[2]
            run = (name, step.arguments["job"], step.arguments["restarts"])
            if run not in self._fenced and not self._commands.fence(name, incident):
                raise DeliveryFailed(
                    f"{name} does not answer ({node.state}), so the job's old processes there may "
                    "still write to its checkpoint; power the node off, then release the job "
                    "([recover.slurm] fence can do this by itself)",
                    is_permanent=True,
                )
            self._fenced.add(run)
            if not node.is_down and node.reason == step.arguments["reason"]:
                self._commands.update_node(name, State="DOWN", Reason=node.reason)
                is_told = True
        return is_told


def _is_moved(job: SlurmJob, step: Step) -> bool:
    """Whether the job was started again since the plan, and not on a bad node."""
    is_again = job.restarts > int(step.arguments["restarts"])
    return is_again and not set(_names(step, "exclude")) & set(job.nodes)


def _run(job: SlurmJob) -> tuple[str, int]:
    return job.id, job.restarts


def _names(step: Step, key: str) -> list[str]:
    return [name for name in step.arguments.get(key, "").split(",") if name]
