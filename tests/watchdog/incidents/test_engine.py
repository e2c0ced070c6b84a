"""The engine over a real store, fed by real streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from chipmedic.model import JobStatus, Severity
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.engine import IncidentEngine
from chipmedic_watchdog.store import schema
from fake_agent import FakeAgent, a_fault, event
from intake_rig import Intake
from waiting import PATIENCE_SECONDS, eventually

CLEARED = pb.TRANSITION_CLEARED


@pytest.fixture
async def engine(intake: Intake) -> AsyncIterator[IncidentEngine]:
    engine = IncidentEngine(
        intake.database, intake.sessions, intake.metrics, intake.health, IncidentSettings()
    )
    intake.committer.on_faults = engine.wake
    working = asyncio.create_task(engine.run())
    yield engine
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def test_a_fault_becomes_an_incident_at_once(intake, engine) -> None:
    opened = asyncio.Event()
    engine.on_change = opened.set
    async with FakeAgent(intake.address) as agent:
        await agent.events(event(1, a_fault(codes=("xid:48",))))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await opened.wait()
        (incident,) = intake.rows(schema.incidents)
        (fault,) = intake.rows(schema.faults)
        assert fault["incident"] == incident["id"] == "inc-000001"
        assert incident["root_fault"] == fault["id"]
        assert (incident["state"], incident["severity"], incident["revision"]) == ("open", 3, 1)
        await agent.events(event(2, a_fault(), CLEARED))
        await eventually(lambda: intake.rows(schema.incidents)[0]["state"] == "resolved")
        (incident,) = intake.rows(schema.incidents)
        assert incident["revision"] == 2
        assert incident["resolve_reason"] == "every fault of it has cleared"


async def test_a_warning_settles_and_info_stays_out(intake, engine) -> None:
    async with FakeAgent(intake.address) as agent:
        await agent.events(
            event(1, a_fault("chip:GPU-a", "pcie.errors", severity=Severity.WARNING)),
            event(2, a_fault("chip:GPU-b", "chip.reset", severity=Severity.INFO)),
        )
        await eventually(lambda: intake.rows(schema.incidents))
        await asyncio.sleep(0.5)
    assert [i["kind"] for i in intake.rows(schema.incidents)] == ["pcie.errors"]


async def test_a_hang_finds_its_chip_through_the_job(intake, engine) -> None:
    def job(chip: str) -> pb.Job:
        return codec.job_to_message(JobStatus(job="slurm:7", at=1.0, chips=(chip,), step=5))

    async with FakeAgent(intake.address, "n1") as one, FakeAgent(intake.address, "n2") as two:
        await one.send(heartbeat=pb.Heartbeat(at=1.0, jobs=[job("GPU-a")]))
        await two.send(heartbeat=pb.Heartbeat(at=1.0, jobs=[job("GPU-b")]))
        await two.events(event(1, a_fault("link:GPU-b/2", "link.down")))
        hang = a_fault("job:slurm:7", "job.hung", source="jobs", job="slurm:7")
        await one.events(event(1, hang))
        await eventually(lambda: len([f for f in intake.rows(schema.faults) if f["incident"]]) == 2)
    (incident,) = intake.rows(schema.incidents)
    assert (incident["kind"], incident["cause"]) == ("link.down", "job.root/1")
    assert (incident["jobs"], incident["nodes"]) == (["slurm:7"], ["n1", "n2"])


async def test_backlog_is_judged_when_it_is_all_in(intake, engine) -> None:
    """Two days of history in which a fault came and went page nobody."""
    async with FakeAgent(intake.address, next_seq=4) as agent:
        await agent.events(event(1, a_fault()))
        await agent.acked(1)
        await asyncio.sleep(0.4)
        assert intake.rows(schema.incidents) == []
        await agent.events(event(2, a_fault(), CLEARED), event(3, a_fault("chip:GPU-b")))
        await eventually(lambda: intake.rows(schema.incidents))
    (incident,) = intake.rows(schema.incidents)
    (root,) = [f for f in intake.rows(schema.faults) if f["id"] == incident["root_fault"]]
    assert root["component"] == "chip:GPU-b"


async def test_what_came_back_soon_reopens(intake, engine) -> None:
    async with FakeAgent(intake.address) as agent:
        await agent.events(event(1, a_fault()))
        await eventually(lambda: intake.rows(schema.incidents))
        await agent.events(event(2, a_fault(), CLEARED))
        await eventually(lambda: intake.rows(schema.incidents)[0]["state"] == "resolved")
        await agent.events(event(3, a_fault()))
        await eventually(lambda: intake.rows(schema.incidents)[0]["state"] == "open")
    (incident,) = intake.rows(schema.incidents)
    assert (incident["reopened_count"], incident["revision"]) == (1, 3)
    assert incident["resolved_at"] is None
