"""An order in the store is given to the agent whose stream is here, and its answer is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from chipmedic.errors import StoreError
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.recover import order_runner
from chipmedic_watchdog.recover.agents import Agents
from chipmedic_watchdog.recover.order_book import Answer, Order
from chipmedic_watchdog.recover.order_runner import OrderRunner
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from fake_agent import FakeAgent
from intake_rig import Intake
from waiting import eventually
from watchdog.recover.story import NOW

ORDER = Order(node="node-1", act="leave", job="torchrun:a", reason="chipmedic:inc-1", attempt=2)


@asynccontextmanager
async def running(intake: Intake) -> AsyncIterator[Agents]:
    runner = OrderRunner(intake.database, intake.sessions, now=lambda: NOW)
    agents = Agents(intake.database, now=lambda: NOW, on_ask=runner.wake)
    agents.attach()
    task = asyncio.create_task(runner.run())
    try:
        yield agents
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_an_agent_is_asked_and_its_answer_comes_back(intake: Intake) -> None:
    async with running(intake) as agents, FakeAgent(intake.address) as agent:
        asking = asyncio.create_task(asyncio.to_thread(agents.ask, ORDER, timeout_seconds=60.0))
        await agent.until(lambda: agent.received[-1].HasField("command"))
        command = agent.received[-1].command
        assert command.job_act == pb.JobAct(
            act="leave", job="torchrun:a", reason="chipmedic:inc-1", attempt=2
        )
        await agent.send(
            command_result=pb.CommandResult(id=command.id, ok=False, detail="no", is_final=True)
        )
        assert await asking == Answer(is_ok=False, detail="no", is_final=True)
    assert intake.rows(schema.agent_orders) == []


async def test_a_stream_that_is_lost_meanwhile_is_no_answer(intake: Intake) -> None:
    async with running(intake) as agents:
        async with FakeAgent(intake.address) as agent:
            asking = asyncio.create_task(asyncio.to_thread(agents.ask, ORDER, timeout_seconds=60.0))
            await agent.until(lambda: agent.received[-1].HasField("command"))
        async with FakeAgent(intake.address) as agent:
            await agent.until(lambda: agent.received[-1].HasField("command"))
            command = agent.received[-1].command
            await agent.send(command_result=pb.CommandResult(id=command.id, ok=True, detail="ok"))
            assert (await asking).is_ok


async def test_a_node_that_is_not_here_is_silent(intake: Intake) -> None:
    async with running(intake) as agents:
        said = await asyncio.to_thread(agents.ask, ORDER, timeout_seconds=0.3)
        assert said == Answer(is_ok=False, detail="its agent has not answered within 0.3 s")
    assert intake.rows(schema.agent_orders) == []


class AwayStore:
    """A store that cannot be read at first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.asked = 0

    async def read(self, work: Any) -> Any:
        self.asked += 1
        if self.asked <= 5:
            raise StoreError("store: connection refused")
        return await self._database.read(work)


async def test_a_store_that_is_away_is_said_once(
    intake: Intake, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_runner, "LOOK_SECONDS", 0.01)
    store = AwayStore(intake.database)
    runner = OrderRunner(store, intake.sessions, now=lambda: NOW)  # type: ignore[arg-type]  reads
    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(runner.run())
        await eventually(lambda: store.asked > 6)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert caplog.messages == ["orders to agents wait for the store: why=store: connection refused"]
