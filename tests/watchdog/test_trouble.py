"""A store that refuses, and input that no version of the contract can mean."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chipmedic.model import Verdict
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.intake import message, wire
from chipmedic_watchdog.intake.arrival import Arrival
from chipmedic_watchdog.intake.commit import Memory, commit_group
from chipmedic_watchdog.intake.message import Batch
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from fake_agent import FakeAgent, a_fault, event
from intake_rig import Intake
from small_disk import fill, small_disk
from waiting import eventually


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", "4m") as place:
        yield place


async def test_a_full_disk_loses_nothing(disk) -> None:
    engine = open_engine(f"sqlite:///{disk}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    recovered: list[int] = []
    async with Intake(database).running() as intake:
        intake.committer.on_recovered = lambda: recovered.append(1)
        async with FakeAgent(intake.address) as agent:
            await agent.events(event(1, a_fault()))
            await agent.acked(1)
            filler = fill(disk)
            for start in range(2, 1002, 100):
                events = (event(n, a_fault(f"chip:GPU-{n}")) for n in range(start, start + 100))
                await agent.events(*events)
            await eventually(lambda: "store" in intake.health.problems)
            await asyncio.sleep(0.5)
            assert agent.acked_seq < 1001, "nothing is acknowledged that is not on the disk"
            assert not agent.is_over, "and nobody is sent away for it"
            assert "full" in intake.health.problems["store"]
            assert intake.counted("store_failing") == 1
            filler.unlink()
            await agent.acked(1001)
            assert intake.health.status == "ok"
            assert recovered == [1]
            assert intake.counted("store_failing") == 0
        assert sorted(e["seq"] for e in intake.rows(schema.events)) == list(range(1, 1002))
    database.close()


async def test_what_cannot_be_stored_costs_only_its_sender(intake, monkeypatch) -> None:
    """A value that the database cannot take: it must not hold up the others in its group."""
    monkeypatch.setattr(message, "INTEGER_MAX", 1 << 70)  # the guard that makes it impossible
    bad = FakeAgent(intake.address, "bad")
    async with bad, FakeAgent(intake.address, "good") as good:
        await bad.send(heartbeat=pb.Heartbeat(at=1.0, backlog_events=(1 << 64) - 1))
        await bad.events(event((1 << 64) - 1, a_fault()))
        await good.events(event(1, a_fault()))
        await good.acked(1)
        await bad.ending()
    assert intake.counted("messages_refused_total", reason="unstorable") == 2
    assert [e["node"] for e in intake.rows(schema.events)] == ["good"]


FAULT = st.builds(
    pb.Fault,
    component=st.sampled_from(["chip:a", "host", "wheel:x", "", "job:slurm:1"]) | st.text(),
    kind=st.text(max_size=20),
    severity=st.integers(0, 9),
    action=st.text(max_size=10),
    since=st.floats(),
    summary=st.text(),
    source=st.text(max_size=10),
    codes=st.lists(st.text(max_size=9), max_size=3),
    evidence=st.lists(st.text(), max_size=3),
    count=st.integers(0, (1 << 32) - 1),
    job=st.text(max_size=10),
)
EVENT = st.builds(
    pb.Event,
    seq=st.integers(0, (1 << 64) - 1) | st.integers(0, 20),
    at=st.floats(),
    transition=st.integers(0, 9),
    fault=FAULT,
    detail=st.text(),
    boot_id=st.text(max_size=9),
)
JOB = st.builds(
    pb.Job,
    job=st.text(max_size=9),
    at=st.floats(),
    chips=st.lists(st.text(max_size=5), max_size=2),
    pids=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=2),
    ranks=st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=2),
    step=st.integers(-(1 << 63), (1 << 63) - 1),
    step_at=st.floats(),
    phase=st.text(max_size=5),
    checkpoint_step=st.integers(-(1 << 63), (1 << 63) - 1),
    attempt=st.integers(0, (1 << 32) - 1),
    labels=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)
CHIP = st.builds(
    pb.Chip,
    uid=st.text(max_size=5),
    vendor=st.text(max_size=5),
    model=st.text(max_size=5),
    index=st.integers(-(1 << 31), (1 << 31) - 1),
    is_missing=st.booleans(),
)
COVERAGE = st.builds(
    pb.Coverage, check=st.text(max_size=5), at=st.floats(), verdict=st.integers(0, 9)
)
MESSAGE = st.builds(
    pb.AgentMessage,
    events=st.builds(pb.EventBatch, events=st.lists(EVENT, max_size=4)),
) | st.one_of(
    st.builds(
        pb.AgentMessage,
        heartbeat=st.builds(
            pb.Heartbeat,
            at=st.floats(),
            coverage=st.lists(COVERAGE, max_size=2),
            jobs=st.lists(JOB, max_size=2),
            backlog_events=st.integers(0, (1 << 64) - 1),
        ),
    ),
    st.builds(
        pb.AgentMessage,
        snapshot=st.builds(
            pb.Snapshot,
            at=st.floats(),
            open=st.lists(FAULT, max_size=3),
            coverage=st.lists(COVERAGE, max_size=2),
            jobs=st.lists(JOB, max_size=2),
            inventory=st.lists(CHIP, max_size=2),
            as_of_seq=st.integers(0, (1 << 64) - 1),
        ),
    ),
)


def take(data: bytes) -> message.ReceivedHeartbeat | message.ReceivedSnapshot | Batch | None:
    """Read a message as the stream's reader does."""
    received = message.parse(data)
    if not isinstance(received, pb.AgentMessage):
        return received if isinstance(received, Batch) else None
    try:
        match received.WhichOneof("body"):
            case "events":
                return message.batch(received.events, len(data))
            case "heartbeat":
                return message.heartbeat(received.heartbeat)
            case "snapshot":
                return message.snapshot(received.snapshot)
    except ValueError:
        return None
    return None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('fuzz')}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    yield database
    database.close()


