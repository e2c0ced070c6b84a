"""Two watchdogs on a real PostgreSQL with real agents: killed, stopped and cut off in a stream of
faults, every event is in the store once and every notice at its receiver."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from fake_agent import FakeAgent, a_fault, event
from intake_rig import rows
from postgres_server import PostgresServer
from waiting import eventually, until
from watchdog.notify.receivers import HttpReceiver, unused_port
from watchdog_process import WatchdogProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

CHIPS = 250
"""More than there are faults: each step but every other one breaks the next."""
AGENT = (sys.executable, "-c", "from chipmedic_agent.main import run; run()")
AGENTS = ("n-1", "n-2", "n-3")

# Of two scans the first raises a fault of the next chip, and the second clears it, until the test
# has seen enough. How far it has come is written down.
COLLECTOR = """
import os
from pathlib import Path
from chipmedic import Chip, Collector, Metric, Reading, Scan

HERE = Path(__file__).parent

class Acme(Collector):
    vendor = "acme"
    period_seconds = 1.0
    def __init__(self, host):
        self.host, self.step = host, 0
    @classmethod
    def discover(cls, host):
        return cls(host)
    def resume(self, cursor):
        self.step = int(cursor)
    def cursor(self):
        return str(self.step)
    def scan(self):
        is_over = self.step % 2 == 0 and (HERE / "enough").exists()
        if not is_over:
            self.step += 1
        fresh = HERE / f"{os.getpid()}.new"
        fresh.write_text(f"{self.step} {is_over}")
        fresh.replace(HERE / f"{os.getpid()}.steps")
        chips = [Chip(uid=f"ACME-{n}", vendor="acme", model="A1", index=n) for n in range(CHIPS)]
        bad = self.step // 2 if self.step % 2 else -1
        flags = [Reading(c.component, Metric.REMAP_FAILED, float(c.index == bad)) for c in chips]
        return Scan(source="acme", at=self.host.now(), chips=tuple(chips), readings=tuple(flags))
