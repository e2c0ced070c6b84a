"""Notices lost, with the receiver away and the watchdog killed all the time.

    .venv/bin/python bench/notices.py [--incidents 5000]

Target (docs/benchmarks.md): 0 of 10,000 lost with any one part down, and none twice in effect.

A child process runs the notice loop over a store in which incidents open and resolve; it is killed
with SIGKILL again and again, and the receiver answers 500, closes, or is gone for half of the time.
At the end every notice must have arrived; one that came twice came with the same id.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.synchronize import Event
from pathlib import Path

from measure import machine
from sqlalchemy import func, insert, select, update

from chipmedic_watchdog.notify.loop import NotifyLoop
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate

LIFE_SECONDS = (2.0, 6.0)
"""How long the watchdog lives before it is killed."""
START_SECONDS = 120.0
BATCH = 100
END_SECONDS = 1800.0


class Receiver:
    """A receiver that is in trouble for about half of the time."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.is_well = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.is_well and random.random() < 0.5:
                    self.close_connection = True
                    return  # closed without an answer
                if receiver.is_well:
                    receiver.seen[json.loads(body)["id"]] += 1
                self.send_response(200 if receiver.is_well else 500)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"


def run_watchdog(store: str, url: str, key: str, begins: Event) -> None:
    """Run the notice loop until killed; sets `begins` first."""
    logging.disable(logging.ERROR)
    channel = ChannelSettings(
        kind=ChannelKind.WEBHOOK, url=url, secret_file=key, timeout_seconds=2.0
    )
    settings = NotifySettings(
        channels={"desk": channel},
        retry_first_seconds=0.05,
        retry_longest_seconds=0.5,
        decision_wait_seconds=0.0,
    )
    begins.set()
    asyncio.run(NotifyLoop(Database(open_engine(store)), settings).run())


def open_incidents(database: Database, first: int, count: int) -> None:
    """Open some incidents."""
    now = time.time()
    rows = [
        {
            "id": f"inc-{number:06d}", "state": "open", "severity": 3, "kind": "chip.lost",
            "cause": "single/1", "title": "chip lost", "nodes": [f"n{number}"], "jobs": [],
            "fault_at": now, "opened_at": now, "updated_at": now,
        }
        for number in range(first, first + count)
    ]  # fmt: skip
    database.write_now(lambda c: c.execute(insert(schema.incidents), rows))


def resolve_told(database: Database) -> None:
    """Resolve the incidents of which people have been told, so that both notices are due."""
    told = select(schema.notice_marks.c.incident)
    values = {"state": "resolved", "resolved_at": time.time(), "revision": 2}
    database.write_now(
        lambda c: c.execute(
            update(schema.incidents).where(schema.incidents.c.id.in_(told)).values(**values)
        )
    )


def pending(database: Database) -> tuple[int, int]:
    """Return how many notices were written and how many of them wait."""
    table = schema.notices
    count = select(func.count()).select_from(table)
    return database.read_now(
        lambda c: (
            c.execute(count).scalar_one(),
            c.execute(count.where(table.c.state != "delivered")).scalar_one(),
        )
    )


def measure(folder: Path, incidents: int) -> tuple[Receiver, int, int]:
    """Break everything while incidents open and resolve; return receiver, notices and kills."""
    store, key = f"sqlite:///{folder}/watchdog.db", folder / "key"
    key.write_text("bench")
    engine = open_engine(store)
    migrate(engine)
    database, receiver = Database(engine), Receiver()
    context = multiprocessing.get_context("spawn")
    opened = kills = 0
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        begins = context.Event()
        arguments = (store, receiver.url, str(key), begins)
        watchdog = context.Process(target=run_watchdog, args=arguments)
        watchdog.start()
        begins.wait(START_SECONDS)  # on a busy machine it would be killed before it does anything
        until = time.monotonic() + random.uniform(*LIFE_SECONDS)
        while time.monotonic() < until:
            receiver.is_well = random.random() < 0.5
            if opened < incidents:
                open_incidents(database, opened, min(BATCH, incidents - opened))
                opened = min(incidents, opened + BATCH)
            with suppress(Exception):
                resolve_told(database)
            time.sleep(0.1)
        receiver.is_well = opened >= incidents
        watchdog.kill()
        watchdog.join()
        kills += 1
        written, waiting = pending(database)
        if written >= 2 * incidents and waiting == 0:
            break
    return receiver, pending(database)[0], kills


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--incidents", type=int, default=5000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chipmedic-bench-") as folder:
        receiver, written, kills = measure(Path(folder), given.incidents)
    expected = 2 * given.incidents
    again = sum(count - 1 for count in receiver.seen.values())
    print(machine())
    print(
        f"notices: expected={expected} written={written} arrived={len(receiver.seen)} "
        f"lost={expected - len(receiver.seen)} repeated_with_same_id={again} kills={kills}"
    )
    raise SystemExit(len(receiver.seen) != expected)


if __name__ == "__main__":
    main()
