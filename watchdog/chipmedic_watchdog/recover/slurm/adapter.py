"""The adapter for Slurm: drains nodes with our reason, requeues jobs and releases their start.

Each trap below was measured on Slurm 22.05:

- A second drain overwrites a foreign reason silently: the node is read first and, when somebody
  else took it out, left alone. RESUME wipes the reason: it is sent only while the reason is ours.
- A requeued job waits two minutes (`cred_expire`); `StartTime=now` ends that, but is lost while
  the job is still COMPLETING: PENDING is waited for, then set, then read back. A start time that
  is a little ahead waits for the scheduler's next round instead, a minute perhaps.
- A start within the second of the end before it is refused by a node that is used again ("Job
  credential revoked"), and the job FAILS: it starts `start_delay_seconds` later, and one that
  failed at once is queued again.
- The last task of an array has the array's own number: `scontrol requeue` of that number requeues
  every task. A task is named `<array>_<task>`.
- `ExcNodeList` is replaced, not appended to: it is read and merged, and what earlier restarts of
  ours put into it goes out again when the node is back in service.
- A dead slurmd does not kill the job: where an old node does not answer, its processes may still
  write to the checkpoint. Then the job is not started again before the node is fenced. Slurm needs
  `SlurmdTimeout` (300 s) to see that; of a node that is known to be dead it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from chipmedic.errors import DeliveryFailed
from chipmedic.host import Host
from chipmedic.recoverer import (
    FOREIGN,
    JobRun,
    NodeView,
    RecoveryRequest,
    Rung,
    Step,
    StepKind,
    StepResult,
)
from chipmedic_watchdog.recover.settings import RecoverSettings, SlurmSettings
from chipmedic_watchdog.recover.slurm.commands import SlurmCommands
from chipmedic_watchdog.recover.slurm.job import SlurmRestart
from chipmedic_watchdog.recover.slurm.rungs import rungs_of
from chipmedic_watchdog.recover.slurm.stepping import SlurmStepping
from chipmedic_watchdog.recover.slurm.text import SLURMS_WORDS, SlurmNode

TAG = "chipmedic:"
"""How every reason of ours begins."""

NODE_TAG = "chipmedic-node:"
"""How the reasons of chipmedic's prolog and health check begin: they wait for us to take over."""

STEPPING = frozenset({Rung.IN_PLACE, Rung.SHRINK})
"""Rungs inside the job's allocation."""

SLURMS_OWN_REASONS = SLURMS_WORDS | {"", "none"}
"""Reasons that Slurm itself gives a node; they are no person's order."""


