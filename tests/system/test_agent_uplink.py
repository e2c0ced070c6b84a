"""The stream of the agent against a real gRPC server: cuts, silence, resume, commands."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from agent_rig import Agent, certificates, running
from agent_story import BOOT, a_chip, cleared, component, raised
from chipmedic.metric import Metric
from chipmedic.model import Reading, Scan
from chipmedic_agent import session as session_module
from chipmedic_agent import targets as targets_module
from chipmedic_agent import uplink as uplink_module
from chipmedic_agent.config import StreamSettings, TlsSettings
from chipmedic_agent.targets import Targets
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from fake_watchdog import FakeWatchdog
from waiting import eventually

pytestmark = pytest.mark.system


@pytest.fixture
async def watchdog() -> AsyncIterator[FakeWatchdog]:
    server = FakeWatchdog()
    await server.start()
    yield server
    await server.stop()


async def test_hello_snapshot_and_events(watchdog: FakeWatchdog, tmp_path: Path) -> None:
    agent = Agent(tmp_path, watchdog.address)
    reading = Reading(component("A"), Metric.TEMPERATURE, 99.0)
    scan = Scan(source="acme", at=1.0, chips=(a_chip("A"),), readings=(reading,))
    changes, _ = agent.pipeline.consume(scan)
    async with running(agent):
        agent.tell(*changes)
        await watchdog.until(lambda: bool(watchdog.events and watchdog.heartbeats))
        (hello,) = watchdog.hellos
        assert (hello.node, hello.boot_id, hello.epoch) == ("n-1", BOOT, agent.journal.epoch)
        assert dict(hello.labels) == {"rack": "r1"}
        assert [chip.uid for chip in hello.inventory] == ["A"]
        (snapshot,) = watchdog.snapshots
        assert [fault.component for fault in snapshot.open] == ["chip:A"]
        assert snapshot.as_of_seq in (1, 2)
        assert watchdog.seqs() == [1]
        await watchdog.until(lambda: agent.journal.acked_seq == 1)


async def test_a_chip_that_is_found_after_the_hello_is_told_before_its_first_fault(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    agent = Agent(tmp_path, watchdog.address)
    async with running(agent):
        await watchdog.until(lambda: bool(watchdog.snapshots))
        assert not watchdog.snapshots[0].inventory
        agent.pipeline.consume(Scan(source="acme", at=1.0, chips=(a_chip("A"),)))
        agent.uplink.look_for_new_chips()
        agent.tell(raised(1))
        await watchdog.until(lambda: bool(watchdog.events))
        assert [chip.uid for chip in watchdog.snapshots[-1].inventory] == ["A"]
        agent.uplink.look_for_new_chips()
        assert len(watchdog.snapshots) == 2


async def test_batches_are_bounded_and_complete(watchdog: FakeWatchdog, tmp_path: Path) -> None:
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        for start in range(0, 10_000, 1000):
            agent.tell(*(raised(n) for n in range(start, start + 1000)))
            await asyncio.sleep(0)
        await watchdog.until(lambda: agent.journal.acked_seq == 10_000)
        assert watchdog.seqs() == list(range(1, 10_001))
        assert max(watchdog.batches) <= 512
        assert set(watchdog.received.values()) == {1}


async def test_cut_again_and_again_everything_arrives_in_the_end(
    watchdog: FakeWatchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets_module, "FIRST_DELAY_SECONDS", 0.01)
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        for burst in range(20):
            agent.tell(*(raised(n) if burst % 2 else cleared(n) for n in range(100)))
            await asyncio.sleep(0.05)
            if burst % 3 == 0:
                await watchdog.until(lambda cuts=burst // 3: len(watchdog.hellos) > cuts)
                await watchdog.cut()
        await watchdog.until(lambda: agent.journal.acked_seq == 2000)
        assert watchdog.seqs() == list(range(1, 2001))
        assert len(watchdog.hellos) > 7, "one for each cut, and the last"


async def test_what_was_not_acknowledged_is_sent_again_after_a_restart_of_both(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    watchdog.is_acknowledging = False
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        agent.tell(raised(1), raised(2))
        await watchdog.until(lambda: len(watchdog.events) == 2)
        assert agent.journal.backlog_events == 2
    await watchdog.stop()
    watchdog.events.clear()  # the watchdog died before it committed
    watchdog.is_acknowledging = True
    await watchdog.start()
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        await watchdog.until(lambda: agent.journal.acked_seq == 2)
        assert watchdog.seqs() == [1, 2]


async def test_the_welcome_says_where_to_go_on(watchdog: FakeWatchdog, tmp_path: Path) -> None:
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        agent.tell(raised(1), raised(2))
        await watchdog.until(lambda: agent.journal.acked_seq == 2)
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        agent.tell(raised(3))
        await watchdog.until(lambda: agent.journal.acked_seq == 3)
    assert set(watchdog.received.values()) == {1}, "nothing is sent twice without need"


async def test_the_window_holds_back_what_nobody_acknowledges(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    watchdog.is_acknowledging = False
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        for start in range(0, 8000, 1000):
            agent.tell(*(raised(n) for n in range(start, start + 1000)))
        await watchdog.until(lambda: len(watchdog.events) >= 4096)
        await asyncio.sleep(0.3)
        assert len(watchdog.events) < 4096 + 512
        last = watchdog.seqs()[-1]
        watchdog.is_acknowledging = True
        await watchdog.tell(pb.WatchdogMessage(ack=pb.Ack(seq=last)))
        await watchdog.until(lambda: agent.journal.acked_seq == 8000)


async def test_an_acknowledgement_of_what_was_never_sent_is_not_believed(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    watchdog.is_acknowledging = False
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        agent.tell(raised(1))
        await watchdog.until(lambda: len(watchdog.events) == 1)
        await watchdog.tell(pb.WatchdogMessage(ack=pb.Ack(seq=1000)))
        await watchdog.until(lambda: agent.journal.acked_seq == 1)
        agent.tell(raised(2))
        await watchdog.until(lambda: len(watchdog.events) == 2)


async def test_a_watchdog_that_has_more_than_we_wrote_makes_us_begin_an_epoch(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    def welcome(hello: pb.Hello) -> pb.WatchdogMessage:
        if len(watchdog.hellos) == 1:
            return pb.WatchdogMessage(welcome=pb.Welcome(acked_seq=77))
        return watchdog.plain_welcome(hello)

    watchdog.welcome = welcome
    agent = Agent(tmp_path, watchdog.address)
    async with running(agent):
        agent.tell(raised(1))
        await watchdog.until(lambda: agent.journal.acked_seq == 1)
        first, second = (hello.epoch for hello in watchdog.hellos)
        assert first != second
        assert watchdog.seqs(second) == [1]


async def test_a_watchdog_that_acknowledges_nothing_is_left(
    watchdog: FakeWatchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "UNACKNOWLEDGED_SECONDS", 0.2)
    watchdog.is_acknowledging = False
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        await asyncio.sleep(0.5)
        assert len(watchdog.hellos) == 1, "nothing is owed to an agent that sent nothing"
        agent.tell(raised(1))
        await watchdog.until(lambda: len(watchdog.hellos) >= 2)
        watchdog.is_acknowledging = True
        await watchdog.until(lambda: agent.journal.acked_seq == 1)


async def test_retry_after_is_honoured(watchdog: FakeWatchdog, tmp_path: Path) -> None:
    arrivals: list[float] = []

    def welcome(hello: pb.Hello) -> pb.WatchdogMessage:
        arrivals.append(time.monotonic())
        if len(arrivals) == 1:
            return pb.WatchdogMessage(retry_after=pb.RetryAfter(seconds=0.7, reason="full"))
        return watchdog.plain_welcome(hello)

    watchdog.welcome = welcome
    async with running(Agent(tmp_path, watchdog.address)):
        await watchdog.until(lambda: len(arrivals) == 2)
    assert arrivals[1] - arrivals[0] >= 0.7


async def test_the_next_watchdog_is_taken_when_the_first_is_away(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    async with running(Agent(tmp_path, "127.0.0.1:1", watchdog.address)) as agent:
        await watchdog.until(lambda: bool(watchdog.hellos))
        await watchdog.until(lambda: agent.uplink.state.watchdog == watchdog.address)


async def test_a_watchdog_that_never_welcomes_is_asked_ever_less_often(
    watchdog: FakeWatchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts and is too slow to answer: agents that come back at once keep it so."""
    monkeypatch.setattr(session_module, "WELCOME_SECONDS", 0.1)
    watchdog.welcome = lambda _: time.sleep(0.3) or pb.WatchdogMessage()  # type: ignore[func-returns-value]
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        target = agent.uplink._targets._targets[watchdog.address]
        agent.uplink._targets._dice = lambda low, high: min(high, 0.05)
        await watchdog.until(lambda: target.failures >= 4)


