"""The watchdog as a real process: kill -9, SIGSTOP, SIGHUP, SIGTERM, systemd's notifications."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from fake_agent import STOPPABLE_AGENT, FakeAgent, a_fault, event
from waiting import PATIENCE_SECONDS, eventually, until
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

BURST = 10_000
BATCH = 250


@pytest.fixture
def watchdog(tmp_path: Path) -> Iterator[WatchdogProcess]:
    process = WatchdogProcess(tmp_path / "watchdog")
    yield process
    process.close()


def burst(seq: int) -> pb.Event:
    """Event `seq` of a burst: faults of ten chips that come, are told five times, and go."""
    chip, is_cleared = f"chip:GPU-{seq % 10}", (seq - 1) // 50 % 2 == 1
    transition = pb.TRANSITION_CLEARED if is_cleared else pb.TRANSITION_RAISED
    return event(seq, a_fault(chip, count=seq), transition)


async def send_all(agent: FakeAgent) -> None:
    first = agent.acked_seq + 1
    for start in range(first, BURST + 1, BATCH):
        await agent.events(*(burst(n) for n in range(start, min(start + BATCH, BURST + 1))))


async def test_kill_9_in_a_burst_loses_and_doubles_nothing(watchdog, tmp_path) -> None:
    watchdog.start()
    agent = FakeAgent(watchdog.address, next_seq=BURST + 1)
    await agent.start()
    sending = asyncio.create_task(send_all(agent))
    kills = 0
    for acked_at_least in (1_000, 4_000, 7_000):
        await agent.acked(acked_at_least)
        promised = agent.acked_seq
        watchdog.kill()
        kills += 1
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await agent.drop()
        watchdog.start()
        agent = FakeAgent(watchdog.address, next_seq=BURST + 1)
        await agent.start()
        assert agent.acked_seq >= promised, "what was acknowledged is there"
        sending = asyncio.create_task(send_all(agent))
    await agent.acked(BURST)
    await agent.drop()
    assert watchdog.kill(signal.SIGTERM) == 0
    assert kills == 3

    database = Database(open_engine(f"sqlite:///{watchdog.folder}/store/watchdog.db"))
    table = schema.events
    seqs = Counter(database.read_now(lambda c: c.execute(select(table.c.seq)).scalars().all()))
    assert seqs == Counter(range(1, BURST + 1))
    faults = database.read_now(lambda c: c.execute(select(schema.faults)).mappings().all())
    database.close()
    # Each chip's fault began BURST/100 times and was cleared as often.
    assert Counter(f["component"] for f in faults) == {
        f"chip:GPU-{chip}": BURST // 100 for chip in range(10)
    }
    assert {f["state"] for f in faults} == {"cleared"}


def start_agent(watchdog: WatchdogProcess, node: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPABLE_AGENT, str(Path(__file__).parents[1]), watchdog.address,
         node],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"connected\n"
    return process


def test_a_stopped_host_is_unreachable_within_seconds(watchdog) -> None:
    """SIGSTOP: the socket stays open, as with a pulled cable; that no ping comes tells."""
    watchdog.start()
    agent = start_agent(watchdog, "node-1")
    try:
        os.kill(agent.pid, signal.SIGSTOP)
        until(lambda: watchdog.items("/api/v1/incidents?state=active"))
        (incident,) = watchdog.items("/api/v1/incidents")
        assert (incident["kind"], incident["nodes"]) == ("node.unreachable", ["node-1"])
        (fault,) = watchdog.items("/api/v1/faults")
        assert fault["source"] == "watchdog"
        assert "not heard since" in str(fault["evidence"])
        os.kill(agent.pid, signal.SIGCONT)
    finally:
        agent.kill()
        agent.wait()
        assert agent.stdout is not None
        agent.stdout.close()
    # A new process of that node: the fault clears and the incident ends by itself.
    again = start_agent(watchdog, "node-1")
    try:
        until(lambda: not watchdog.items("/api/v1/incidents?state=active"))
        assert watchdog.items("/api/v1/faults")[0]["clear_reason"] == "reconnected"
    finally:
        again.kill()
        again.wait()
        assert again.stdout is not None
        again.stdout.close()


def test_an_agent_that_was_killed_has_the_time_to_start_again(watchdog) -> None:
    """Its unit waits two seconds and Python needs one: that is no silent host."""
    watchdog.config = "[liveness]\nsilence_seconds = 0\nrestart_seconds = 3.0\n"
    watchdog.start()
    agent = start_agent(watchdog, "node-1")
    agent.kill()
    agent.wait()
    assert agent.stdout is not None
    agent.stdout.close()
    until(lambda: watchdog.items("/api/v1/incidents?state=active"))
    (fault,) = watchdog.items("/api/v1/faults")
    assert waited_seconds(fault) >= 3.0


def waited_seconds(fault: dict[str, Any]) -> float:
    """How long a node was silent before that became a fault, by the watchdog's own clock."""
    return float(fault["opened_at"]) - float(fault["node_since"])


