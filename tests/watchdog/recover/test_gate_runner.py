"""A check that the leader asks for in the store is run by the agent, and its answer is kept."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.recover.gate_runner import GateRunner
from chipmedic_watchdog.store import schema
from fake_agent import FakeAgent
from intake_rig import Intake
from waiting import PATIENCE_SECONDS, eventually
from watchdog.recover.story import NOW, put


@pytest.mark.parametrize(("is_fit", "state"), [(True, "passed"), (False, "failed")])
async def test_an_agent_is_asked_and_its_answer_is_kept(
    intake: Intake, *, is_fit: bool, state: str
) -> None:
    for node in ("node-1", "node-2"):
        put(
            intake.database, schema.isolations, node=node, adapter="slurm", incident="inc-000001",
            reason="chipmedic:inc-000001", undo={}, isolated_at=NOW, gate="asked", gate_at=NOW,
        )  # fmt: skip
    runner = GateRunner(
        intake.database, intake.sessions, token=lambda: 7, timeout_seconds=lambda: PATIENCE_SECONDS,
        now=lambda: NOW + 9,
    )  # fmt: skip
    async with FakeAgent(intake.address) as agent:
        task = asyncio.create_task(runner.run())
        await agent.until(lambda: agent.received[-1].HasField("command"))
        command = agent.received[-1].command
        assert command.WhichOneof("body") == "run_gate"
        assert command.fencing_token == 7
        words = "9 checks are ok" if is_fit else "chip GPU-12 is missing"
        await agent.send(command_result=pb.CommandResult(id=command.id, ok=is_fit, detail=words))
        await eventually(
            lambda: {row["gate"] for row in intake.rows(schema.isolations)} != {"asked"}
        )
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    found = {
        row["node"]: (row["gate"], row["gate_detail"]) for row in intake.rows(schema.isolations)
    }
    assert found["node-1"] == (state, words)
    assert found["node-2"][0] == "asked", "its agent is elsewhere"