class Slurm:
    """Drains, requeues and resumes by scontrol; looks by squeue and sinfo."""

    name = "slurm"

    def __init__(self, settings: SlurmSettings, host: Host | None = None) -> None:
        self._settings = settings
        self._commands = SlurmCommands(settings, host)
        self._restart = SlurmRestart(self._commands, settings)
        self._stepping = SlurmStepping(self._commands, settings)

    @classmethod
    def configure(cls, settings: RecoverSettings) -> Self | None:
        """Return the adapter where `[recover.slurm]` is in the configuration."""
        return None if settings.slurm is None else cls(settings.slurm)

    def nodes(self) -> list[NodeView]:
        """Return the state of every node; see `Witness.nodes`."""
        return self._commands.nodes()

    def recent_runs(self) -> list[JobRun]:
        """Return which jobs ran where; see `JobHistory.recent_runs`."""
        return self._commands.runs()

    def plan(self, request: RecoveryRequest) -> list[Step]:
        """Read nodes and jobs and plan their steps; see `Recoverer.plan`."""
        nodes = [(name, self._commands.node(name)) for name in request.nodes]
        steps = [
            self._isolation(name, node, request.reason, is_silent=name in request.silent)
            for name, node in nodes
        ]
        leaving = self._known_as([*request.nodes, *request.leaving])
        return steps + [self._job(job, leaving, request) for job in request.jobs]

    def rungs(self, job: str, leaving: tuple[str, ...]) -> Mapping[Rung, str]:
        """Say how the job can be restarted; see `Laddered.rungs`."""
        number = job.partition(":")[2]
        return rungs_of(self._commands, self._settings, number, self._known_as(leaving))

    def _known_as(self, nodes: Iterable[str]) -> list[str]:
        """Return how Slurm names the nodes; once each."""
        return list(dict.fromkeys(self._commands.node(name).name for name in nodes))

    def _job(self, job: str, leaving: list[str], request: RecoveryRequest) -> Step:
        rung = request.rungs.get(job, Rung.REQUEUE)
        if rung in STEPPING:
            return self._stepping.plan(job, rung, leaving, request.reason)
        spares = self._settings.spare_reservation if rung is Rung.SPARE else ""
        let_in = request.let_in.get(job, ())
        return self._restart.plan(job, leaving, request.reason, reservation=spares, let_in=let_in)

    def do(self, step: Step) -> StepResult:
        """Do the next thing that a step needs; see `Recoverer.do`."""
        match step.kind:
            case StepKind.ISOLATE:
                return self._isolate(step)
            case StepKind.RESTART if step.rung in STEPPING:
                return self._stepping.do(step)
            case StepKind.RESTART:
                return self._restart.do(step)
            case StepKind.RETURN:
                return self._give_back(step)
            case StepKind.CHECKPOINT:
                return StepResult(is_done=True, detail="not asked")

    def confirm(self, step: Step) -> StepResult:
        """Read the world again; see `Recoverer.confirm`."""
        if step.kind is StepKind.RESTART:
            work = self._stepping if step.rung in STEPPING else self._restart
            return work.confirm(step)
        node = self._commands.node(step.arguments.get("node", step.target))
        is_out = node.is_drained or node.is_down
        words = f"{node.state}: {node.reason}" if node.reason else node.state
        if step.kind is StepKind.ISOLATE:
            return StepResult(is_done=is_out, detail=words)
        return StepResult(
            is_done=not (node.is_drained and node.reason == step.arguments.get("reason")),
            detail=words,
        )

    def _isolation(self, target: str, node: SlurmNode, reason: str, *, is_silent: bool) -> Step:
        command = f'scontrol update NodeName={node.name} State=DRAIN Reason="{reason}"'
        is_silent = is_silent and bool(self._settings.fence)
        if is_silent:
            command += f"; {' '.join(self._settings.fence)}; State=DOWN"
        return Step(
            kind=StepKind.ISOLATE,
            target=target,
            description=command,
            timeout_seconds=self._settings.isolate_timeout_seconds,
            arguments={
                "node": node.name,
                "reason": reason,
                "state_before": node.state,
                "reason_before": node.reason,
                "silent": "1" if is_silent else "",
            },
        )

    def _isolate(self, step: Step) -> StepResult:
        """Drain a node that nobody has taken out; find our own drain again after a restart."""
        reason = step.arguments["reason"]
        node = self._commands.node(step.arguments["node"])
        before = {"state_before": node.state, "reason_before": node.reason}
        if node.is_drained and node.reason == reason:
            detail = self._bring_down(node, step)
            return StepResult(is_done=True, detail=detail, undo={"owner": "chipmedic"})
        is_taken = node.is_drained or (node.is_down and node.reason not in SLURMS_OWN_REASONS)
        if is_taken and not node.reason.startswith(NODE_TAG):
            whose = node.reason_by or "unknown"
            return StepResult(
                is_done=True,
                detail=f"out of service already, left as it is: {node.reason} [{whose}]",
                undo={"owner": FOREIGN, **before},
            )
        self._commands.update_node(node.name, State="DRAIN", Reason=reason)
        detail = self._bring_down(node, step)
        return StepResult(is_done=True, detail=detail, undo={"owner": "chipmedic", **before})

    def _bring_down(self, node: SlurmNode, step: Step) -> str:
        """Prove a silent node dead and tell Slurm, which would wait long for its slurmd.

        Its jobs end by that, and one that has ended elsewhere waits no more for its end there.
        Where it cannot be proved, a restart says so; the drain holds all the same.
        """
        reason = step.arguments["reason"]
        if not step.arguments.get("silent") or node.is_down:
            return f"drained: {reason}"
        try:
            self._commands.fence(node.name, reason.split()[0].partition(":")[2])
        except DeliveryFailed as e:
            return f"drained, not fenced ({e}): {reason}"
        self._commands.update_node(node.name, State="DOWN", Reason=reason)
        return f"drained, fenced and down: {reason}"

    def _give_back(self, step: Step) -> StepResult:
        """Resume a node that is still drained with our very reason, and no other."""
        node = self._commands.node(step.arguments.get("node", step.target))
        if not (node.is_drained or node.is_down):
            return StepResult(is_done=True, detail=f"in service already: {node.state}")
        if not node.reason.startswith(TAG) or node.reason != step.arguments.get("reason"):
            raise DeliveryFailed(
                f"{node.name} is out of service for another reason now ({node.reason!r}, "
                f"{node.reason_by}); it is left as it is",
                is_permanent=True,
            )
        self._commands.update_node(node.name, State="RESUME")
        return StepResult(is_done=True, detail=f"resumed; it was {node.state}")