def test_a_pause_of_all_nodes_condemns_nobody_and_breaks_no_stream(watchdog) -> None:
    watchdog.config = "[liveness]\nmany_seconds = 15.0\n"
    watchdog.start()
    agents = [start_agent(watchdog, f"node-{n}") for n in range(4)]
    try:
        before = watchdog.items("/api/v1/nodes")
        for is_back in (False, True):
            for agent in agents:
                os.kill(agent.pid, signal.SIGCONT if is_back else signal.SIGSTOP)
            time.sleep(1.5 if is_back else 4.5)
            nodes = watchdog.items("/api/v1/nodes")
            assert {n["state"] for n in nodes} == {"connected"}
            assert watchdog.items("/api/v1/faults") == []
        assert [n["connected_at"] for n in nodes] == [n["connected_at"] for n in before]

        for agent in agents:
            os.kill(agent.pid, signal.SIGSTOP)
        until(lambda: watchdog.items("/api/v1/incidents?state=active"))
        assert {n["state"] for n in watchdog.items("/api/v1/nodes")} == {"silent"}
        # One node alone would have been given up after `quiet_seconds`, which are 2.25.
        assert min(map(waited_seconds, watchdog.items("/api/v1/faults"))) >= 4.0
        assert len(watchdog.items("/api/v1/incidents")) == 1, "one page for all"
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
            assert agent.stdout is not None
            agent.stdout.close()


async def test_its_own_stall_condemns_nobody(watchdog) -> None:
    watchdog.config = "[liveness]\nstall_seconds = 2.0\nstartup_grace_seconds = 120.0\n"
    watchdog.start()
    async with FakeAgent(watchdog.address) as agent:
        watchdog.signal(signal.SIGSTOP)
        await asyncio.sleep(5)
        watchdog.signal(signal.SIGCONT)
        await asyncio.sleep(4)  # longer than silence_seconds after the streams were lost
        await eventually(lambda: agent.is_over, "the agent sees the silence of the watchdog")
        assert watchdog.items("/api/v1/faults") == []
        assert "own loop stalled" in watchdog.log
        assert watchdog.items("/api/v1/nodes")[0]["state"] == "silent"


async def test_nodes_that_do_not_return_after_a_restart_are_missed(watchdog) -> None:
    watchdog.config = "[liveness]\nstartup_grace_seconds = 6.0\n"
    watchdog.start()
    stays = FakeAgent(watchdog.address, "stays")
    goes = FakeAgent(watchdog.address, "goes")
    says_goodbye = FakeAgent(watchdog.address, "stopped")
    for agent in (stays, goes, says_goodbye):
        await agent.start()
    await says_goodbye.goodbye()
    watchdog.kill()
    for agent in (stays, goes):
        await agent.drop()
    again_at = time.time()
    watchdog.start()
    async with FakeAgent(watchdog.address, "stays"):
        (fault,) = await asyncio.to_thread(until, lambda: watchdog.items("/api/v1/faults"))
        assert fault["opened_at"] - again_at >= 6.0, "before the grace time was over"
        await asyncio.sleep(0.5)
        assert [f["node"] for f in watchdog.items("/api/v1/faults")] == ["goes"]


