"""Real daemons on file systems that fill up while everything is being written.

Nothing that was acknowledged is lost, nobody is told twice, one line says so, and all goes on by
itself when there is room again.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from agent_process import AgentProcess, stored
from chipmedic_simulator.kernel_log import SimulatedKernelLog
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from fake_agent import FakeAgent, a_fault, event
from small_disk import fill, small_disk
from waiting import eventually, until
from watchdog.notify.receivers import HttpReceiver
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

CHIPMEDIC = Path(sys.executable).with_name("chipmedic")
BATCHES, BATCH = 30, 100
NOTIFY = """
[notify]
decision_wait_seconds = 0

[notify.channels.desk]
kind = "webhook"
url = "{url}"
secret_file = "{folder}/key"
"""


@dataclass
class Site:
    """A watchdog whose store lies on a small disk, and the desk that it tells."""

    disk: Path
    desk: HttpReceiver
    watchdog: WatchdogProcess
    may_answer: threading.Event = field(default_factory=threading.Event)
    """The desk takes a notice and answers when this is set."""

    def rows(self, table: Any) -> list[dict[str, Any]]:
        database = Database(open_engine(f"sqlite:///{self.disk}/watchdog.db"))
        try:
            query = select(table)
            return database.read_now(lambda c: [dict(r) for r in c.execute(query).mappings()])
        finally:
            database.close()

    def told(self) -> Counter[str]:
        return Counter(r.headers["X-Chipmedic-Notice-Id"] for r in self.desk.requests)

    def act(self, incident: str) -> httpx.Response:
        """Do what goes into the audit."""
        return httpx.post(
            f"{self.watchdog.http}/api/v1/incidents/{incident}/acknowledge",
            json={"who": "mei", "why": "I look"},
            timeout=60,
        )

    def metric(self, name: str) -> float:
        lines = self.watchdog.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk", "8m"))
        may_answer = threading.Event()
        may_answer.set()
        desk = stack.enter_context(HttpReceiver(before_answer=lambda: may_answer.wait(120)))
        (tmp_path / "key").write_text("key")
        watchdog = WatchdogProcess(
            tmp_path / "watchdog",
            NOTIFY.format(url=desk.url, folder=tmp_path),
            store_url=f"sqlite:///{disk}/watchdog.db",
        )
        stack.callback(watchdog.close)
        stack.callback(may_answer.set)
        watchdog.start()
        yield Site(disk, desk, watchdog, may_answer)


async def report(site: Site, node: str) -> FakeAgent:
    """Let a node report its first fault, and stay connected."""
    agent = FakeAgent(site.watchdog.address, node=node)
    await agent.start()
    await agent.events(event(1, a_fault()))
    await agent.acked(1)
    return agent


async def send_much(agent: FakeAgent) -> None:
    for start in range(2, 2 + BATCHES * BATCH, BATCH):
        await agent.events(
            *(event(n, a_fault(f"chip:GPU-{n % 8}", count=n)) for n in range(start, start + BATCH))
        )


async def in_thread(call: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)


async def test_the_watchdogs_disk_fills_up_while_it_writes_and_tells(site: Site) -> None:
    first = await report(site, "n1")
    await eventually(lambda: len(site.told()) == 1, "nobody is told of the first incident")
    site.may_answer.clear()
    second = await report(site, "n2")
    await eventually(lambda: len(site.told()) == 2, "nobody is told of the second incident")
    filler = await in_thread(fill, site.disk)
    sending = asyncio.create_task(send_much(first))
    await in_thread(until, lambda: site.metric("chipmedic_watchdog_store_failing") == 1)
    promised = first.acked_seq
    # The desk has the second notice, and there is no room to write that down.
    site.may_answer.set()
    refused = await in_thread(site.act, "inc-000001")
    assert refused.status_code in (200, 503), refused.text
    health = site.watchdog.get("/healthz").json()
    assert health["status"] == "degraded"
    assert "make room" in health["problems"]["store"]
    await asyncio.sleep(5)  # more than one try of everything that is tried again
    assert first.acked_seq == promised, "nothing is acknowledged that is not on the disk"
    assert not first.is_over
    assert site.told()["inc-000002/opened-1/desk"] == 1, "nobody is told twice for our disk"

    filler.unlink()
    await sending
    await first.acked(1 + BATCHES * BATCH)
    await in_thread(until, lambda: site.act("inc-000002").status_code == 200)
    third = await report(site, "n3")
    await eventually(lambda: len(site.told()) >= 3, "nobody is told of the third incident")
    await in_thread(until, lambda: site.watchdog.get("/healthz").json()["status"] == "ok")
    assert site.metric("chipmedic_watchdog_store_failing") == 0
    for agent in (first, second, third):
        await agent.goodbye()
    assert_all_is_there(site)
    lines = site.watchdog.log.splitlines()
    assert sum("store refuses" in line for line in lines) == 1, "one line, not one for each try"
    assert sum("store takes again" in line for line in lines) == 1
    assert "Traceback" not in site.watchdog.log


def assert_all_is_there(site: Site) -> None:
    """Every event and notice once, and an audit that nobody doubts."""
    until(lambda: {r["state"] for r in site.rows(schema.notices)} == {"delivered"})
    events = [row["seq"] for row in site.rows(schema.events) if row["node"] == "n1"]
    assert sorted(events) == list(range(1, 2 + BATCHES * BATCH))
    opened = {notice: count for notice, count in site.told().items() if "/opened-" in notice}
    assert set(opened.values()) == {1}, opened
    assert set(site.told()) == {row["id"] for row in site.rows(schema.notices)}
    verified = subprocess.run(
        [CHIPMEDIC, "audit", "verify"],
        env={**os.environ, "CHIPMEDIC_WATCHDOG": site.watchdog.http},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr


async def test_a_watchdog_that_is_killed_on_a_full_disk_has_all_that_it_acknowledged(
    site: Site,
) -> None:
    agent = await report(site, "n1")
    filler = await in_thread(fill, site.disk)
    sending = asyncio.create_task(send_much(agent))
    await in_thread(until, lambda: site.metric("chipmedic_watchdog_store_failing") == 1)
    promised = agent.acked_seq
    await in_thread(site.watchdog.kill, signal.SIGKILL)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await agent.drop()
    filler.unlink()
    await in_thread(site.watchdog.start)
    agent = FakeAgent(site.watchdog.address, node="n1", next_seq=2 + BATCHES * BATCH)
    await agent.start()
    assert agent.acked_seq >= promised
    await send_much(agent)
    await agent.acked(1 + BATCHES * BATCH)
    await agent.goodbye()
    assert_all_is_there(site)


def test_a_watchdog_that_starts_on_a_full_disk_says_so_in_one_line(site: Site) -> None:
    site.watchdog.kill(signal.SIGTERM)
    fill(site.disk)
    # The log of changes was taken into the file at the end: there is no room for a new one.
    with pytest.raises(AssertionError, match="not ready") as refusal:
        site.watchdog.start()
    said = str(refusal.value)
    assert "make room" in said
    assert "Traceback" not in said
    assert json.dumps(said).count("\\n") <= 3, said


@dataclass
class Node:
    """A real agent whose state lies on a small disk, and a chip log that the test writes."""

    disk: Path
    agent: AgentProcess
    kernel_log: SimulatedKernelLog
    broken: int = 0

    def break_chips(self, count: int) -> None:
        for _ in range(count):
            self.broken += 1
            self.kernel_log.say("off-bus", f"0000:{self.broken + 16:02x}:00.0")

    @property
    def log(self) -> str:
        return self.agent.log.read_text()

    def says(self, words: str, times: int = 1) -> None:
        until(lambda: self.log.count(words) >= times, words, explain=lambda: self.log)


@pytest.fixture
def plain_watchdog(tmp_path: Path) -> Iterator[WatchdogProcess]:
    process = WatchdogProcess(tmp_path / "watchdog")
    process.start()
    yield process
    process.close()


@pytest.fixture
def node(tmp_path: Path, plain_watchdog: WatchdogProcess) -> Iterator[Node]:
    agent = AgentProcess(tmp_path / "agent", plain_watchdog.address)
    with small_disk(agent.folder / "state", "512k") as disk:
        yield Node(disk, agent, SimulatedKernelLog(agent.folder / "root"))
        agent.kill()


def test_an_agent_whose_disk_fills_up_tells_everything_once(
    node: Node, plain_watchdog: WatchdogProcess
) -> None:
    """Heard before, kept on the disk, found while it is full, and found after that: each once."""
    watchdog = plain_watchdog

    def all_told() -> bool:
        return len(stored(watchdog)[2]) >= node.broken

    def explain() -> str:
        return node.log + watchdog.log

    node.agent.start()
    node.says("stream open")
    node.break_chips(2)
    until(all_told, "what is found while all is well", explain=explain)
    watchdog.kill()
    before = next_seq(node)
    node.break_chips(2)
    until(lambda: next_seq(node) >= before + 2, "what is found unheard", explain=explain)
    filler = fill(node.disk)
    node.break_chips(2)
    node.says("events are kept in memory")
    watchdog.start(stream=watchdog.address)
    until(all_told, "what is found while the disk is full", explain=explain)
    node.agent.kill()
    node.agent.start()
    node.says("stream open", times=3)
    node.break_chips(2)
    until(all_told, "what is found after a kill on a full disk", explain=explain)
    filler.unlink()
    node.says("events are on disk again")
    node.agent.kill()
    node.agent.start()
    node.break_chips(2)
    until(all_told, "what is found when there is room again", explain=explain)
    begun, _, told = stored(watchdog)
    assert (set(begun.values()), len(begun), len(told)) == ({1}, node.broken, node.broken)
    assert node.log.count("events are kept in memory") == 2, "one line for each process"
    assert "Traceback" not in node.log


def next_seq(node: Node) -> int:
    """Return the number that the next event gets, as the disk has it."""
    return int(json.loads((node.disk / "state.json").read_text())["next_seq"])
