"""Notices as an on-call person meets them: a real watchdog, its command line, real receivers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from fake_agent import FakeAgent, a_fault, event
from waiting import PATIENCE_SECONDS, until
from watchdog.notify.receivers import HttpReceiver, unused_port
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

CHIPMEDIC = Path(sys.executable).with_name("chipmedic")
CONFIG = """
[notify]
external_url = "http://127.0.0.1:1"

[notify.links]
key_file = "{folder}/link-key"

[notify.channels.desk]
kind = "webhook"
url = "{desk}"
secret_file = "{folder}/hmac-key"

[notify.channels.gone]
kind = "webhook"
url = "http://127.0.0.1:{gone}/"
secret_file = "{folder}/hmac-key"

[[notify.routes]]
matchers = ['node="n9"']
channels = ["gone"]

[[notify.routes]]
matchers = ['kind=~"memory[.].*"']
channels = ["desk"]

[notify.deadman]
url = "{alive}/ping/0a1b"
interval_seconds = 0.2
"""


@dataclass
class Site:
    watchdog: WatchdogProcess
    desk: HttpReceiver
    alive: HttpReceiver

    def chipmedic(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CHIPMEDIC, *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            env={**os.environ, "COLUMNS": "250", "NO_COLOR": "1", "SUDO_USER": "mei",
                 "CHIPMEDIC_WATCHDOG": self.watchdog.http},
        )  # fmt: skip

    def break_node(self, node: str) -> None:
        async def report() -> None:
            async with FakeAgent(self.watchdog.address, node=node, next_seq=2) as agent:
                await agent.events(event(1, a_fault()))
                await agent.acked(1)
                await agent.goodbye()

        asyncio.run(report())

    def told(self) -> list[str]:
        return [json.loads(request.body)["title"] for request in self.desk.requests]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with HttpReceiver() as desk, HttpReceiver() as alive:
        for name in ("link-key", "hmac-key"):
            (tmp_path / name).write_text("0123456789abcdef" * 2)
        config = CONFIG.format(
            folder=tmp_path,
            desk=desk.url,
            gone=unused_port(),
            alive=f"http://127.0.0.1:{alive.port}",
        )
        watchdog = WatchdogProcess(tmp_path / "watchdog", config)
        watchdog.start()
        yield Site(watchdog, desk, alive)
        watchdog.close()


def test_a_silence_holds_a_page_and_its_end_lets_it_go(site: Site) -> None:
    made = site.chipmedic("silence", "add", 'node="n1"', "--duration", "1h", "--why", "fan swap")
    assert re.fullmatch(r"sil-000001: active until .+ UTC\n", made.stdout), made.stderr
    site.break_node("n1")
    until(lambda: "(held)" in site.chipmedic("incidents", "list").stdout)
    assert "not told" in site.chipmedic("incidents", "show", "inc-000001").stdout
    assert "nobody told: sil-000001" in site.watchdog.get("/").text
    assert site.told() == []
    listed = site.chipmedic("silence", "list").stdout
    assert 'node="n1"' in listed
    assert "fan swap" in listed
    assert site.chipmedic("silence", "expire", "sil-000001").stdout == "sil-000001: expired\n"
    until(lambda: len(site.told()) == 1)
    assert "no silence" in site.chipmedic("silence", "list").stdout
    assert "ended by mei" in site.chipmedic("silence", "list", "--all").stdout


def test_what_was_sent_and_what_failed_is_shown(site: Site) -> None:
    site.break_node("n1")
    site.break_node("n9")
    until(lambda: len(site.told()) == 1)
    until(lambda: "tries" in site.chipmedic("notices", "--pending").stdout)
    until(lambda: "HTTP 200" in site.chipmedic("notices").stdout)
    shown = site.chipmedic("notices").stdout
    assert "no answer: ConnectError" in shown
    listed = json.loads(site.chipmedic("notices", "--channel", "desk", "--json").stdout)
    assert [row["route"] for row in listed] == ['kind=~"memory[.].*"']
    text = site.chipmedic("notices", "show", listed[0]["id"]).stdout
    assert "uncorrectable memory error" in text
    assert "-- desk: delivered, HTTP 200" in text


def test_a_channel_is_tested_the_whole_way(site: Site) -> None:
    good = site.chipmedic("notices", "test", "desk")
    assert (good.returncode, good.stdout) == (0, "desk: delivered: HTTP 200\n")
    assert site.told() == ["chipmedic: a test, nothing is wrong"]
    bad = site.chipmedic("notices", "test", "gone")
    assert (bad.returncode, bad.stderr) == (
        1,
        "chipmedic: gone: not delivered: no answer: ConnectError\n",
    )
    way = site.chipmedic("notices", "route", "kind=memory.contained", "node=n1").stdout
    assert re.search(r"^desk +at once +kind=~", way, re.MULTILINE), way
    unknown = site.chipmedic("notices", "test", "dsek")
    assert "there are: desk, gone" in unknown.stderr


def test_a_link_acknowledges_once(site: Site) -> None:
    site.break_node("n1")
    until(lambda: len(site.told()) == 1)
    body = json.loads(site.desk.requests[0].body)
    link = body["data"]["links"]["acknowledge"]
    assert link in body["body"]
    here = link.replace("http://127.0.0.1:1", site.watchdog.http)
    assert "Look after inc-000001" in httpx.get(here).text
    assert httpx.post(here, data={"who": "Mei"}).status_code == 200
    assert httpx.post(here, data={"who": "Lin"}).status_code == 409
    assert "Mei (by link)" in site.chipmedic("incidents", "show", "inc-000001").stdout


def test_maintenance_is_announced_and_ended(site: Site) -> None:
    nodes = ("n1", "n.2", "n-3")
    add = ("maintenance", "add", *nodes, "--start", "+1h", "--duration", "2h", "--why", "x")
    assert site.chipmedic(*add).stdout.startswith("sil-000001: pending until ")
    assert r'node=~"n1|n\\.2|n-3"' in site.chipmedic("maintenance", "list").stdout
    assert site.chipmedic("maintenance", "end", "sil-000001").returncode == 0
    wrong = site.chipmedic("maintenance", "add", "n1", "--duration", "soon", "--why", "x")
    assert wrong.returncode == 2
    refused = site.chipmedic("silence", "add", 'node=~".*"', "--why", "x")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_the_dead_mans_switch_hears_of_death_by_silence(site: Site) -> None:
    until(lambda: len(site.alive.requests) >= 3)
    assert {(r.method, r.path) for r in site.alive.requests} == {("GET", "/ping/0a1b")}
    assert 'deadman_pings_total{result="well"}' in site.watchdog.get("/metrics").text
    site.watchdog.kill()
    count = len(site.alive.requests)
    time.sleep(1)
    # One that was on its way in the moment of its death may arrive after it; five would be due.
    assert len(site.alive.requests) <= count + 1
