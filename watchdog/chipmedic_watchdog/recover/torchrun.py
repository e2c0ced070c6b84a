"""The adapter for jobs under torchrun, or any launcher that is built on it: through the agents.

The launchers of a job meet in its rendezvous and form it anew by themselves; what they do not do is
leave a node that is sick. So a node is isolated by a file that keeps launchers from starting there
(`chipmedic.launch` ends with 93), and a job is moved by ending the launcher on that node: the
others, or a spare that waits in the rendezvous, go on from the last checkpoint. A job that hangs or
has crashed is started again in place: the workers of one node are ended, their launcher starts them
again, and the launchers of the other nodes see a member come back and do the same. Read in torch
2.13: such a change of members does not count as one of `--max-restarts`; workers that fail do.
So the node of rank 0 comes last: its first worker serves the store by which the others find one
another (`chipmedic.launch` turns the sharing of the launcher's own store off), and workers that
lose it fail, each at the cost of one of the restarts of its launcher.

Nothing here chooses a spare: whoever waits in the rendezvous is it. Without one the job goes on
with fewer nodes where `--nnodes=MIN:MAX` allows it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from chipmedic.errors import JobGone
from chipmedic.recoverer import (
    FOREIGN,
    RecoveryRequest,
    Rung,
    Step,
    StepKind,
    StepResult,
)
from chipmedic_watchdog.recover.agents import Agents, JobOnNode
from chipmedic_watchdog.recover.order_book import Order
from chipmedic_watchdog.recover.settings import TorchrunSettings

ENDED = frozenset({"done", "finished", "completed"})
"""Phases in which a job says that it has reached its end."""
SPARE_SECONDS = 30.0
"""So long a spare is waited for before a job counts as one that goes on with fewer nodes: its
programs have to be loaded before they can say anything."""


class Torchrun:
    """Keeps launchers off nodes, and ends launchers or workers, by asking agents."""

    name = "torchrun"

    def __init__(
        self,
        settings: TorchrunSettings,
        agents: Agents,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._agents = agents
        self._monotonic = monotonic
        self._acted: dict[tuple[str, str], tuple[float, set[str]]] = {}
        """By recovery and job: when something was last done to it, and on which nodes so far. Lost
        at a restart, after which everything is asked once more and found done."""

    def rungs(self, job: str, leaving: tuple[str, ...]) -> Mapping[Rung, str]:
        """Say how the job can be restarted; see `Laddered.rungs`.

        Raises:
            JobGone: no node reports it.
        """
        here = self._nodes_of(job)
        staying = sorted(here.keys() - set(leaving))
        must_leave = sorted(here.keys() & set(leaving))
        if not must_leave:
            stays = "it is on no node that must leave"
            return {Rung.IN_PLACE: "", Rung.SPARE: stays, Rung.SHRINK: stays}
        return {
            Rung.IN_PLACE: f"it must leave {', '.join(must_leave)}",
            Rung.SPARE: "",
            Rung.SHRINK: "" if staying else "it runs on no other node",
        }

    def plan(self, request: RecoveryRequest) -> list[Step]:
        """Read where the jobs are and plan their steps; see `Recoverer.plan`."""
        steps = [self._isolation(node, request.reason) for node in request.nodes]
        leaving = request.leaving or request.nodes
        return steps + [self._restart(job, leaving, request) for job in request.jobs]

    def do(self, step: Step) -> StepResult:
        """Do the next thing that a step needs; see `Recoverer.do`."""
        match step.kind:
            case StepKind.ISOLATE:
                return self._isolate(step)
            case StepKind.RESTART:
                return self._move(step)
            case StepKind.RETURN:
                return self._give_back(step)
            case StepKind.CHECKPOINT:
                return StepResult(is_done=True, detail="not asked")

    def confirm(self, step: Step) -> StepResult:
        """Read the world again; see `Recoverer.confirm`."""
        if step.kind is StepKind.RESTART:
            return self._regrouped(step, self._agents.job(step.target))
        present = self._kept_out(step.target)
        words = f"launchers are kept out: {present}" if present else "launchers may start"
        if step.kind is StepKind.ISOLATE:
            return StepResult(is_done=present is not None, detail=words)
        return StepResult(is_done=present != step.arguments.get("reason"), detail=words)

    def _isolation(self, node: str, reason: str) -> Step:
        return Step(
            kind=StepKind.ISOLATE,
            target=node,
            description=f"tell the agent of {node}: keep launchers out ({reason})",
            timeout_seconds=2 * self._settings.answer_timeout_seconds,
            arguments={"reason": reason},
        )

    def _restart(self, job: str, leaving: tuple[str, ...], request: RecoveryRequest) -> Step:
        here = self._nodes_of(job)
        must_leave = sorted(here.keys() & set(leaving))
        if must_leave:
            rung = request.rungs.get(job, Rung.SPARE)
            words = (
                f"tell the agent of {', '.join(must_leave)}: end the launcher of {job}; the others "
                "form it anew, with a spare where one waits in the rendezvous"
            )
        else:
            rung = Rung.IN_PLACE
            words = (
                f"tell the agent of {_first(here)}: end the workers of {job}; its launchers start "
                "them again on every node"
            )
        before = {
            node: {"pids": list(each.pids), "attempt": each.attempt, "ranks": list(each.ranks)}
            for node, each in here.items()
        }
        return Step(
            kind=StepKind.RESTART,
            target=job,
            description=words,
            timeout_seconds=self._settings.restart_timeout_seconds,
            arguments={
                "leave": json.dumps(must_leave),
                "before": json.dumps(before),
                "reason": request.reason,
                "recovery": request.recovery,
            },
            rung=rung,
        )

    def _nodes_of(self, job: str) -> dict[str, JobOnNode]:
        """Return where a job is.

        Raises:
            JobGone: it has ended well, or no node has reported it for ten minutes.
        """
        here = self._agents.job(job)
        is_alive = any(each.pids for each in here.values())
        if not here or (not is_alive and any(each.phase in ENDED for each in here.values())):
            raise JobGone(f"{job}: no node has a process of it any more")
        return here

    def _kept_out(self, node: str) -> str | None:
        """Return why launchers are kept off a node, None where they are not."""
        said = self._agents.ask(
            Order(node=node, act="look"), timeout_seconds=self._settings.answer_timeout_seconds
        )
        return said.detail if said.is_ok else None

    def _isolate(self, step: Step) -> StepResult:
        """Keep launchers off a node, unless a person does already."""
        reason = step.arguments["reason"]
        present = self._kept_out(step.target)
        if present is not None and present != reason:
            return StepResult(
                is_done=True,
                detail=f"launchers are kept out already, left as it is: {present}",
                undo={"owner": FOREIGN, "reason_before": present},
            )
        detail = self._tell(Order(node=step.target, act="keep_out", reason=reason))
        return StepResult(is_done=True, detail=detail, undo={"owner": "chipmedic"})

    def _give_back(self, step: Step) -> StepResult:
        """Let launchers in, where the very reason is ours; a person starts them."""
        reason = step.arguments.get("reason", "")
        return StepResult(
            is_done=True,
            detail=self._tell(Order(node=step.target, act="let_in", reason=reason)),
        )

    def _tell(self, order: Order) -> str:
        return self._agents.must(order, timeout_seconds=self._settings.answer_timeout_seconds)

    def _move(self, step: Step) -> StepResult:
        """End what has to end, then wait for new workers; end more where none come."""
        key = (step.arguments.get("recovery", ""), step.target)
        if key not in self._acted:
            leaving = json.loads(step.arguments["leave"])
            nodes = leaving or [_in_order(step)[0]]
            for node in nodes:
                self._end(step, node, "leave" if leaving else "restart")
            self._acted[key] = (self._monotonic(), set(nodes))
        here = self._agents.job(step.target)
        result = self._regrouped(step, here)
        at, touched = self._acted[key]
        if result.is_done:
            if _is_smaller(step, here) and self._monotonic() - at < SPARE_SECONDS:
                return replace(result, is_done=False)  # a spare may only not be reported yet
            del self._acted[key]
            return result
        late = [node for node in _unchanged(step, here) if node not in touched]
        if late and self._monotonic() - at > self._settings.regroup_seconds:
            self._end(step, late[0], "restart")
            self._acted[key] = (self._monotonic(), touched | {late[0]})
        return result

    def _end(self, step: Step, node: str, act: str) -> None:
        before = json.loads(step.arguments["before"]).get(node, {})
        self._tell(
            Order(
                node=node,
                act=act,
                job=step.target,
                reason=step.arguments["reason"],
                attempt=before.get("attempt", 0),
            )
        )

    def _regrouped(self, step: Step, here: Mapping[str, JobOnNode]) -> StepResult:
        """Say whether every node that goes on has new workers, and which nodes those are."""
        leaving = json.loads(step.arguments["leave"])
        still = [node for node in leaving if node in here and here[node].pids]
        if still:
            return StepResult(is_done=False, detail=f"processes still on {', '.join(still)}")
        if old := _unchanged(step, here):
            return StepResult(is_done=False, detail=f"no new workers yet on {', '.join(old)}")
        before = json.loads(step.arguments["before"])
        alive, at_work = _alive(step, here), _at_work(step)
        idle = sorted(at_work - alive - set(leaving))
        # A spare may have taken the place of a node that goes on; then that one waits in its stead.
        if not alive or (idle and len(alive) < len(at_work)):
            words = f"no workers yet on {', '.join(idle) or 'any node'}"
            words += ": do enough launchers wait in the rendezvous (--nnodes)?"
            return StepResult(is_done=False, detail=words)
        words = f"formed anew on {', '.join(sorted(alive))}"
        if spares := sorted(alive - before.keys()):
            words += f"; new in it: {', '.join(spares)}"
        if _is_smaller(step, here):
            words += f"; {len(at_work)} nodes before"
        return StepResult(is_done=True, detail=words)


def _alive(step: Step, here: Mapping[str, JobOnNode]) -> set[str]:
    """Return the nodes that go on and have workers."""
    return {node for node, each in here.items() if each.pids} - set(
        json.loads(step.arguments["leave"])
    )


def _at_work(step: Step) -> set[str]:
    """Return the nodes that had workers when the step was planned."""
    before: dict[str, dict[str, list[int]]] = json.loads(step.arguments["before"])
    return {node for node, then in before.items() if then["pids"]}


def _is_smaller(step: Step, here: Mapping[str, JobOnNode]) -> bool:
    return len(_alive(step, here)) < len(_at_work(step))


def _unchanged(step: Step, here: Mapping[str, JobOnNode]) -> list[str]:
    """Return the nodes that go on where a process from before still lives, rank 0's last."""
    leaving = json.loads(step.arguments["leave"])
    before: dict[str, dict[str, list[int]]] = json.loads(step.arguments["before"])
    return [
        node
        for node in _in_order(step)
        if node in here and node not in leaving and set(before[node]["pids"]) & set(here[node].pids)
    ]


def _in_order(step: Step) -> list[str]:
    """Return the nodes of a job in the order in which their workers are ended."""
    before: dict[str, dict[str, list[int]]] = json.loads(step.arguments["before"])
    return sorted(
        before, key=lambda node: _turn(node, before[node]["pids"], before[node].get("ranks", ()))
    )


def _first(here: Mapping[str, JobOnNode]) -> str:
    return min(here, key=lambda node: _turn(node, here[node].pids, here[node].ranks))


def _turn(node: str, pids: Collection[int], ranks: Collection[int]) -> tuple[bool, bool, str]:
    """Sort a node without workers behind those that have some, and rank 0's behind the others."""
    return not pids, 0 in ranks, node
