"""The way back on a real Slurm: drained by us, checked by its agent, resumed, and on probation."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import update

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.recover import probation
from chipmedic_watchdog.recover.gate_runner import GateRunner
from chipmedic_watchdog.recover.settings import GateSettings, Mode, RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from fake_agent import FakeAgent
from intake_rig import Intake
from system.slurm.cluster import Cluster
from system.slurm.watching import bad_chip, recovering, rows
from waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def mend(database: Database) -> None:
    """Its fault is over."""

    def write(connection: Any) -> None:
        connection.execute(update(schema.faults).values(state="cleared"))
        values = {"state": "resolved", "resolved_at": time.time()}
        connection.execute(update(schema.incidents).values(**values))

    database.write_now(write)


async def answer(agent: FakeAgent, nth: int, *, is_fit: bool, words: str) -> None:
    """Answer the nth check that the agent is asked for."""

    def asked() -> list[pb.Command]:
        commands = [m.command for m in agent.received if m.HasField("command")]
        return [command for command in commands if command.WhichOneof("body") == "run_gate"]

    await agent.until(lambda: len(asked()) > nth)
    result = pb.CommandResult(id=asked()[nth].id, ok=is_fit, detail=words)
    await agent.send(command_result=result)


def gate_of(database: Database) -> tuple[str, str]:
    (isolation,) = rows(database, schema.isolations)
    return isolation["gate"], isolation["gate_detail"]


async def test_a_node_comes_back_by_itself_once_its_agent_finds_it_well(
    cluster: Cluster, database: Database
) -> None:
    checks = GateSettings(retry_seconds=1.0)
    async with (
        Intake(database).running() as intake,
        FakeAgent(intake.address, node="chip-a1") as agent,
        recovering(cluster, database, return_mode=Mode.ACT, gate=checks, poll_seconds=0.5) as loop,
    ):
        runner = GateRunner(
            database, intake.sessions, token=lambda: 0, timeout_seconds=lambda: 60.0,
            now=time.time, on_change=loop.wake,
        )  # fmt: skip
        checking = asyncio.create_task(runner.run())
        bad_chip(database, "chip-a1", "slurm:4711")  # a job that Slurm does not know any more
        loop.wake()
        # The newest may be one about the job already, which finds that there is none.
        await eventually(
            lambda: [r["state"] for r in rows(database, schema.recoveries)][:1] == ["done"]
        )
        assert cluster.states()["chip-a1"] == "drained"

        mend(database)
        loop.wake()
        await answer(agent, 0, is_fit=False, words="chip GPU-77 is missing")
        await eventually(lambda: gate_of(database) == ("failed", "chip GPU-77 is missing"))
        assert cluster.states()["chip-a1"] == "drained"

        await answer(agent, 1, is_fit=True, words="9 checks are ok")
        await asyncio.to_thread(cluster.wait, "back", lambda: cluster.states()["chip-a1"] == "idle")
        await eventually(lambda: rows(database, schema.isolations)[0]["returned_at"] is not None)
        checking.cancel()
        with suppress(asyncio.CancelledError):
            await checking
    settings = RecoverSettings()
    assert database.read_now(lambda c: probation.nodes(c, settings, time.time())) == {"chip-a1"}
    acts = [row["act"] for row in rows(database, schema.audit)]
    assert [act for act in acts if act.startswith(("isolate", "check", "return"))] == [
        "isolate", "check failed", "check passed", "return",
    ]  # fmt: skip
