"""The interface of a recovery adapter: how a scheduler isolates nodes and moves jobs.

An adapter plans steps as data and performs one step at a time. Every step is idempotent and is
confirmed by reading the world again, because the watchdog may die between doing and recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable


class StepKind(StrEnum):
    """What a step does."""

    ISOLATE = "isolate"
    """Keep new work off the node."""
    RESTART = "restart"
    """Stop the job and make it start again elsewhere."""
    RETURN = "return"
    """Give the node back: undo only what we did."""
    CHECKPOINT = "checkpoint"
    """Ask the job to save its state; when its time is over the recovery goes on without it."""


class Rung(StrEnum):
    """How a job is brought to run again: the rungs of the ladder, the gentlest first."""

    IN_PLACE = "in_place"
    """Its processes start again where they are; the allocation stays."""
    REPLACE = "replace"
    """One process of it is replaced; the others wait for it."""
    SPARE = "spare"
    """A spare node takes the place of one that leaves."""
    SHRINK = "shrink"
    """It goes on without the nodes that leave."""
    REQUEUE = "requeue"
    """It is stopped whole, queued, and starts again elsewhere."""
    HOLD = "hold"
    """Nothing more is done by itself: a person must look."""


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
    rung: Rung | None = None
    """Of RESTART: how. None: the adapter knows one way only, which counts as REQUEUE."""


FOREIGN = "foreign"
"""Value of `undo["owner"]` for a node that somebody else took out: done, and it stays theirs."""

GOES_ON_AS = "goes_on_as"
"""Key of `undo` of a RESTART whose job has other ids afterwards: these, with commas between."""

ENDED = "ended"
"""Key of `undo` of a RESTART whose job had ended by itself, and how: nobody waits for its steps."""


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
    recovery: str = ""
    """The recovery's own id: one incident can need several, each of which is to be done once."""
    rungs: Mapping[str, Rung] = field(default_factory=dict)
    """How each job is to be restarted, as the ladder chose among what `Laddered.rungs` said; a job
    that is not here is queued again."""
    leaving: tuple[str, ...] = ()
    """Nodes that the jobs must leave: those to isolate, and those that are isolated already."""
    silent: tuple[str, ...] = ()
    """Those of them that are dead by two witnesses, which the scheduler may not have noticed yet:
    neither their agent nor the job is heard. Nothing on them ends because it is told to."""
    let_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Nodes of which earlier recoveries kept each job off and which are in service again, as the
    scheduler names them: a job that is kept off ever more nodes ends up without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What a scheduler says of one node."""

    node: str
    is_available: bool
    """It works, or takes work; False whoever took it out."""
    is_down: bool
    """The scheduler itself cannot use it: the second witness of a silent node."""
    why: str
    """State and reason, as the scheduler words them."""
    expected: str = ""
    """Why it is no news that this node is away: an admin took it out and no job runs there any
    more, or it is being booted. Empty: it should be there."""


@runtime_checkable
class Witness(Protocol):
    """An optional power of a recoverer: it can tell the state of every node it knows."""

    def nodes(self) -> list[NodeView]:
        """Return all nodes; reads the world, changes nothing.

        Raises:
            DeliveryFailed: nothing could be read; that is never "no node is out of service".
        """
        ...


class RunOutcome(StrEnum):
    """What came of one run of a job."""

    RUNNING = "running"
    WELL = "well"
    """It ended by itself, without an error."""
    FAILED = "failed"
    """It ended by an error, or was killed by none who may."""
    STOPPED = "stopped"
    """Somebody cancelled it, or its time was over: that says nothing of node or program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One run of a job, as its scheduler tells it."""

    job: str
    """With the scheduler's prefix; the task of an array is a job of its own."""
    family: str
    """Runs with the same one run the same program: tasks of an array. Empty: nothing is known."""
    user: str
    nodes: tuple[str, ...]
    started_at: float
    ended_at: float | None
    """None: it runs."""
    outcome: RunOutcome


@runtime_checkable
class JobHistory(Protocol):
    """An optional power of a recoverer: it tells which jobs ran where, and how they ended."""

    def recent_runs(self) -> list[JobRun]:
        """Return the runs of the last minutes, as far as the scheduler remembers them.

        It reads the world and changes nothing.

        Raises:
            DeliveryFailed: nothing could be read; that is never "no job has failed".
        """
        ...


@runtime_checkable
class Laddered(Protocol):
    """An optional power of a recoverer: it knows more ways to restart a job than to queue it again.

    An adapter without it takes the rungs `requeue` and `hold`.
    """

    def rungs(self, job: str, leaving: tuple[str, ...]) -> Mapping[Rung, str]:
        """Say for each rung that this adapter has why the job cannot take it now; "": it can.

        A rung that is missing is one that the adapter never has; one that keeps the job on a node
        of `leaving` has a reason against it. The reasons are shown to people and kept with the
        recovery. It reads the world and changes nothing.

        Raises:
            DeliveryFailed: nothing could be read; permanent where the job is not known.
        """
        ...


@runtime_checkable
class Tidier(Protocol):
    """An optional power of a recoverer: it takes its marks off what somebody else gave back."""

    def tidy(self, step: Step) -> None:
        """Take what is left of an ISOLATE step away, after somebody else has ended it.

        Raises:
            DeliveryFailed: it is still there.
        """
        ...


class Recoverer(Protocol):
    """One scheduler, or a set of commands."""

    @property
    def name(self) -> str:
        """The adapter's name, which is also the prefix of the jobs that it restarts: `slurm`."""
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
