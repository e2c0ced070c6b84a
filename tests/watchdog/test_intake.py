"""The stream, over a real channel and a real store."""

from __future__ import annotations

import grpc
import pytest

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.store import schema
from fake_agent import FakeAgent, a_fault, event

CLEARED = pb.TRANSITION_CLEARED


async def test_a_fault_is_durable_before_it_is_acknowledged(intake) -> None:
    async with FakeAgent(intake.address) as agent:
        assert agent.welcome is not None
        assert agent.welcome.acked_seq == 0
        assert agent.welcome.heartbeat_seconds == 5.0
        await agent.events(event(1, a_fault(codes=("xid:48",))))
        await agent.acked(1)
        (fault,) = intake.rows(schema.faults)
        (stored,) = intake.rows(schema.events)
    assert (fault["node"], fault["component"], fault["state"]) == ("node-1", "chip:GPU-a", "open")
    assert fault["codes"] == ["xid:48"]
    assert stored["transition"] == "raised"
    assert stored["body"]["evidence"] == ["a line"]
    assert intake.counted("events_committed_total") == 1


async def test_repeated_events_have_no_effect(intake) -> None:
    async with FakeAgent(intake.address) as agent:
        await agent.events(event(1, a_fault()), event(2, a_fault(), CLEARED, detail="reset"))
        await agent.acked(2)
    async with FakeAgent(intake.address, next_seq=3) as agent:
        assert agent.acked_seq == 2
        await agent.events(event(1, a_fault()), event(2, a_fault(), CLEARED))
        await agent.events(event(3, a_fault("chip:GPU-b")))
        await agent.acked(3)
    faults = {(f["component"], f["state"], f["clear_reason"]) for f in intake.rows(schema.faults)}
    assert faults == {("chip:GPU-a", "cleared", "reset"), ("chip:GPU-b", "open", "")}
    assert len(intake.rows(schema.events)) == 3
    assert intake.counted("events_duplicate_total") == 2


async def test_a_fault_that_comes_and_goes_in_one_batch_leaves_its_history(intake) -> None:
    fault = a_fault()
    async with FakeAgent(intake.address) as agent:
        await agent.events(
            event(1, fault), event(2, fault, CLEARED), event(3, fault), event(4, fault, CLEARED),
            event(5, fault),
        )  # fmt: skip
        await agent.acked(5)
    assert [f["state"] for f in intake.rows(schema.faults)] == ["cleared", "cleared", "open"]


async def test_a_hole_in_the_numbering_is_noted(intake) -> None:
    async with FakeAgent(intake.address) as agent:
        await agent.events(event(1, a_fault()), event(5, a_fault("chip:GPU-b")))
        await agent.acked(5)
    gap = next(e for e in intake.rows(schema.events) if e["transition"] == "gap")
    assert gap["body"]["detail"] == "3 events never arrived: seq 2..4"
    assert intake.counted("events_missing_total") == 3


async def test_events_that_are_lost_while_away_are_noted(intake) -> None:
    async with FakeAgent(intake.address) as agent:
        await agent.events(event(1, a_fault()))
        await agent.acked(1)
    async with FakeAgent(intake.address, first_seq=11, next_seq=12) as agent:
        assert agent.acked_seq == 10
    assert intake.counted("events_missing_total") == 9


class TestBadInput:
    async def test_an_event_that_cannot_be_used_is_kept_and_acknowledged(self, intake) -> None:
        bad = event(2, a_fault())
        bad.fault.component = "wheel:front"
        async with FakeAgent(intake.address) as agent:
            await agent.events(event(1, a_fault()), bad, event(3, a_fault("chip:GPU-c")))
            await agent.acked(3)
        stored = {e["seq"]: e for e in intake.rows(schema.events)}
        assert stored[2]["transition"] == "unreadable"
        assert "wheel" in stored[2]["body"]["detail"]
        assert stored[3]["transition"] == "raised"
        assert intake.counted("events_unreadable_total") == 1

    async def test_damage_inside_a_batch_costs_one_event(self, intake) -> None:
        good = [event(n, a_fault(f"chip:GPU-{n}")).SerializeToString() for n in (1, 3)]
        # Field 5 (detail) as text that is not UTF-8: the library refuses the whole message.
        damaged = pb.Event(seq=2, at=1.0).SerializeToString() + b"\x2a\x02\xff\xfe"
        pieces = [good[0], damaged, good[1]]
        batch = b"".join(b"\x0a" + bytes([len(p) & 127 | 128, len(p) >> 7]) + p for p in pieces)
        length = bytes([len(batch) & 127 | 128, len(batch) >> 7])
        async with FakeAgent(intake.address) as agent:
            await agent.send_bytes(b"\x12" + length + batch)
            await agent.acked(3)
        stored = {e["seq"]: e["transition"] for e in intake.rows(schema.events)}
        assert stored == {1: "raised", 2: "unreadable", 3: "raised"}

    async def test_garbage_costs_only_itself(self, intake) -> None:
        async with FakeAgent(intake.address) as agent:
            await agent.send_bytes(b"\xff" * 40)
            await agent.send(heartbeat=pb.Heartbeat(at=float("nan")))
            await agent.send()
            await agent.events(event(1, a_fault()))
            await agent.acked(1)
        assert intake.counted("messages_refused_total", reason="malformed") == 2
        assert intake.counted("messages_refused_total", reason="unknown") == 1

    async def test_an_event_without_a_number_is_counted(self, intake) -> None:
        async with FakeAgent(intake.address) as agent:
            await agent.events(event(0, a_fault()), event(1, a_fault()))
            await agent.acked(1)
        assert intake.counted("messages_refused_total", reason="no_seq") == 1

    async def test_numbers_beyond_the_store_do_not_stop_it(self, intake) -> None:
        async with FakeAgent(intake.address) as agent:
            await agent.events(event((1 << 64) - 1, a_fault()))
            await agent.send(heartbeat=pb.Heartbeat(at=1.0, backlog_events=(1 << 64) - 1))
            await agent.events(event(1, a_fault(count=(1 << 32) - 1)))
            await agent.acked(1)
        assert not intake.health.problems

    async def test_a_batch_over_the_limit_ends_the_stream_with_the_reason(self, intake) -> None:
        async with FakeAgent(intake.address) as agent:
            await agent.events(*(event(n, a_fault()) for n in range(1, 514)))
            code, words = await agent.ending()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "513 events" in words
        assert intake.rows(schema.events) == []

    @pytest.mark.parametrize(
        ("hello", "problem"),
        [
            ({"node": ""}, "node"),
            ({"node": "a\nb"}, "node"),
            ({"epoch": ""}, "epoch"),
            ({"first_seq": 9, "next_seq": 2}, "do not fit"),
        ],
    )
    async def test_a_bad_hello_is_refused(self, intake, hello, problem) -> None:
        agent = FakeAgent(intake.address, **hello)
        with pytest.raises(AssertionError, match=problem):
            await agent.start()
        await agent.drop()

    async def test_the_first_message_must_be_a_hello(self, intake) -> None:
        agent = FakeAgent(intake.address)
        await agent.events(event(1, a_fault()))
        code, words = await agent.ending()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "Hello" in words
        await agent.drop()
