"""The stream, over a real channel and a real store."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from chipmedic.errors import ConfigError, DeliveryFailed
from chipmedic.model import Chip
from chipmedic.tls_files import TlsFiles
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_simulator.tcp_proxy import TcpProxy
from chipmedic_watchdog.access.served import Served, from_files
from chipmedic_watchdog.config import StreamSettings
from chipmedic_watchdog.intake.bucket import Bucket
from chipmedic_watchdog.intake.orders import collect_now
from chipmedic_watchdog.store import schema
from fake_agent import STOPPABLE_AGENT, FakeAgent, a_fault, a_snapshot, event
from intake_rig import Intake
from waiting import eventually

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
    assert any(m.HasField("snapshot_request") for m in agent.received)
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


class TestSessions:
    async def test_another_machine_may_not_take_a_name(self, intake) -> None:
        async with FakeAgent(intake.address, machine_id="one") as first:
            second = FakeAgent(intake.address, machine_id="two")
            with pytest.raises(AssertionError, match="give one of the two hosts another node name"):
                await second.start()
            code, _ = await second.ending()
            assert code is grpc.StatusCode.ALREADY_EXISTS
            await second.drop()
            await first.events(event(1, a_fault()))
            await first.acked(1)
        async with FakeAgent(intake.address, machine_id="two") as third:
            assert third.welcome is not None, "once the first has gone, the name is free"

    async def test_the_same_machine_replaces_its_old_stream(self, intake) -> None:
        old = FakeAgent(intake.address)
        await old.start()
        async with FakeAgent(intake.address, next_seq=2) as new:
            assert (await old.ending())[0] is grpc.StatusCode.OK
            await new.events(event(1, a_fault()))
            await new.acked(1)
            assert list(intake.sessions.live) == ["node-1"]
            assert not intake.sessions.away
        await old.drop()

    async def test_a_goodbye_is_no_silence(self, intake) -> None:
        agent = FakeAgent(intake.address)
        await agent.start()
        await agent.goodbye()
        assert not intake.sessions.away
        assert intake.rows(schema.nodes)[0]["state"] == "stopped"

    async def test_a_lost_stream_is_silence(self, intake) -> None:
        async with FakeAgent(intake.address):
            pass
        await eventually(lambda: intake.sessions.away)
        assert intake.sessions.silent == {"node-1"}

    async def test_a_new_boot_is_noted(self, intake) -> None:
        async with FakeAgent(intake.address):
            pass
        async with FakeAgent(intake.address, boot_id="boot-2"):
            (fault,) = intake.rows(schema.faults)
        assert (fault["kind"], fault["severity"]) == ("node.rebooted", 1)
        assert fault["evidence"] == ["boot id boot-1 before, boot-2 now"]

    async def test_the_inventory_is_kept_and_replaced(self, intake) -> None:
        chip = Chip(uid="GPU-a", vendor="nvidia", model="H100", index=0, serial="S1")
        async with FakeAgent(intake.address, chips=[chip]) as agent:
            assert intake.rows(schema.chips)[0]["serial"] == "S1"
            snapshot = a_snapshot([], 1)
            other = Chip(uid="GPU-b", vendor="nvidia", model="H100", index=1)
            snapshot.inventory.append(codec.chip_to_message(other, is_missing=True))
            await agent.send(snapshot=snapshot)
            await agent.events(event(1, a_fault()))
            await agent.acked(1)
        (row,) = intake.rows(schema.chips)
        assert (row["uid"], row["is_missing"]) == ("GPU-b", True)

    async def test_a_silent_caller_is_closed(self, database) -> None:
        settings = StreamSettings(listen="127.0.0.1:0", hello_timeout_seconds=0.2)
        async with Intake(database, settings=settings).running() as intake:
            agent = FakeAgent(intake.address)
            await agent.stream.wait_for_connection()
            code, words = await agent.ending()
            assert (code, words) == (grpc.StatusCode.DEADLINE_EXCEEDED, "no hello came")
            await agent.drop()

    async def test_an_agent_that_floods_is_told_to_wait(self, database) -> None:
        settings = StreamSettings(listen="127.0.0.1:0", events_per_second=1, events_burst=512)
        async with Intake(database, settings=settings).running() as intake:
            async with FakeAgent(intake.address) as agent:
                await agent.events(*(event(n, a_fault()) for n in range(1, 513)))
                await agent.acked(512)
                await agent.events(*(event(n, a_fault()) for n in range(513, 1025)))
                await agent.until(lambda: agent.received[-1].HasField("retry_after"))
                asked_seconds = agent.received[-1].retry_after.seconds
                assert 0 < asked_seconds <= 512
                assert (await agent.ending())[0] is grpc.StatusCode.OK
            away = intake.sessions.away["node-1"]
            silence_seconds = away.due - intake.sessions._clock.elapsed()
            assert silence_seconds > asked_seconds / 2, "it waits as it was told"
        assert len(intake.rows(schema.events)) == 512, "what it took in was kept"

    async def test_the_last_message_is_left_out_where_an_earlier_one_does_not_go_out(
        self, intake, caplog
    ) -> None:
        """gRPC refuses a second message while the first is under way to who reads nothing."""
        proxy = await TcpProxy(intake.address, random.Random(0)).start()
        async with FakeAgent(proxy.address):
            session = intake.sessions.live["node-1"]
            proxy.is_frozen = True
            large = pb.WatchdogMessage(command=pb.Command(id="x" * 8_000_000))
            session.send(large)
            session.send(large)
            await eventually(lambda: len(session.outbox) == 1)
            session.end(pb.WatchdogMessage(retry_after=pb.RetryAfter(seconds=1.0, reason="test")))
            await eventually(lambda: "node-1" not in intake.sessions.live)
            proxy.is_frozen = False
        await proxy.stop()
        assert "raised in core" not in caplog.text

    async def test_where_the_kernel_does_not_tell_pings_end_the_stream_of_who_stands_still(
        self, database
    ) -> None:
        async with Intake(database, kernel_tells=False).running() as intake:
            agent = await asyncio.create_subprocess_exec(
                sys.executable, "-c", STOPPABLE_AGENT, Path(__file__).parents[1], intake.address,
                "node-1", stdout=subprocess.PIPE,
            )  # fmt: skip
            await eventually(lambda: intake.sessions.live)
            agent.send_signal(signal.SIGSTOP)
            await eventually(lambda: not intake.sessions.live)
            assert set(intake.sessions.away) == {"node-1"}
            agent.kill()
            await agent.communicate()


class TestOrders:
    async def test_an_agent_looks_when_it_is_asked(self, intake) -> None:
        async with FakeAgent(intake.address) as agent:
            asking = asyncio.create_task(collect_now(intake.sessions, "node-1", ["nvidia"]))
            await agent.until(lambda: agent.received[-1].HasField("command"))
            command = agent.received[-1].command
            assert list(command.collect_now.checks) == ["nvidia"]
            await agent.send(command_result=pb.CommandResult(id="another", ok=True))
            await agent.send(command_result=pb.CommandResult(id=command.id, ok=False, detail="no"))
            assert (await asking).detail == "no"

    async def test_an_agent_that_cannot_be_asked_is_an_error(self, intake) -> None:
        with pytest.raises(DeliveryFailed, match="is not connected"):
            await collect_now(intake.sessions, "node-9")
        async with FakeAgent(intake.address):
            with pytest.raises(DeliveryFailed, match="did not answer"):
                await collect_now(intake.sessions, "node-1", timeout_seconds=0.1)
            asking = asyncio.create_task(collect_now(intake.sessions, "node-1"))
            await asyncio.sleep(0.05)
        with pytest.raises(DeliveryFailed, match="lost its stream"):
            await asking


class TestEncryption:
    async def test_only_agents_of_the_authority_get_in(self, database, tmp_path) -> None:
        """A real authority, made by openssl; a caller without its certificate is not served."""
        make_certificates(tmp_path)
        ca, certificate, key = (
            (tmp_path / name).read_bytes() for name in ("ca.pem", "agent.pem", "agent.key")
        )
        good = grpc.ssl_channel_credentials(ca, key, certificate)
        stranger = grpc.ssl_channel_credentials(ca)
        served = Served(
            from_files(
                TlsFiles(
                    section="stream",
                    certificate_file=str(tmp_path / "server.pem"),
                    key_file=str(tmp_path / "server.key"),
                    ca_file=str(tmp_path / "ca.pem"),
                )
            )
        )
        rig = Intake(
            database,
            settings=StreamSettings(listen="localhost:0"),
            credentials=served.grpc_credentials(),
        )
        async with rig.running() as intake:
            address = intake.address.replace("127.0.0.1", "localhost")
            async with FakeAgent(address, node="localhost", credentials=good) as agent:
                await agent.events(event(1, a_fault()))
                await agent.acked(1)
            refused = FakeAgent(address, credentials=stranger)
            with pytest.raises((AssertionError, grpc.aio.AioRpcError)):
                await refused.start()
            await refused.drop()
        assert len(intake.rows(schema.nodes)) == 1

    def test_a_missing_key_is_named(self) -> None:
        files = TlsFiles(
            section="stream", certificate_file="/nowhere/c.pem", key_file="/nowhere/k.pem"
        )
        with pytest.raises(ConfigError, match=r"stream\.key_file: /nowhere/k\.pem: cannot be"):
            Served(from_files(files))


EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificates(folder: Path) -> None:
    def openssl(line: str, *more: str) -> None:
        words = ["openssl", *line.split(), *more]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)

    openssl("req -x509 -keyout ca.key -out ca.pem -subj /CN=authority -days 2", *EC_KEY)
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    for name in ("server", "agent"):
        openssl(f"req -keyout {name}.key -out {name}.csr -subj /CN={name}", *EC_KEY)
        openssl(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
            f"-out {name}.pem -days 2 -extfile names"
        )


def test_the_bucket_tells_how_long_to_wait() -> None:
    bucket = Bucket(rate_per_second=10, size=100, at=0.0)
    assert bucket.take(100, at=0.0) == 0.0
    assert bucket.take(1, at=0.0) == pytest.approx(5.0)
    assert bucket.take(50, at=5.0) == 0.0
    assert bucket.take(100, at=1000.0) == 0.0, "it never holds more than its size"
    assert bucket.take(1, at=1000.0) > 0
