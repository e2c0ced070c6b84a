"""The interface of a recovery adapter: how a scheduler isolates nodes and moves jobs.

An adapter plans steps as data and performs one step at a time. Every step is idempotent and is
confirmed by reading the world again, because the watchdog may die between doing and recording.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class StepKind(StrEnum):
    """What a step does."""

    ISOLATE = "isolate"
    """Keep new work off the node."""
    RESTART = "restart"
    """Stop the job and make it start again elsewhere."""
    RETURN = "return"
    """Give the node back: undo only what we did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One planned act on the cluster."""

    kind: StepKind
    target: str
    """A node's name or a job's id."""
    description: str
    """What will be done, with the exact commands where there are any; shown before it is done."""
    timeout_seconds: float
    arguments: dict[str, str] = field(default_factory=dict)
    """What the adapter needs to do, confirm and undo it; saved with the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What came of a step."""

    is_done: bool
    """False: not yet (the world is still changing); ask again."""
    detail: str
    undo: dict[str, str] = field(default_factory=dict)
    """What the world was before, to be restored by RETURN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRequest:
    """What a recovery is asked for."""

    incident: str
    reason: str
    """One line that a person reads in `sinfo`; it starts with `chipmedic:<incident>`."""
    nodes: tuple[str, ...]
    """Nodes to isolate."""
    jobs: tuple[str, ...]
    """Jobs to restart (`slurm:1234`), each with its scheduler's prefix."""


class Recoverer(Protocol):
    """One scheduler, or a set of commands."""

    @property
    def name(self) -> str:
        """The adapter's name: `slurm`, `exec`."""
        ...

    def plan(self, request: RecoveryRequest) -> list[Step]:
        """Return the steps for a request, in order; reads the world, changes nothing."""
        ...

    def do(self, step: Step) -> StepResult:
        """Perform a step, or find that it is done already; blocks at most its timeout.

        Raises:
            DeliveryFailed: the scheduler did not do it; permanent where trying again cannot help.
        """
        ...

    def confirm(self, step: Step) -> StepResult:
        """Read the world again and say whether the step holds; changes nothing."""
        ...
