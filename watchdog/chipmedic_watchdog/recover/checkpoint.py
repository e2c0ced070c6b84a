"""Asks a job to save before it is restarted, whatever its scheduler: through the agents.

It is worth a little time and never more: a job that stands still is not asked, and one that stops
stepping, or does not save in its time, is restarted as it is. So the step never fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import RecoveryRequest, Rung, Step, StepKind, StepResult
from chipmedic_watchdog.recover.agents import Agents, JobOnNode
from chipmedic_watchdog.recover.order_book import Order
from chipmedic_watchdog.recover.settings import CheckpointSettings

LOOK_SECONDS = 0.5
ANSWER_SECONDS = 10.0
"""For an agent to have asked; signals and a file take no time."""
SHOWN_MAX = 3
"""Nodes whose refusal is told in full."""
SAVING = ("checkpoint", "ckpt", "sav")
"""How the phases begin in which a job writes a checkpoint."""


class Checkpoint:
    """Performs the steps of kind CHECKPOINT; beside the adapters, not one of them."""

    name = "checkpoint"

    def __init__(
        self,
        settings: CheckpointSettings,
        agents: Agents,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._agents = agents
        self._monotonic = monotonic
        self._sleep = sleep

    def plan(self, request: RecoveryRequest) -> list[Step]:
        """Return a step for each job that is to be restarted; see `Recoverer.plan`."""
        return requests(self._settings, request)

    def do(self, step: Step) -> StepResult:
        """Ask and wait; see `Recoverer.do`. Always done in the end."""
        try:
            return StepResult(is_done=True, detail=self._ask_and_wait(step))
        except DeliveryFailed as e:
            return StepResult(is_done=True, detail=f"goes on without a new checkpoint: {e}")

    def confirm(self, step: Step) -> StepResult:
        """Say so: there is nothing to hold; see `Recoverer.confirm`."""
        return StepResult(is_done=True, detail=step.description)

    def _ask_and_wait(self, step: Step) -> str:
        job = step.target
        before = self._agents.job(job)
        if not any(each.pids for each in before.values()):
            return "not asked: no node reports a process of it"
        if (kind := self._agents.standing(job)) is not None:
            return f"not asked: {kind} is open on it"
        stall_seconds = max(self._settings.stall_seconds, 2 * self._agents.pace_seconds(job))
        if not _moves(before, stall_seconds):
            return f"not asked: it has made no step for {stall_seconds:.0f} s, or reports none"
        asked, refused = self._ask(job, step.arguments.get("reason", ""), before)
        if not asked:
            return f"goes on without a new checkpoint: {_shown(refused)}"
        others = f"; not asked: {_shown(refused)}" if refused else ""
        return self._wait(job, _checkpoint(before), stall_seconds) + others

    def _ask(
        self, job: str, reason: str, nodes: Mapping[str, JobOnNode]
    ) -> tuple[list[str], list[str]]:
        """Ask on every node; return which were asked, and what the others said."""
        orders = [
            Order(node=node, act="checkpoint", job=name, reason=reason)
            for node, here in nodes.items()
            if here.pids
            for name in here.told_as or (job,)
        ]
        said = self._agents.ask_all(orders, timeout_seconds=ANSWER_SECONDS)
        pairs = list(zip(orders, said, strict=True))
        refused = [f"{order.node}: {answer.detail}" for order, answer in pairs if not answer.is_ok]
        return [order.node for order, answer in pairs if answer.is_ok], refused

    def _wait(self, job: str, before: int, stall_seconds: float) -> str:
        begun = self._monotonic()
        without = "goes on without a new checkpoint"
        while (waited := self._monotonic() - begun) < self._settings.timeout_seconds:
            nodes = self._agents.job(job)
            if (saved := _checkpoint(nodes)) > before:
                return f"saved at step {saved}, {waited:.0f} s after it was asked"
            if not _moves(nodes, stall_seconds):
                return f"it has made no step for {stall_seconds:.0f} s since: {without}"
            self._sleep(LOOK_SECONDS)
        return f"not saved within {self._settings.timeout_seconds:g} s: {without}"


def _shown(refused: Sequence[str]) -> str:
    words = "; ".join(refused[:SHOWN_MAX])
    more = len(refused) - SHOWN_MAX
    return words + (f"; and {more} more" if more > 0 else "")


def requests(settings: CheckpointSettings, request: RecoveryRequest) -> list[Step]:
    """Return the step that asks each job."""
    seconds = settings.timeout_seconds
    return [
        Step(
            kind=StepKind.CHECKPOINT,
            target=job,
            description=f"ask {job} for a checkpoint; wait {seconds:g} s at most",
            timeout_seconds=seconds + 2 * ANSWER_SECONDS,
            arguments={"reason": request.reason},
        )
        for job in request.jobs
    ]


def before_restarts(steps: Sequence[Step], asked: Sequence[Step]) -> list[Step]:
    """Return the steps of a plan with the requests in front of the first restart.

    The isolation goes first: while a job saves, no other one should come to the sick node.
    """
    moves = [step.kind is StepKind.RESTART and step.rung is not Rung.HOLD for step in steps]
    first = moves.index(True) if True in moves else len(steps)
    targets = {step.target for step, is_move in zip(steps, moves, strict=True) if is_move}
    mine = [step for step in asked if step.target in targets]
    return [*steps[:first], *mine, *steps[first:]]


def _checkpoint(nodes: Mapping[str, JobOnNode]) -> int:
    known = [each.checkpoint_step for each in nodes.values() if each.checkpoint_step is not None]
    return max(known, default=-1)


def _moves(nodes: Mapping[str, JobOnNode], stall_seconds: float) -> bool:
    """Whether a node reports a fresh step, or that it saves."""
    ages = [each.step_age_seconds for each in nodes.values() if each.step_age_seconds is not None]
    is_saving = any((each.phase or "").startswith(SAVING) for each in nodes.values())
    return is_saving or min(ages, default=stall_seconds) < stall_seconds
