"""Restarts inside a job's allocation: its steps are ended, and its script starts the next ones.

    step 0 runs ─scancel J.0→ script goes on ─srun→ step 1 runs           in place
    the same, after `scontrol update JobId=J NodeList=<those that stay>`   shrink

The highest number of a step at the time of the plan is in the arguments: a step with a higher one
was started since, whoever ended the old ones. So the same act twice ends nothing that is new. A
script that is not written for it ends with its step; then the job is over, and the next rung takes
it from there. Measured on Slurm 22.05; the node of the script itself cannot be given up.
"""

from __future__ import annotations

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import Rung, Step, StepKind, StepResult
from chipmedic_watchdog.recover.settings import SlurmSettings
from chipmedic_watchdog.recover.slurm.commands import SlurmCommands
from chipmedic_watchdog.recover.slurm.text import SlurmJob


class SlurmStepping:
    """Restarts jobs by their steps."""

    def __init__(self, commands: SlurmCommands, settings: SlurmSettings) -> None:
        self._commands = commands
        self._settings = settings

    def plan(self, name: str, rung: Rung, leaving: list[str], reason: str) -> Step:
        """Plan to restart `slurm:<number>` in its allocation, shrunk where nodes must leave.

        Raises:
            DeliveryFailed: the job is not known, or does not run.
        """
        number = name.partition(":")[2]
        job = self._commands.job(number)
        steps = self._commands.steps(job.address)
        keep = [node for node in job.nodes if node not in leaving]
        words = [f"scancel {job.address}.{step}" for step in steps] or ["wait for its next step"]
        if rung is Rung.SHRINK:
            words.insert(0, f"scontrol update JobId={job.address} NodeList={','.join(keep)}")
        return Step(
            kind=StepKind.RESTART,
            target=name,
            description="; ".join(words),
            timeout_seconds=self._settings.in_place_timeout_seconds,
            arguments={
                "job": number,
                "reason": reason,
                "last_step": str(max(steps, default=-1)),
                "restarts": str(job.restarts),
                "keep": ",".join(keep) if rung is Rung.SHRINK else "",
            },
            rung=rung,
        )

    def do(self, step: Step) -> StepResult:
        """Do the next thing and say what is waited for.

        Raises:
            DeliveryFailed: the job has ended, or was started again by somebody else.
        """
        job = self._running(step)
        keep = [node for node in step.arguments["keep"].split(",") if node]
        if keep and set(job.nodes) - set(keep):
            self._commands.update_job(job.address, NodeList=",".join(keep))
            return StepResult(is_done=False, detail=f"shrunk to {','.join(keep)}")
        last = int(step.arguments["last_step"])
        steps = self._commands.steps(job.address)
        if old := [number for number in steps if number <= last]:
            for number in old:
                self._commands.cancel_step(job.address, number)
            return StepResult(is_done=False, detail=f"ended its steps {', '.join(map(str, old))}")
        return self._stepping(job, steps, last)

    def confirm(self, step: Step) -> StepResult:
        """Say whether a new step runs."""
        job = self._running(step)
        return self._stepping(
            job, self._commands.steps(job.address), int(step.arguments["last_step"])
        )

    def _stepping(self, job: SlurmJob, steps: list[int], last: int) -> StepResult:
        if new := [number for number in steps if number > last]:
            words = f"step {max(new)} runs on {','.join(job.nodes)}"
            return StepResult(is_done=True, detail=words)
        return StepResult(is_done=False, detail="its script has not started the next step yet")

    def _running(self, step: Step) -> SlurmJob:
        job = self._commands.job(step.arguments["job"])
        if job.state == "COMPLETING":
            raise DeliveryFailed(f"job {job.address} is just ending")
        if job.state != "RUNNING" or job.restarts != int(step.arguments["restarts"]):
            words = f"it is {job.state} now; its script ended with its step, or it was queued again"
            raise DeliveryFailed(words, is_permanent=True)
        return job