async def test_watchdogs_that_stay_away_are_told_once_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Agent(tmp_path, "127.0.0.1:1", "127.0.0.1:2")) as agent:
        agent.uplink._targets._dice = lambda *_: 0.01
        targets = agent.uplink._targets._targets.values()
        await eventually(lambda: min(target.failures for target in targets) >= 4)
    told = [r.getMessage() for r in caplog.records if "stream lost" in r.getMessage()]
    assert len(told) == 2, told


async def test_another_service_on_the_port_is_said_to_be_no_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as web:
        port = web.sockets[0].getsockname()[1]
        async with running(Agent(tmp_path, f"127.0.0.1:{port}")):
            await eventually(lambda: "is no watchdog's stream" in caplog.text)


async def test_when_its_watchdog_dies_the_node_is_at_another_at_once(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    other = FakeWatchdog()
    await other.start()
    async with running(Agent(tmp_path, watchdog.address, other.address)) as agent:
        await watchdog.until(lambda: agent.uplink.state.watchdog is not None)
        first = watchdog if agent.uplink.state.watchdog == watchdog.address else other
        second = other if first is watchdog else watchdog
        agent.tell(raised(1))
        await first.until(lambda: agent.journal.acked_seq == 1)
        await first.stop()
        await second.until(lambda: agent.uplink.state.watchdog == second.address)
        assert second.hellos[0].epoch == first.hellos[0].epoch
    await other.stop()


async def test_one_that_sent_us_away_is_left_alone_though_the_others_are_gone(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    """What the first asked for must not be forgotten over the trouble with the second."""
    arrivals: list[float] = []

    def welcome(_: pb.Hello) -> pb.WatchdogMessage:
        arrivals.append(time.monotonic())
        return pb.WatchdogMessage(retry_after=pb.RetryAfter(seconds=1.5, reason="full"))

    watchdog.welcome = welcome
    async with running(Agent(tmp_path, watchdog.address, "127.0.0.1:1")):
        await watchdog.until(lambda: len(arrivals) == 2)
    assert arrivals[1] - arrivals[0] >= 1.5


async def test_a_node_goes_back_to_its_own_watchdog_when_that_is_there_again(
    watchdog: FakeWatchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_module, "RETURN_SECONDS", (0.3, 0.4))
    other = FakeWatchdog()
    await other.start()
    agent = Agent(tmp_path, watchdog.address, other.address)
    own = watchdog if agent.uplink._targets.first == watchdog.address else other
    away = other if own is watchdog else watchdog
    await own.stop()
    async with running(agent):
        await away.until(lambda: agent.uplink.state.watchdog == away.address)
        await asyncio.sleep(1.0)
        assert agent.uplink.state.watchdog == away.address, "its own is not there yet"
        await own.start()
        await own.until(lambda: agent.uplink.state.watchdog == own.address)
        await away.until(lambda: away.goodbyes == ["goes back to its own watchdog"])
    await other.stop()


async def test_a_polite_end_is_not_called_by_the_trouble_with_another_watchdog(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    async with running(Agent(tmp_path, "127.0.0.1:1", watchdog.address)) as agent:
        await watchdog.until(lambda: agent.uplink.state.watchdog == watchdog.address)
        agent.uplink.end("done")
        await watchdog.until(lambda: agent.uplink.state.watchdog is None)
        assert agent.uplink.state.trouble == "ended by us"


async def test_heartbeats_and_snapshots_come_as_the_watchdog_asks(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    watchdog.welcome = lambda _: pb.WatchdogMessage(
        welcome=pb.Welcome(heartbeat_seconds=0.5, snapshot_seconds=0.5)
    )
    slow = StreamSettings(heartbeat_seconds=60.0, snapshot_seconds=60.0)
    async with running(Agent(tmp_path, watchdog.address, stream=slow)):
        await watchdog.until(lambda: len(watchdog.heartbeats) >= 3 and len(watchdog.snapshots) >= 3)


async def test_a_snapshot_is_sent_when_it_is_asked_for(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    async with running(Agent(tmp_path, watchdog.address)):
        await watchdog.until(lambda: len(watchdog.snapshots) == 1)
        await watchdog.tell(pb.WatchdogMessage(snapshot_request=pb.SnapshotRequest()))
        await watchdog.until(lambda: len(watchdog.snapshots) == 2)


def a_command(name: str, **rest: object) -> pb.WatchdogMessage:
    return pb.WatchdogMessage(command=pb.Command(id=name, **rest))  # type: ignore[arg-type]


async def test_commands_are_answered(watchdog: FakeWatchdog, tmp_path: Path) -> None:
    now = pb.CollectNow()
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        await watchdog.until(lambda: bool(watchdog.snapshots))
        for message in (
            a_command("good", collect_now=now, fencing_token=7),
            a_command("expired", collect_now=now, expires_after_seconds=-1.0),
            a_command("old leader", collect_now=now, fencing_token=3),
            a_command("nobody", collect_now=pb.CollectNow(checks=["nope"]), fencing_token=7),
            a_command("of a later version", fencing_token=7),
            a_command("gate", run_gate=pb.RunGate(), fencing_token=7),
            a_command("look", job_act=pb.JobAct(act="look"), fencing_token=7),
            a_command("leave", job_act=pb.JobAct(act="leave", job="torchrun:a"), fencing_token=7),
        ):
            await watchdog.tell(message)
        await watchdog.until(lambda: len(watchdog.results) == 8)
        answers = {result.id: (result.ok, result.detail) for result in watchdog.results}
        assert answers["good"] == (True, "acme: not on this host")
        assert answers["expired"] == (False, "expired")
        assert answers["old leader"][0] is False
        assert answers["nobody"] == (False, "unknown check: nope")
        assert answers["of a later version"][0] is False
        assert answers["gate"][0] is False
        assert "no check looks at this node" in answers["gate"][1]
        assert answers["look"] == (False, "launchers may start")
        assert answers["leave"][0] is False
        assert "[jobs] allow" in answers["leave"][1]
        assert {result.id for result in watchdog.results if result.is_final} == {
            "nobody", "of a later version", "leave",
        }  # fmt: skip
        assert agent.pipeline.fencing_token == 7


async def test_the_end_is_said_and_everything_ready_goes_first(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        await watchdog.until(lambda: bool(watchdog.snapshots))
        agent.tell(*(raised(n) for n in range(1500)))
        await watchdog.until(lambda: agent.journal.durable_seq == 1500)
        agent.uplink.end("SIGTERM")
        await watchdog.until(lambda: watchdog.goodbyes == ["SIGTERM"])
        assert watchdog.seqs() == list(range(1, 1501))
        await watchdog.until(lambda: agent.journal.acked_seq == 1500)


async def test_a_first_message_that_is_no_welcome_ends_the_stream(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    watchdog.welcome = lambda _: pb.WatchdogMessage(ack=pb.Ack(seq=5))
    async with running(Agent(tmp_path, watchdog.address)) as agent:
        await watchdog.until(lambda: "not a welcome" in agent.uplink.state.trouble)


async def test_tls_files_that_are_missing_are_said_and_tried_again(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    tls = TlsSettings(ca_file=str(tmp_path / "ca.pem"))
    async with running(Agent(tmp_path / "state", watchdog.address, tls=tls)) as agent:
        await watchdog.until(lambda: "ca.pem" in agent.uplink.state.trouble)


@pytest.mark.parametrize("is_known", [True, False])
async def test_mutual_tls(tmp_path: Path, is_known: bool) -> None:
    certificates(tmp_path)
    pair = ((tmp_path / "watchdog.key").read_bytes(), (tmp_path / "watchdog.pem").read_bytes())
    authority = (tmp_path / "ca.pem").read_bytes()
    server = FakeWatchdog()
    await server.start(
        grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)
    )
    own = {
        "certificate_file": str(tmp_path / "agent.pem"),
        "key_file": str(tmp_path / "agent.key"),
    }
    tls = TlsSettings(ca_file=str(tmp_path / "ca.pem"), **(own if is_known else {}))
    try:
        async with running(Agent(tmp_path / "state", server.address, tls=tls)) as agent:
            agent.tell(raised(1))
            if is_known:
                await server.until(lambda: agent.journal.acked_seq == 1)
            else:
                await server.until(lambda: agent.uplink.state.trouble != "")
                assert server.hellos == []
    finally:
        await server.stop()


SILENT = """
import asyncio, sys
sys.path[:0] = {path!r}
from fake_watchdog import FakeWatchdog
async def main():
    server = FakeWatchdog()
    await server.start()
    print(server.port, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


async def test_a_watchdog_that_falls_silent_is_left_within_seconds(
    watchdog: FakeWatchdog, tmp_path: Path
) -> None:
    """A stopped process closes no socket: only pings tell. The agent goes on to the next one."""
    program = SILENT.format(path=[str(Path(__file__).parents[1])])
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = int(await asyncio.to_thread(process.stdout.readline))
        addresses = (f"127.0.0.1:{port}", watchdog.address)
        names = (f"n-{n}" for n in range(100))
        node = next(name for name in names if Targets(addresses, name).first == addresses[0])
        async with running(Agent(tmp_path, *addresses, node=node)) as agent:
            await watchdog.until(lambda: agent.uplink.state.watchdog == f"127.0.0.1:{port}")
            process.send_signal(signal.SIGSTOP)
            await watchdog.until(lambda: agent.uplink.state.watchdog is None)
            agent.tell(raised(1))
            await watchdog.until(lambda: watchdog.events != {})
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


async def test_that_a_stream_is_not_encrypted_is_said_once_however_often_it_is_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Agent(tmp_path, "w1.invalid:7443", "127.0.0.1:1")) as agent:
        agent.uplink._targets._dice = lambda *_: 0.01
        targets = agent.uplink._targets._targets.values()
        await eventually(lambda: min(target.failures for target in targets) >= 4)
    told = [r.getMessage() for r in caplog.records if "not encrypted" in r.getMessage()]
    assert told == ["stream is not encrypted: watchdog=w1.invalid:7443; run chipmedic agent join"]
