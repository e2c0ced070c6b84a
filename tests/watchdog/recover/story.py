"""What the tests of recovery share: rows in a real store, and a scheduler that lives in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import insert, select, update

from chipmedic.errors import DeliveryFailed, JobGone
from chipmedic.recoverer import (
    FOREIGN,
    NodeView,
    RecoveryRequest,
    Rung,
    Step,
    StepKind,
    StepResult,
)
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database

NOW = 1_900_000_000.0


class Killed(BaseException):
    """The process dies here."""


@dataclass
class World:
    """A scheduler's nodes and jobs; a test sees how often each thing was really done."""

    drained: dict[str, str] = field(default_factory=dict)
    """Node -> the reason that it is out of service for."""
    down: set[str] = field(default_factory=set)
    restarts: dict[str, int] = field(default_factory=dict)
    acts: list[str] = field(default_factory=list)
    names: tuple[str, ...] = ("n1", "n2", "n3", "n4")


@dataclass
class FakeScheduler:
    """A recoverer over a `World`; it can fail, and die before or after any call."""

    world: World
    name: str = "slurm"
    fails: dict[str, list[DeliveryFailed]] = field(default_factory=dict)
    """Method -> errors that its next calls raise."""
    dies: Callable[[str], None] = lambda _: None
    is_blind: bool = False
    never_done: bool = False

    def plan(self, request: RecoveryRequest) -> list[Step]:
        self._enter("plan")
        steps = [self._step(StepKind.ISOLATE, node, request.reason) for node in request.nodes]
        for job in request.jobs:
            count = str(self.world.restarts.get(job, 0))
            steps.append(self._step(StepKind.RESTART, job, request.reason, restarts=count))
        self.dies("plan after")
        return steps

    def do(self, step: Step) -> StepResult:
        self._enter(f"do {step.kind.value}")
        result = self._do(step)
        self.dies(f"do {step.kind.value} after")
        return result

    def confirm(self, step: Step) -> StepResult:
        self._enter(f"confirm {step.kind.value}")
        if step.kind is StepKind.RESTART:
            now = self.world.restarts.get(step.target, 0)
            is_done = now > int(step.arguments["restarts"])
        else:
            is_done = (step.target in self.world.drained) == (step.kind is StepKind.ISOLATE)
        self.dies(f"confirm {step.kind.value} after")
        return StepResult(is_done=is_done, detail="looked")

    def nodes(self) -> list[NodeView]:
        self.dies("nodes")
        if self.is_blind:
            raise DeliveryFailed("sinfo: no answer in 10 s")
        return [
            NodeView(
                node=name,
                is_available=name not in self.world.drained and name not in self.world.down,
                is_down=name in self.world.down,
                why=self.world.drained.get(name, "idle"),
            )
            for name in self.world.names
        ]

    def _enter(self, point: str) -> None:
        self.dies(point)
        if errors := self.fails.get(point.split()[0]):
            raise errors.pop(0)

    def _do(self, step: Step) -> StepResult:
        world = self.world
        if self.never_done:
            return StepResult(is_done=False, detail="the job is still COMPLETING")
        if step.kind is StepKind.ISOLATE:
            present = world.drained.get(step.target)
            if present is None:
                world.drained[step.target] = step.arguments["reason"]
                world.acts.append(f"isolate {step.target}")
            owner = "chipmedic" if present in (None, step.arguments["reason"]) else FOREIGN
            return StepResult(is_done=True, detail="drained", undo={"owner": owner})
        if step.kind is StepKind.RESTART:
            if world.restarts.get(step.target, 0) <= int(step.arguments["restarts"]):
                world.restarts[step.target] = world.restarts.get(step.target, 0) + 1
                world.acts.append(f"restart {step.target}")
            return StepResult(is_done=True, detail="runs on n2,n3")
        if world.drained.get(step.target) != step.arguments["reason"]:
            raise DeliveryFailed("out of service for another reason now", is_permanent=True)
        del world.drained[step.target]
        world.acts.append(f"return {step.target}")
        return StepResult(is_done=True, detail="resumed")

    @staticmethod
    def _step(kind: StepKind, target: str, reason: str, **arguments: str) -> Step:
        return Step(
            kind=kind,
            target=target,
            description=f"{kind.value} {target}",
            timeout_seconds=5.0,
            arguments={"reason": reason, **arguments},
        )


