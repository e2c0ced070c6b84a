"""What one agent may send: each limit stops what is too much, and lets the usual through."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from sqlalchemy import insert

from chipmedic.model import JobStatus
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.config import StreamSettings
from chipmedic_watchdog.intake import commit, limits
from chipmedic_watchdog.intake.board import OPEN_FAULTS_MAX
from chipmedic_watchdog.intake.limits import HELLOS_BURST, Limits, Lines, host_of
from chipmedic_watchdog.intake.message import MESSAGE_MAX_BYTES
from chipmedic_watchdog.intake.refusals import Refused
from chipmedic_watchdog.intake.sessions import OUTBOX_MAX, Session
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.web.figures import STRANGE_KINDS_MAX, read_figures
from fake_agent import FakeAgent, a_coverage, a_fault, a_snapshot, event
from waiting import eventually

CLEARED = pb.TRANSITION_CLEARED


async def test_a_node_that_opens_stream_after_stream_is_refused(intake) -> None:
    for _ in range(HELLOS_BURST):
        async with FakeAgent(intake.address):
            pass
    agent = FakeAgent(intake.address)
    with pytest.raises(AssertionError):
        await agent.start()
    code, words = await agent.ending()
    await agent.drop()
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "node-1 opens streams too often" in words
    assert intake.counted("streams_refused_total", reason="hello_flood") == 1
    async with FakeAgent(intake.address, node="node-2"):
        pass


async def test_a_message_without_end_costs_only_its_sender(intake) -> None:
    agent = FakeAgent(intake.address)
    async with agent, FakeAgent(intake.address, node="node-2") as other:
        await agent.send_bytes(bytes(MESSAGE_MAX_BYTES))
        assert not agent.is_over, "the largest that is taken cannot be read, and is passed over"
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await agent.send_bytes(bytes(MESSAGE_MAX_BYTES + 1))
        code, _ = await agent.ending()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await other.events(event(1, a_fault()))
        await other.acked(1)


async def test_checks_and_jobs_without_end_are_cut(intake, monkeypatch) -> None:
    monkeypatch.setattr(limits, "CHECKS_MAX", 20)
    monkeypatch.setattr(limits, "JOBS_BURST", 30)
    async with FakeAgent(intake.address) as agent:
        for number in range(5):
            some = range(number * 10, number * 10 + 10)
            jobs = [codec.job_to_message(JobStatus(job=f"slurm:{n}", at=1000.0)) for n in some]
            checks = [a_coverage(f"check-{n}") for n in some]
            await agent.send(heartbeat=pb.Heartbeat(at=1000.0, jobs=jobs, coverage=checks))
        await agent.events(event(1, a_fault()))
        await agent.acked(1)
    assert len(intake.rows(schema.coverage)) == 20
    assert len(intake.rows(schema.job_nodes)) == 30
    assert intake.counted("messages_refused_total", reason="too_many_checks") == 3
    assert intake.counted("messages_refused_total", reason="too_many_jobs") == 2


async def test_a_node_opens_no_more_faults_than_a_sick_one_has(intake, caplog) -> None:
    async with FakeAgent(intake.address, next_seq=1) as agent:
        for start in range(1, OPEN_FAULTS_MAX + 501, 500):
            batch = [event(n, a_fault(f"chip:X-{n}")) for n in range(start, start + 500)]
            await agent.events(*batch)
        await agent.acked(OPEN_FAULTS_MAX + 500)
    assert len(intake.rows(schema.faults)) == OPEN_FAULTS_MAX
    assert len(intake.rows(schema.events)) == OPEN_FAULTS_MAX + 500
    assert intake.counted("messages_refused_total", reason="too_many_faults") == 500
    assert caplog.text.count("faults refused: node=node-1") == 1


async def test_faults_that_come_and_go_without_end_open_no_more_rows(intake, monkeypatch) -> None:
    monkeypatch.setattr(commit, "OPENINGS_BURST", 50)
    async with FakeAgent(intake.address, next_seq=1) as agent:
        seq = 1
        for _ in range(2):
            batch = []
            for number in range(100):
                fault = a_fault(f"chip:X-{seq}-{number}")
                batch += [event(seq, fault), event(seq + 1, fault, CLEARED)]
                seq += 2
            await agent.events(*batch)
        await agent.acked(seq - 1)
    assert 50 <= len(intake.rows(schema.faults)) <= 55


async def test_a_snapshot_that_is_too_large_ends_nothing(intake) -> None:
    """What is beyond the limit was not read, so what it lacks may still be there."""
    async with FakeAgent(intake.address, next_seq=1) as agent:
        await agent.events(event(1, a_fault("chip:Z")))
        await agent.acked(1)
        many = [a_fault(f"chip:S-{n}") for n in range(4200)]
        await agent.send(snapshot=a_snapshot(many, 2, [a_coverage()]))
        await agent.events(event(2, a_fault("chip:Y")))
        await agent.acked(2)
        await eventually(lambda: len(intake.rows(schema.faults)) >= OPEN_FAULTS_MAX)
        faults = {row["component"]: row["state"] for row in intake.rows(schema.faults)}
    assert faults["chip:Z"] == "open"
    assert len(faults) == OPEN_FAULTS_MAX


def test_streams_of_one_address_are_counted_and_this_machines_are_not() -> None:
    found, settings = Limits(), StreamSettings(streams_per_address=2)
    for _ in range(2):
        found.enter("ipv4:10.0.0.9:4711", settings)
    with pytest.raises(Refused, match=r"10\.0\.0\.9 has 2 streams already"):
        found.enter("ipv4:10.0.0.9:4712", settings)
    found.enter("ipv4:10.0.0.8:4712", settings)
    found.leave("ipv4:10.0.0.9:4711")
    found.enter("ipv4:10.0.0.9:4713", settings)
    for port in range(10):
        found.enter(f"ipv4:127.0.0.1:{port}", settings)
        found.enter(f"ipv6:%5B::1%5D:{port}", settings)


@pytest.mark.parametrize(
    ("peer", "host"),
    [("ipv4:10.0.0.9:4711", "10.0.0.9"), ("ipv6:%5B::1%5D:80", "::1"), ("ipv6:[::1]:80", "::1"),
     ("unix:/run/x", ""), ("", "")],
)  # fmt: skip
def test_the_host_in_a_peers_name(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_a_trouble_is_said_once_and_then_counted(monkeypatch) -> None:
    lines = Lines()
    assert lines.take("10.0.0.9", "revoked") == 0
    assert [lines.take("10.0.0.9", "revoked") for _ in range(3)] == [None] * 3
    assert lines.take("10.0.0.9", "wrong_node") == 0
    assert lines.take("10.0.0.8", "revoked") == 0
    monkeypatch.setattr(limits, "LINE_SECONDS", 0.0)
    assert lines.take("10.0.0.9", "revoked") == 3


def test_kinds_that_nobody_knows_make_no_series_without_end(database) -> None:
    rows = [
        {"node": "n", "component": f"chip:{n}", "kind": f"strange.{n}" if n else "chip.lost",
         "severity": 3, "action": "none", "node_since": 1.0, "opened_at": 1.0, "updated_at": 1.0,
         "summary": "", "source": "x", "state": "open"}
        for n in range(STRANGE_KINDS_MAX + 20)
    ]  # fmt: skip
    database.write_now(lambda c: c.execute(insert(schema.faults), rows))
    found = database.read_now(read_figures).open_faults
    assert found["chip.lost", "critical"] == 1
    assert found["other", "critical"] == 19
    assert len(found) == STRANGE_KINDS_MAX + 2


async def test_an_agent_that_reads_nothing_is_let_go() -> None:
    session = Session(node="n", machine_id="m", epoch="e", peer="p", opened_at=0.0)
    for _ in range(OUTBOX_MAX):
        session.send(pb.WatchdogMessage())
    assert not session.closing.done()
    session.send(pb.WatchdogMessage())
    assert session.closing.done()
    assert len(session.outbox) == OUTBOX_MAX
