"""The manual's commands to back up and restore, run as they stand there, on real stores.

Replaced are only the paths and the name of the database, and `sudo` is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from fake_agent import FakeAgent, a_coverage, a_fault, a_snapshot, event
from postgres_server import PASSWORD, PostgresServer, binaries
from waiting import eventually
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

MANUAL = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
CHAPTER = MANUAL.partition("\n## Back up and restore\n")[2].partition("\n## ")[0]
FIRST, SECOND = a_fault("chip:GPU-a"), a_fault("chip:GPU-b")


def command(program: str) -> str:
    """Return the manual's command line with this program."""
    found = [line for line in re.findall(r"`([^`]+)`", CHAPTER) if f"{program} " in line]
    assert len(found) == 1, f"{program} is not in the manual once: {found}"
    return str(found[0])


def run(line: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), line


def open_components(watchdog: WatchdogProcess) -> set[str]:
    faults = watchdog.items("/api/v1/faults?state=open")
    return {str(f["component"]) for f in faults if f["kind"] == FIRST.kind}


async def lives_through(
    watchdog: WatchdogProcess, backup: Callable[[], None], restore: Callable[[], None]
) -> None:
    """A fault before the backup, one after it, and the store of before is put back."""
    watchdog.start(timeout_seconds=90)
    async with FakeAgent(watchdog.address) as agent:
        await agent.events(event(1, FIRST))
        await agent.acked(1)
        backup()
        await agent.events(event(2, SECOND))
        await agent.acked(2)
        await agent.goodbye()
    watchdog.kill(signal.SIGTERM)
    restore()
    watchdog.start(timeout_seconds=90)
    assert open_components(watchdog) == {"chip:GPU-a"}
    async with FakeAgent(watchdog.address, first_seq=3, next_seq=3) as agent:
        # It has forgotten the second event, for that was acknowledged; the snapshot says it.
        await agent.send(snapshot=a_snapshot([FIRST, SECOND], 2, [a_coverage("nvidia")]))
        await eventually(lambda: open_components(watchdog) == {"chip:GPU-a", "chip:GPU-b"})
        await agent.goodbye()


async def test_an_sqlite_store_comes_back(tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("the shell of SQLite: apt-get install sqlite3")
    watchdog = WatchdogProcess(tmp_path / "watchdog")
    store = tmp_path / "watchdog" / "store"
    (tmp_path / "backup").mkdir()
    line = command("sqlite3").removeprefix("sudo -u chipmedic-watchdog ")
    line = line.replace("/var/lib/chipmedic/watchdog", str(store))
    line = line.replace("/backup", f"{tmp_path}/backup")

    def restore() -> None:
        shutil.copy(tmp_path / "backup" / "watchdog.db", store / "watchdog.db")
        for name in re.findall(r"`(watchdog\.db-\w+)`", CHAPTER):
            (store / name).unlink(missing_ok=True)

    try:
        await lives_through(watchdog, lambda: run(line, tmp_path, {}), restore)
    finally:
        watchdog.close()


async def test_a_postgresql_store_comes_back(tmp_path: Path, postgres: PostgresServer) -> None:
    url = make_url(postgres.url(postgres.new_database()))
    folder = binaries()
    assert folder is not None
    environment = {
        "PGHOST": str(url.host or url.query["host"]),
        "PGUSER": str(url.username),
        "PGPASSWORD": PASSWORD,
        "PATH": f"{folder}:{os.environ['PATH']}",
    }
    if url.port is not None:
        environment["PGPORT"] = str(url.port)
    name = str(url.database)
    dump, load = (
        re.sub(r"\bchipmedic\b(?!\.)", name, command(program))
        for program in ("pg_dump", "pg_restore")
    )
    watchdog = WatchdogProcess(
        tmp_path / "watchdog", store_url=url.render_as_string(hide_password=False)
    )
    try:
        await lives_through(
            watchdog,
            lambda: run(dump, tmp_path, environment),
            lambda: run(load, tmp_path, environment),
        )
    finally:
        watchdog.close()