@given(sent=MESSAGE)
def test_whatever_an_agent_says_can_be_stored(store: Database, sent: pb.AgentMessage) -> None:
    body = take(sent.SerializeToString())
    if body is None:
        return
    arrival = Arrival(node="n", epoch="e", received_at=5.0, body=body)
    store.write_now(lambda connection: commit_group(connection, [arrival], Memory()))
    assert_possible(body)


def assert_possible(body: message.ReceivedHeartbeat | message.ReceivedSnapshot | Batch) -> None:
    """What was read can be meant: times that are some, events in order, verdicts that are known."""
    if isinstance(body, Batch):
        numbers = [event.seq for event in body.events]
        assert numbers == sorted(numbers)
        assert all(1 <= number <= message.INTEGER_MAX for number in numbers)
        assert all(0 <= event.at < math.inf for event in body.events)
        known = {"raised", "updated", "cleared"}
        assert all((e.transition in known) == (e.fault is not None) for e in body.events)
        return
    if isinstance(body, message.ReceivedSnapshot):
        assert all(0 <= fault.since < math.inf for fault in body.open)
        assert 0 <= body.as_of_seq <= message.INTEGER_MAX
        body = body.beat
    assert 0 <= body.at < math.inf
    assert all(isinstance(one.verdict, Verdict) for one in body.coverage)
    assert (body.job_names is None) or body.job_names == {job.job for job in body.jobs}


@given(st.binary(max_size=200))
@example(b"\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80")
@example(b"\x0b\x0c")
def test_the_parts_of_any_bytes_lie_in_them(data: bytes) -> None:
    body = take(data)
    if body is not None:
        assert_possible(body)
    taken = [value for _, value in wire.fields(data)]
    assert len(taken) <= len(data) // 2, "the least field is a tag and a value"
    assert sum(len(value) for value in taken if isinstance(value, bytes)) <= len(data)
    assert all(0 <= value < 1 << 64 for value in taken if isinstance(value, int))


@given(st.lists(EVENT, max_size=6))
def test_by_hand_is_read_what_the_library_reads(events: list[pb.Event]) -> None:
    whole = pb.EventBatch(events=events).SerializeToString()
    pieces = wire.parts(whole, 1)
    assert pieces == [event.SerializeToString() for event in events]
    assert [wire.first_integer(piece, 1) or 0 for piece in pieces] == [e.seq for e in events]


@given(sent=MESSAGE, data=st.data())
def test_what_is_read_of_a_damaged_message_is_possible(
    sent: pb.AgentMessage, data: st.DataObject
) -> None:
    whole = bytearray(sent.SerializeToString())
    if whole:
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    body = take(bytes(whole))
    if body is not None:
        assert_possible(body)
