"""A real Alertmanager: what it is told, what it groups, and when it calls something over."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chipmedic_watchdog.notify import news
from chipmedic_watchdog.notify.channels.alertmanager import Alertmanager
from chipmedic_watchdog.notify.courier import Courier
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from waiting import PATIENCE_SECONDS, eventually
from watchdog.notify import story
from watchdog.notify.receivers import HttpReceiver

pytestmark = pytest.mark.system

PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
CONFIG = """
route:
  receiver: desk
  group_by: [alertname, cluster]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: desk
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


@dataclass
class Server:
    """One Alertmanager and the webhook behind it."""

    url: str
    desk: HttpReceiver

    def alerts(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts?active=true", timeout=60) as answer:
            return list(json.load(answer))

    def messages(self) -> list[dict[str, Any]]:
        """Return what people were told."""
        return [json.loads(request.body) for request in self.desk.requests]

    def told(self) -> list[tuple[str, int]]:
        """State and number of alerts of each message to people."""
        return [(message["status"], len(message["alerts"])) for message in self.messages()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if PROGRAM is None:
        pytest.skip("Alertmanager: not installed (Debian: prometheus-alertmanager)")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with HttpReceiver() as desk, (tmp_path / "log").open("wb") as log:
        (tmp_path / "config.yml").write_text(CONFIG.format(url=desk.url))
        argv = [PROGRAM, f"--config.file={tmp_path}/config.yml", f"--storage.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]  # fmt: skip
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        found = Server(f"http://127.0.0.1:{port}", desk)
        try:
            wait_until_ready(found)
            yield found
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{server.url}/-/ready", timeout=60):
                return
        except OSError:
            assert time.monotonic() < deadline, "Alertmanager does not start"
            time.sleep(0.1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = open_engine(f"sqlite:///{tmp_path}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    yield database
    database.close()


def write_news(database: Database, settings: NotifySettings) -> None:
    now, desk = time.time(), Desk(settings=settings)
    ids = database.read_now(lambda c: news.unread(c, settings, now))
    database.write_now(lambda c: news.write_news(c, ids, desk, now))


@asynccontextmanager
async def delivering(
    database: Database, server: Server, refresh_seconds: float
) -> AsyncIterator[None]:
    channel = ChannelSettings(kind=ChannelKind.ALERTMANAGER, url=server.url)
    settings = NotifySettings(channels={"am": channel}, cluster="north", decision_wait_seconds=0)
    notifier = Alertmanager("am", channel, refresh_seconds=refresh_seconds)
    courier = Courier(database, notifier, settings)

    async def write() -> None:
        while True:
            await asyncio.to_thread(write_news, database, settings)
            courier.wake()
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(courier.run()), asyncio.create_task(write())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def open_incident(database: Database, number: int, **values: Any) -> str:
    now, identity = time.time(), f"inc-{number:06d}"
    story.put_incident(database, identity, fault_at=now, opened_at=now, updated_at=now, **values)
    return identity


def change(database: Database, identity: str, **values: Any) -> None:
    story.change(database, schema.incidents, schema.incidents.c.id == identity, **values)


async def test_firing_grouped_resolved(server: Server, database: Database) -> None:
    async with delivering(database, server, refresh_seconds=60):
        for number in (1, 2, 3):
            open_incident(database, number, nodes=[f"n{number}"])
        await eventually(lambda: len(server.alerts()) == 3)
        shown = server.alerts()[0]
        assert shown["labels"]["alertname"] == "ChipmedicMemoryUncorrectable"
        assert shown["labels"]["cluster"] == "north"
        assert shown["status"]["state"] == "active"
        await eventually(lambda: ("firing", 3) in server.told())
        for number in (1, 2, 3):
            change(
                database, f"inc-{number:06d}", state="resolved", resolved_at=time.time(), revision=2
            )
        await eventually(lambda: server.alerts() == [])
        await eventually(lambda: server.told()[-1][0] == "resolved")
    groups = {message["groupKey"] for message in server.messages()}
    assert len(groups) == 1, "three incidents of one kind are one group"
    states = {row["state"] for row in story.rows(database, schema.notices)}
    assert states == {"delivered"}


async def test_what_is_open_stays_while_it_is_said_and_ends_when_nobody_says_it(
    server: Server, database: Database
) -> None:
    async with delivering(database, server, refresh_seconds=0.5):
        open_incident(database, 1)
        await eventually(lambda: len(server.alerts()) == 1)
        await asyncio.sleep(4)  # twice what the first alert was good for
        await eventually(lambda: len(server.alerts()) == 1)
    await eventually(lambda: server.alerts() == [])


async def test_an_incident_that_gets_worse_is_one_alert(server: Server, database: Database) -> None:
    async with delivering(database, server, refresh_seconds=60):
        identity = open_incident(database, 1, severity=2)
        await eventually(lambda: [a["labels"]["severity"] for a in server.alerts()] == ["warning"])
        change(database, identity, severity=3, revision=2)
        await eventually(lambda: [a["labels"]["severity"] for a in server.alerts()] == ["critical"])


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=ChipmedicDeadMansSwitch",), "deadman"),
        (("alertname=ChipmedicChipLost", "incident=inc-000001", "severity=critical"), "pager"),
        (("alertname=ChipmedicNicFlap", "incident=inc-000001", "severity=warning"), "desk"),
        (("alertname=ChipmedicStoreFailing", "severity=critical"), "desk"),
    ],
)
def test_the_example_sends_each_alert_where_it_says(labels: tuple[str, ...], receiver: str) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("amtool: not installed (Debian: prometheus-alertmanager)")
    config = Path(__file__).parents[2] / "deploy/alertmanager.yml"
    checked = subprocess.run(
        [amtool, "check-config", config], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    argv = [amtool, "config", "routes", "test", f"--config.file={config}", *labels]
    way = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert way.stdout.strip() == receiver