async def test_sigterm_tells_the_agents_to_come_back(watchdog) -> None:
    watchdog.start()
    async with FakeAgent(watchdog.address) as agent:
        await agent.events(event(1, a_fault()))
        await agent.acked(1)
        assert await asyncio.to_thread(watchdog.kill, signal.SIGTERM) == 0
        await agent.until(lambda: agent.received[-1].HasField("retry_after"))
        assert agent.received[-1].retry_after.seconds == 1.0
    assert "Traceback" not in watchdog.log
    watchdog.start()
    async with FakeAgent(watchdog.address, next_seq=2) as agent:
        assert agent.acked_seq == 1


def test_a_wrong_configuration_is_refused_and_the_old_one_stays(watchdog) -> None:
    watchdog.start()
    watchdog.config = 'store.queue_events = "many"\n[liveness]\nsilence_secnods = 1\n'
    watchdog.write_config()
    watchdog.signal(signal.SIGHUP)
    until(lambda: watchdog.get("/healthz").status_code == 503)
    problem = watchdog.get("/healthz").json()["problems"]["configuration"]
    assert "did you mean silence_seconds" in problem
    assert "queue_events" in problem
    assert "config_last_reload_successful 0.0" in watchdog.get("/metrics").text
    watchdog.config = "[liveness]\nsilence_seconds = 1.5\n[notify]\nlanguage = 'zh'\n"
    watchdog.write_config()
    watchdog.signal(signal.SIGHUP)
    until(lambda: watchdog.get("/healthz").status_code == 200)
    assert "needs_restart=nothing" in watchdog.log
    assert watchdog.kill(signal.SIGTERM) == 0


def test_what_needs_a_restart_is_said(watchdog) -> None:
    watchdog.start()
    watchdog.write_config(stream="127.0.0.1:7")
    watchdog.signal(signal.SIGHUP)
    until(lambda: watchdog.get("/healthz").json()["warnings"])
    assert "stream" in watchdog.get("/healthz").json()["warnings"]["configuration"]


def test_systemd_is_told_of_the_whole_life(watchdog, tmp_path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        watchdog.environment = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "900000",
        }
        watchdog.start()
        assert manager.recv(512).startswith(b"READY=1\nSTATUS=stream on port")
        assert manager.recv(512) == b"WATCHDOG=1"
        watchdog.signal(signal.SIGHUP)

        def hear(words: bytes) -> None:
            while not manager.recv(512).startswith(words):
                pass

        hear(b"RELOADING=1\nMONOTONIC_USEC=")
        hear(b"READY=1")
        watchdog.signal(signal.SIGTERM)
        hear(b"STOPPING=1")
        assert watchdog.kill(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("config", "status", "words"),
    [
        ("[stream\n", 78, "not TOML"),
        ("[http]\nown_certificate = true\n", 78, "needs [join]"),
        ("[stream]\nkey_file = '/k'\n", 78, "give both or none"),
        ("[store]\nurl = 'sqlite:////proc/1/no/store.db'\n", 1, "store"),
        ("[store]\nurl = 'no-such-database://x'\n", 78, "allowed are sqlite"),
        ("[http]\nlisten = '203.0.113.1:1'\ntoken_file = '/etc/hostname'\n", 1, "cannot listen"),
    ],
)
def test_a_start_that_cannot_be_is_one_clear_line(tmp_path, config, status, words) -> None:
    path = tmp_path / "w.toml"
    if "[store]" not in config:
        config = f"store.url = 'sqlite:///{tmp_path}/w.db'\n" + config
    path.write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "chipmedic_watchdog.main", "--config", path],
        capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert last.startswith(("chipmedic-watchdog:", "  "))


def test_two_watchdogs_do_not_share_a_port(watchdog, tmp_path) -> None:
    watchdog.start()
    second = WatchdogProcess(tmp_path / "second")
    with pytest.raises(AssertionError, match="is another watchdog running"):
        second.start(stream=watchdog.address)
    second.close()
