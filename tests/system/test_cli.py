"""The command line against a real watchdog with a real fault in it, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_agent import FakeAgent, a_fault, event
from waiting import PATIENCE_SECONDS, until
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

CHIPMEDIC = Path(sys.executable).with_name("chipmedic")


def chipmedic(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHIPMEDIC, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
    )


@pytest.fixture(scope="module")
def watchdog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchdogProcess]:
    process = WatchdogProcess(tmp_path_factory.mktemp("watchdog"))
    process.start()
    yield process
    process.close()


async def _report_a_fault(address: str) -> None:
    async with FakeAgent(address, node="n1", next_seq=2) as agent:
        await agent.events(event(1, a_fault()))
        await agent.acked(1)
        await agent.goodbye()


def test_status_and_incidents(watchdog: WatchdogProcess) -> None:
    at = watchdog.http
    quiet = chipmedic("status", "--watchdog", at)
    assert (quiet.returncode, "no open incident" in quiet.stdout) == (0, True)

    asyncio.run(_report_a_fault(watchdog.address))
    until(lambda: watchdog.items("/api/v1/incidents"))
    loud = chipmedic("status", "--watchdog", at)
    assert loud.returncode == 1
    assert "inc-000001" in loud.stdout

    rows = json.loads(chipmedic("incidents", "list", "--json", CHIPMEDIC_WATCHDOG=at).stdout)
    assert "memory.uncorrectable" in {row["kind"] for row in rows}
    name = next(row["id"] for row in rows if row["kind"] == "memory.uncorrectable")
    assert "memory.uncorrectable" in chipmedic("incidents", "show", name, "--watchdog", at).stdout

    acknowledged = chipmedic("incidents", "ack", name, SUDO_USER="mei", CHIPMEDIC_WATCHDOG=at)
    assert acknowledged.stdout.strip() == f"{name}: acknowledged"
    assert "acknowledge by mei" in chipmedic("incidents", "show", name, "--watchdog", at).stdout
    resolve = ("incidents", "resolve", name, "--who", "mei", "--why", "chip replaced")
    done = chipmedic(*resolve, "--watchdog", at)
    assert done.stdout.strip() == f"{name}: resolved"
    assert done.stderr.startswith("still open, and told of no more while it lasts: ")
    assert "memory.uncorrectable" in done.stderr
    again = chipmedic(*resolve, "--watchdog", at)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "was resolved by mei" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["incidents", "show", "inc-999999"], 1, "chipmedic: there is no"),
        (["recoveries", "approve", "rec-999999", "--who", "mei"], 1, "there is no recovery"),
    ],
)
def test_what_is_not_there_is_one_line(
    watchdog: WatchdogProcess, arguments: list[str], code: int, words: str
) -> None:
    answer = chipmedic(*arguments, "--watchdog", watchdog.http)
    assert (answer.returncode, answer.stderr.count("\n")) == (code, 1)
    assert words in answer.stderr


def test_nobody_there_is_exit_code_3() -> None:
    answer = chipmedic("status", "--watchdog", "http://127.0.0.1:9")
    assert answer.returncode == 3
    assert answer.stderr.startswith("chipmedic: no watchdog at http://127.0.0.1:9")
    for no_address in ("nonsense", "watchdog.example.org:7480"):
        answer = chipmedic("status", "--watchdog", no_address)
        assert (answer.returncode, answer.stderr.count("\n")) == (3, 1)
        assert f"{no_address}: is no address; it begins with http://" in answer.stderr


def test_beat_reaches_a_socket_and_never_fails_a_job(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(PATIENCE_SECONDS)
        sent = chipmedic("beat", "--step", "7", "--phase", "train", CHIPMEDIC_SOCKET=path, RANK="3")
        assert sent.returncode == 0
        assert set(listener.recv(1024).decode().split()) >= {"step=7", "phase=train", "rank=3"}
    nobody = chipmedic("beat", "--step", "8", CHIPMEDIC_SOCKET=path)
    assert (nobody.returncode, "no agent listens" in nobody.stderr) == (0, True)
    assert chipmedic("beat").returncode == 1


def test_the_daemons_have_their_own_help() -> None:
    for name in ("agent", "watchdog"):
        answer = chipmedic(name, "--help")
        assert answer.returncode == 0
        assert "--check-config" in answer.stdout