def put_nodes(database: Database) -> None:
    """Four nodes that report."""
    for node in ("n1", "n2", "n3", "n4"):
        put(
            database,
            schema.nodes,
            node=node,
            state="connected",
            first_seen_at=NOW,
            last_seen_at=NOW,
        )


def put(database: Database, table: Any, **values: Any) -> None:
    database.write_now(lambda c: c.execute(insert(table).values(**values)))


def change(database: Database, table: Any, where: Any, **values: Any) -> None:
    database.write_now(lambda c: c.execute(update(table).where(where).values(**values)))


def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    return database.read_now(lambda c: [dict(r) for r in c.execute(select(table)).mappings()])


def put_incident(
    database: Database,
    *,
    identity: str = "inc-000001",
    kind: str = "memory.uncorrectable",
    nodes: Iterable[str] = ("n1",),
    jobs: Iterable[str] = ("slurm:7",),
    **values: Any,
) -> None:
    whole = {
        "state": "open",
        "severity": 3,
        "cause": "same_chip@1",
        "title": "uncorrectable memory error",
        "fault_at": NOW - 1,
        "opened_at": NOW,
        "updated_at": NOW,
    } | values
    put(
        database,
        schema.incidents,
        id=identity,
        kind=kind,
        nodes=list(nodes),
        jobs=list(jobs),
        **whole,
    )


def put_fault(database: Database, **values: Any) -> None:
    whole: dict[str, Any] = {
        "node": "n1",
        "component": "chip:GPU-11",
        "kind": "memory.uncorrectable",
        "severity": 3,
        "action": "reset_chip",
        "node_since": NOW - 1,
        "opened_at": NOW,
        "updated_at": NOW,
        "summary": "2 uncorrectable memory errors",
        "source": "nvidia",
        "codes": ["xid:48"],
        "state": "open",
        "incident": "inc-000001",
    } | values
    put(database, schema.faults, **whole)


def put_placement(
    database: Database, job: str = "slurm:7", node: str = "n1", **values: Any
) -> None:
    whole = {"node_at": NOW, "received_at": NOW, "is_present": True} | values
    put(database, schema.job_nodes, job=job, node=node, **whole)


@dataclass
class Ladder(FakeScheduler):
    """A scheduler that has every rung; a test says which of them it cannot take, or fails."""

    unable: dict[Rung, str] = field(default_factory=dict)
    broken: dict[Rung, str] = field(default_factory=dict)
    """Rungs that fail when they are done, each with its words."""
    lacking: frozenset[Rung] = frozenset()
    gone: set[str] = field(default_factory=set)
    """Jobs that it does not know any more."""

    def rungs(self, job: str, leaving: tuple[str, ...]) -> dict[Rung, str]:
        self._enter("rungs")
        if job in self.gone:
            raise JobGone(f"Invalid job id {job}")
        stays = "its node must leave" if leaving else ""
        leaves = "" if leaving else "none of its nodes must leave"
        own = {
            Rung.IN_PLACE: stays, Rung.REPLACE: stays, Rung.SPARE: leaves, Rung.SHRINK: leaves,
        }  # fmt: skip
        whole = dict.fromkeys(Rung, "") | own | self.unable
        return {rung: why for rung, why in whole.items() if rung not in self.lacking}

    def plan(self, request: RecoveryRequest) -> list[Step]:
        steps = super().plan(request)
        return [
            replace(step, arguments={**step.arguments, "rung": request.rungs[step.target].value})
            if step.kind is StepKind.RESTART
            else step
            for step in steps
        ]

    def _do(self, step: Step) -> StepResult:
        if step.target in self.gone:
            raise JobGone(f"Invalid job id {step.target}")
        if step.rung is not None and step.rung in self.broken:
            self.world.acts.append(f"fail {step.rung.value} {step.target}")
            raise DeliveryFailed(self.broken[step.rung], is_permanent=True)
        before = len(self.world.acts)
        result = super()._do(step)
        if step.rung is not None and len(self.world.acts) > before:
            self.world.acts[-1] = f"{step.rung.value} {step.target}"
        return result
