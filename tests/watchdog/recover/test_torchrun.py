"""The torchrun adapter over agents in the store: leaving, starting again in place, giving back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from chipmedic.errors import DeliveryFailed, JobGone
from chipmedic.recoverer import FOREIGN, RecoveryRequest, Rung, Step, StepKind, StepResult
from chipmedic_watchdog.recover.agents import Agents
from chipmedic_watchdog.recover.order_book import Answer
from chipmedic_watchdog.recover.settings import TorchrunSettings
from chipmedic_watchdog.recover.torchrun import Torchrun
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.elastic import JOB, SILENT, ElasticJob
from watchdog.recover.story import NOW, rows

REASON = "chipmedic:inc-000001 memory.uncorrectable"
REFUSED = Answer(is_ok=False, detail='[jobs] allow has no "leave"', is_final=True)
Result = TypeVar("Result")


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


class Rig:
    """An adapter whose calls are made in a thread, as the engine makes them."""

    def __init__(self, database: Database, **settings: float) -> None:
        self.job = ElasticJob(database)
        agents = Agents(database, now=lambda: NOW)
        agents.attach()
        self.clock = Clock()
        self.adapter = Torchrun(TorchrunSettings(**settings), agents, monotonic=self.clock)

    async def plan(self, *nodes: str, jobs: tuple[str, ...] = (JOB,), **more: object) -> list[Step]:
        request = RecoveryRequest(
            incident="inc-000001", reason=REASON, nodes=nodes, jobs=jobs, recovery="rec-1", **more
        )  # type: ignore[arg-type]
        return await self.call(lambda: self.adapter.plan(request))

    async def do(self, step: Step) -> StepResult:
        return await self.call(lambda: self.adapter.do(step))

    async def call(self, work: Callable[[], Result]) -> Result:
        async with self.job.obeying():
            return await asyncio.to_thread(work)


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[Rig]:
    rig = Rig(database, answer_timeout_seconds=20.0)
    rig.job.start("n1", "n2")
    yield rig
    assert rows(database, schema.agent_orders) == [], "who asked takes the answer away"


async def test_the_sick_node_leaves_and_a_spare_takes_its_place(rig: Rig) -> None:
    rig.job.spares = ["n3"]
    isolate, restart = await rig.plan("n2")
    assert (isolate.kind, restart.kind) == (StepKind.ISOLATE, StepKind.RESTART)
    assert restart.rung is Rung.SPARE
    assert (await rig.do(isolate)).undo == {"owner": "chipmedic"}
    assert rig.job.kept_out == {"n2": REASON}
    result = await rig.do(restart)
    assert result == StepResult(is_done=True, detail="formed anew on n1, n3; new in it: n3")
    assert (await rig.call(lambda: rig.adapter.confirm(restart))).is_done
    assert rig.job.acts == ["keep_out n2", "leave n2"]


async def test_without_a_spare_it_goes_on_with_fewer(rig: Rig) -> None:
    _, restart = await rig.plan("n2")
    assert not (await rig.do(restart)).is_done, "a spare may only not be reported yet"
    rig.clock.at = 31.0
    assert await rig.do(restart) == StepResult(
        is_done=True, detail="formed anew on n1; 2 nodes before"
    )


async def test_after_a_restart_of_the_watchdog_everything_is_found_done(rig: Rig) -> None:
    rig.job.spares = ["n3"]
    isolate, restart = await rig.plan("n2")
    await rig.do(isolate)
    await rig.do(restart)
    rig.adapter._acted.clear()
    assert (await rig.do(isolate)).undo == {"owner": "chipmedic"}
    assert (await rig.do(restart)).is_done


async def test_nodes_that_do_not_notice_have_their_workers_ended(rig: Rig) -> None:
    rig.job.stuck = {"n1"}
    _, restart = await rig.plan("n2")
    first = await rig.do(restart)
    assert first == StepResult(is_done=False, detail="no new workers yet on n1")
    rig.clock.at = 19.0
    assert not (await rig.do(restart)).is_done
    assert rig.job.acts == ["leave n2"]
    rig.clock.at = 21.0
    await rig.do(restart)
    assert rig.job.acts == ["leave n2", "restart n1"]
    rig.clock.at = 60.0
    assert (await rig.do(restart)).is_done


async def test_a_job_that_must_leave_no_node_starts_again_in_place(rig: Rig) -> None:
    (restart,) = await rig.plan()
    assert restart.rung is Rung.IN_PLACE
    assert (await rig.do(restart)).detail == "formed anew on n1, n2"
    assert rig.job.acts == ["restart n1"]


async def test_the_node_of_rank_0_comes_last(rig: Rig) -> None:
    """Its first worker serves the store of all: who loses that fails, and pays with a restart."""
    rig.job.ranks = {"n1": [0, 1], "n2": [2, 3], "n3": [4, 5]}
    rig.job.stuck = {"n1", "n3"}
    rig.job.start("n1", "n2", "n3")
    (restart,) = await rig.plan()
    assert "tell the agent of n2" in restart.description
    await rig.do(restart)
    for rig.clock.at in (21.0, 42.0):
        await rig.do(restart)
    assert rig.job.acts == ["restart n2", "restart n3", "restart n1"]


async def test_a_node_without_workers_is_not_asked_to_end_them(rig: Rig) -> None:
    rig.job.ranks = {"n1": [2, 3], "n2": [0, 1]}
    rig.job.nodes["n1"] = []
    rig.job.report()
    (restart,) = await rig.plan()
    await rig.do(restart)
    assert rig.job.acts == ["restart n2"]


async def test_a_node_that_is_isolated_already_is_left_too(rig: Rig) -> None:
    (restart,) = await rig.plan(leaving=("n2",))
    await rig.do(restart)
    assert rig.job.acts == ["leave n2"]


async def test_a_job_that_is_over_is_gone_and_one_whose_processes_all_died_is_not(rig: Rig) -> None:
    with pytest.raises(JobGone):
        await rig.plan(jobs=("torchrun:other",))
    rig.job.nodes = {"n1": [], "n2": []}
    rig.job.report()
    (restart,) = await rig.plan()
    assert restart.rung is Rung.IN_PLACE
    rig.job.phase = "done"
    rig.job.report()
    with pytest.raises(JobGone):
        await rig.plan()


async def test_a_node_whose_workers_are_not_back_yet_is_waited_for(rig: Rig) -> None:
    rig.job.late = {"n1"}
    (restart,) = await rig.plan()
    result = await rig.do(restart)
    assert not result.is_done
    assert result.detail.startswith("no workers yet on n1")
    rig.job.start("n1")
    assert (await rig.do(restart)).detail == "formed anew on n1, n2"


async def test_a_spare_that_was_quicker_counts(rig: Rig) -> None:
    rig.job.late = {"n1"}
    (restart,) = await rig.plan()
    await rig.do(restart)
    rig.job.start("n3")
    assert (await rig.do(restart)).detail == "formed anew on n2, n3; new in it: n3"


async def test_launchers_that_wait_for_more_nodes_are_said(rig: Rig) -> None:
    rig.job.nodes.pop("n1")
    rig.job.report()
    _, restart = await rig.plan("n2")
    result = await rig.do(restart)
    assert not result.is_done
    assert "rendezvous" in result.detail


async def test_a_node_on_which_it_is_not_allowed_says_so_at_once(rig: Rig) -> None:
    isolate, _ = await rig.plan("n2")
    rig.job.answers["n2"] = REFUSED
    with pytest.raises(DeliveryFailed, match=r"n2: \[jobs\] allow") as e:
        await rig.do(isolate)
    assert e.value.is_permanent


async def test_a_node_that_does_not_answer_is_tried_again(database: Database) -> None:
    rig = Rig(database, answer_timeout_seconds=0.3)
    rig.job.start("n1", "n2")
    isolate, _ = await rig.plan("n2")
    rig.job.answers["n2"] = SILENT
    with pytest.raises(DeliveryFailed, match=r"n2: its agent has not answered within 0\.3 s") as e:
        await rig.do(isolate)
    assert not e.value.is_permanent
    assert rows(database, schema.agent_orders) == []


async def test_what_a_person_keeps_out_is_left_as_it_is(rig: Rig) -> None:
    isolate, _ = await rig.plan("n2")
    rig.job.kept_out["n2"] = "new fans, Maria"
    assert (await rig.do(isolate)).undo["owner"] == FOREIGN
    back = Step(
        kind=StepKind.RETURN, target="n2", description="", timeout_seconds=9.0,
        arguments={"reason": REASON},
    )  # fmt: skip
    assert (await rig.call(lambda: rig.adapter.confirm(back))).is_done
    rig.job.kept_out["n2"] = REASON
    assert (await rig.call(lambda: rig.adapter.confirm(isolate))).is_done
    assert not (await rig.call(lambda: rig.adapter.confirm(back))).is_done
    assert (await rig.do(back)).is_done
    assert rig.job.kept_out == {}
    assert not (await rig.call(lambda: rig.adapter.confirm(isolate))).is_done


@pytest.mark.parametrize(
    ("leaving", "can"),
    [
        ((), {Rung.IN_PLACE}),
        (("n3",), {Rung.IN_PLACE}),
        (("n2",), {Rung.SPARE, Rung.SHRINK}),
        (("n1", "n2"), {Rung.SPARE}),
    ],
)
async def test_rungs(rig: Rig, leaving: tuple[str, ...], can: set[Rung]) -> None:
    said = await rig.call(lambda: rig.adapter.rungs(JOB, leaving))
    assert set(said) == {Rung.IN_PLACE, Rung.SPARE, Rung.SHRINK}
    assert {rung for rung, why in said.items() if not why} == can


async def test_nothing_is_asked_before_the_loop_runs(database: Database) -> None:
    with pytest.raises(DeliveryFailed, match="only starting"):
        Agents(database).job(JOB)