""".replace("CHIPS", str(CHIPS))

CONFIG = """
[incidents]
reopen_seconds = 0.0
settle_seconds = 0.0
[notify]
decision_wait_seconds = 0.0
retry_first_seconds = 0.2
[notify.channels.desk]
kind = "webhook"
url = "{url}"
secret_file = "{key}"
timeout_seconds = 3.0
maximum_per_node_per_minute = 1000
maximum_per_minute = 100000
"""


@dataclass
class Fleet:
    """Watchdogs, agents, the database and the receiver."""

    folder: Path
    server: PostgresServer
    receiver: HttpReceiver
    watchdogs: list[WatchdogProcess] = field(default_factory=list)
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.url = self.server.url(self.server.new_database())
        self.plug = self.folder / "plug"
        key = self.folder / "key"
        key.write_text("key")
        for name in ("a", "b"):
            config = CONFIG.format(url=self.receiver.url, key=key)
            process = WatchdogProcess(self.folder / name, config=config, store_url=self.url)
            process.stream_port = unused_port()  # type: ignore[attr-defined]  # over restarts
            self.watchdogs.append(process)

    def start_watchdog(self, watchdog: WatchdogProcess) -> None:
        watchdog.start(stream=f"127.0.0.1:{watchdog.stream_port}")  # type: ignore[attr-defined]

    def start_agents(self) -> None:
        plug = self.plug
        facts = plug / "acme-1.0.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("[chipmedic.collectors]\nacme = acme:Acme\n")
        (plug / "acme.py").write_text(COLLECTOR)
        addresses = [f"127.0.0.1:{w.stream_port}" for w in self.watchdogs]  # type: ignore[attr-defined]
        for node in AGENTS:
            folder = self.folder / node
            folder.mkdir()
            config = folder / "agent.toml"
            config.write_text(
                f'node = "{node}"\nwatchdogs = {json.dumps(addresses)}\n'
                f'state_directory = "{folder}/state"\nhost_root = "{folder}/root"\n'
                f'progress_socket = "{folder}/progress.sock"\n[http]\nenabled = false\n'
            )
            with (folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    [*AGENT, "--config", str(config)],
                    env={**os.environ, "PYTHONPATH": str(plug)},
                    stderr=log,
                )
            self.agents.append(process)

    def end_of_faults(self) -> int:
        """Let no further chip fail; returns how many faults there were when all are over."""
        (self.plug / "enough").touch()

        def steps() -> list[list[str]]:
            return [(self.plug / f"{a.pid}.steps").read_text().split() for a in self.agents]

        until(lambda: all(is_over == "True" for _, is_over in steps()), "the last faults")
        return sum(int(step) // 2 for step, _ in steps())

    @property
    def notices(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.receiver.requests]

    def leader(self) -> WatchdogProcess:
        (found,) = [w for w in self.watchdogs if is_leader(w)]
        return found

    def close(self) -> None:
        for agent in self.agents:
            agent.kill()
            agent.wait()
        for watchdog in self.watchdogs:
            watchdog.close()


def health(watchdog: WatchdogProcess) -> dict[str, Any]:
    """What it says of itself; nothing while it does not answer."""
    try:
        return dict(httpx.get(f"{watchdog.http}/healthz", timeout=10).json())
    except (httpx.HTTPError, ValueError):
        return {}


def is_leader(watchdog: WatchdogProcess) -> bool:
    return bool(health(watchdog).get("lead", {}).get("is_leader"))


def problems(watchdog: WatchdogProcess) -> dict[str, str]:
    return dict(health(watchdog).get("problems", {}))


def token(watchdog: WatchdogProcess) -> int:
    return int(health(watchdog).get("lead", {}).get("token", 0))


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    server = PostgresServer.create()
    server.start()
    yield server
    server.close()


@pytest.fixture
def fleet(tmp_path: Path, postgres: PostgresServer, own_server: PostgresServer) -> Iterator[Fleet]:
    del postgres  # it is what leaves the test out where no server is installed
    with HttpReceiver() as receiver:
        made = Fleet(tmp_path, own_server, receiver)
        try:
            yield made
        finally:
            made.close()


def test_nothing_is_lost_or_doubled_when_the_leader_dies_or_stands_still(fleet: Fleet) -> None:
    first, second = fleet.watchdogs
    fleet.start_watchdog(first)
    until(lambda: is_leader(first))
    fleet.start_watchdog(second)
    fleet.start_agents()
    until(lambda: len(fleet.notices) >= 6, "the first notices")
    assert not is_leader(second)

    # The leader dies without a word.
    old = token(first)
    first.kill()
    until(lambda: is_leader(second), second.log)
    newer = token(second)
    assert newer > old
    before = len(fleet.notices)
    until(lambda: len(fleet.notices) > before + 3, "notices of the new leader")

    # The new leader stands still, and wakes when another leads.
    fleet.start_watchdog(first)
    until(lambda: not is_leader(first) and token(first) == newer)
    assert "chipmedic_incidents{" not in first.get("/metrics").text, "each figure is told once"
    assert "chipmedic_incidents{" in second.get("/metrics").text
    second.signal(signal.SIGSTOP)
    until(lambda: is_leader(first), first.log)
    time.sleep(1.0)  # what was under way in the moment of the stop has arrived
    seen = len(fleet.notices)
    second.signal(signal.SIGCONT)
    until(lambda: len(fleet.notices) > seen + 3, "notices after the wake")
    assert token(first) > newer
    tokens = Counter(n["data"]["fencing_token"] for n in fleet.notices[seen:])
    # One may have been on its way to the receiver in the moment of the stop.
    assert tokens.pop(newer, 0) <= 1
    assert set(tokens) == {token(first)}
    assert not is_leader(second)
    assert "leads no more" in second.log

    # The database is away for a moment.
    fleet.server.stop()
    until(lambda: "store" in problems(first), "the trouble is told")
    fleet.server.start()
    until(lambda: sum(map(is_leader, fleet.watchdogs)) == 1, "a leader")
    until(lambda: first.get("/healthz").status_code == 200, "health")

    check_the_end(fleet)


PROGRAM = """#!/bin/sh
echo "$1 $3" >> {log}
[ "$1" = isolate ] && sleep 2
exit 0
"""
ACTING = """
[recover]
mode = "act"
maximum_isolated_percent = 100.0
[recover.exec]
isolate = ["{program}", "isolate", "{{node}}", "{{fencing_token}}"]
confirm_isolate = ["{program}", "confirm", "{{node}}", "{{fencing_token}}"]
"""


async def test_a_leader_that_wakes_amid_a_step_runs_no_further_program(
    fleet: Fleet, tmp_path: Path
) -> None:
    log, program = tmp_path / "acts", tmp_path / "program"
    log.write_text("")
    program.write_text(PROGRAM.format(log=log))
    program.chmod(0o755)
    first, second = fleet.watchdogs
    for watchdog in fleet.watchdogs:
        watchdog.config += ACTING.format(program=program)
    await asyncio.to_thread(fleet.start_watchdog, first)
    await asyncio.to_thread(until, lambda: is_leader(first))
    await asyncio.to_thread(fleet.start_watchdog, second)
    old = token(first)
    async with FakeAgent(second.address, node="n-1", next_seq=2) as agent:
        await agent.events(event(1, a_fault(codes=("xid:48",))))
        await agent.acked(1)
        await asyncio.to_thread(until, lambda: f"isolate {old}" in log.read_text())
        first.signal(signal.SIGSTOP)
        await asyncio.to_thread(until, lambda: is_leader(second))
        new = token(second)
        await asyncio.to_thread(
            until, lambda: f"confirm {new}" in log.read_text(), "the step goes on"
        )
        first.signal(signal.SIGCONT)
        await asyncio.to_thread(until, lambda: "leads no more" in first.log)
        await asyncio.sleep(2.0)
        database = Database(open_engine(fleet.url))
        await eventually(lambda: rows(database, schema.recoveries)[0]["state"] == "done")
    acts = log.read_text().split("\n")
    assert acts.count(f"isolate {old}") == 1
    assert f"confirm {old}" not in acts, "it woke and went on"
    (recovery,) = rows(database, schema.recoveries)
    (step,) = rows(database, schema.recovery_steps)
    database.close()
    assert (recovery["state"], step["state"], step["fencing_token"]) == ("done", "done", old)


def what_is_left(database: Database) -> str:
    """Say what is not over yet."""
    faults = Counter((f["kind"], f["state"]) for f in rows(database, schema.faults))
    incidents = Counter((i["cause"], i["state"]) for i in rows(database, schema.incidents))
    notices = Counter((n["occasion"], n["state"]) for n in rows(database, schema.notices))
    return f"faults {faults}\nincidents {incidents}\nnotices {notices}"


def check_the_end(fleet: Fleet) -> None:
    """Wait until everything was told, and compare what the agents saw with what arrived."""
    database = Database(open_engine(fleet.url))
    expected = fleet.end_of_faults()

    def is_over() -> bool:
        faults = [f for f in rows(database, schema.faults) if f["kind"] == "memory.remap_failed"]
        notices = rows(database, schema.notices)
        return (
            len(faults) == expected
            and all(f["state"] == "cleared" for f in faults)
            and all(i["state"] == "resolved" for i in rows(database, schema.incidents))
            and all(n["state"] == "delivered" for n in notices)
            and Counter(n["occasion"] for n in notices)["resolved"]
            == len(rows(database, schema.incidents))
        )

    until(is_over, "every fault cleared and told", explain=lambda: what_is_left(database))
    epochs = rows(database, schema.epochs)
    assert sorted(e["node"] for e in epochs) == sorted(AGENTS), "no agent had to begin anew"
    events = rows(database, schema.events)
    for epoch in epochs:
        seqs = sorted(e["seq"] for e in events if e["node"] == epoch["node"])
        assert seqs == list(range(1, epoch["acked_seq"] + 1)), "each event once"
    faults = rows(database, schema.faults)
    chips = Counter((f["node"], f["component"]) for f in faults if f["source"] == "acme")
    assert set(chips.values()) == {1}
    told = rows(database, schema.notices)
    heard = Counter(notice["id"] for notice in fleet.notices)
    assert set(heard) == {notice["id"] for notice in told}, "each notice arrived"
    per_incident = Counter((n["incident"], n["occasion"]) for n in told)
    assert set(per_incident.values()) == {1}, "an occasion is told once"
    doubled = {key: count for key, count in heard.items() if count > 1}
    # One that was delivered and not yet recorded in the moment of a kill comes again, under its id.
    assert len(doubled) <= 3, doubled
    database.close()
