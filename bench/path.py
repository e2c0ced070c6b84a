"""How long a fault takes from the kernel's log to the receiver of the notice, stage by stage.

    .venv/bin/python bench/path.py [--faults 60] [--settle 0.2]

Target (docs/benchmarks.md): p50 at most 1 s, p99 at most 3 s, no notice lost or sent twice.

A real agent and a real watchdog, connected over loopback, with their defaults. The kernel's log is
the simulator's file, at which the agent looks twice a second; the device of a real kernel wakes it
at once, so the first stage is worse here. Each fault is on a chip of its own and its incident is
closed before the next one, so that none joins another.
The receiver is an HTTP server in this process; a notice counts when its signature is right.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from measure import machine, print_table, quantile

from chipmedic_simulator.kernel_log import SimulatedKernelLog

KEY = b"bench"
WAIT_SECONDS = 30.0
TARGETS_SECONDS = {"p50": 1.0, "p99": 3.0}
READY = re.compile(r"ready: stream_port=(\d+) http=(\S+)")
STAGES = (
    "agent has seen it",
    "watchdog has received it",
    "incident is in the store",
    "notice is in the outbox",
    "receiver has it",
)


@dataclass(slots=True)
class Receiver:
    """The webhook's receiver: when each incident's notice came first, and how often."""

    at: dict[str, float] = field(default_factory=dict)
    ids: Counter[str] = field(default_factory=Counter)
    texts: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, headers: Any, body: bytes, at: float) -> bool:
        """Take in one request; False where it is not signed with our key."""
        stamp = headers.get("X-Chipmedic-Timestamp", "")
        digest = hmac.new(KEY, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if headers.get("X-Chipmedic-Signature") != f"sha256={digest}":
            self.refused += 1
            return False
        notice = json.loads(body)
        with self.lock:
            self.ids[notice["id"]] += 1
            if not notice["is_resolved"]:
                self.at.setdefault(notice["incident"], at)
                self.texts.setdefault(notice["incident"], notice["body"])
        return True

    def incident_of(self, words: str) -> str | None:
        """Return the incident whose notice holds these words."""
        with self.lock:
            return next((name for name, text in self.texts.items() if words in text), None)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on loopback; yields the address."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_good = receiver.take(self.headers, body, time.time())
                self.send_response(204 if is_good else 401)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/notices"
        finally:
            server.shutdown()
            server.server_close()


def start(program: str, config: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a daemon."""
    code = f"from {program}.main import run; run()"
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, "--config", str(config)],
            stdout=output,
            stderr=output,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
        )


@contextmanager
def site(folder: Path, webhook: str, settle_seconds: float) -> Iterator[str]:
    """Run both daemons, connected; yields the watchdog's HTTP address."""
    (folder / "key").write_bytes(KEY)
    (folder / "watchdog.toml").write_text(
        f'[store]\nurl = "sqlite:///{folder}/watchdog.db"\n'
        f'[stream]\nlisten = "127.0.0.1:0"\n[http]\nlisten = "127.0.0.1:0"\n'
        f"[incidents]\nsettle_seconds = {settle_seconds}\n"
        f'[notify.channels.desk]\nkind = "webhook"\nurl = "{webhook}"\n'
        f'secret_file = "{folder}/key"\n'
    )
    daemons = [start("chipmedic_watchdog", folder / "watchdog.toml", folder / "watchdog.log")]
    try:
        port, http = until(lambda: READY.search(read(folder / "watchdog.log"))).groups()
        (folder / "agent.toml").write_text(
            f'node = "node-1"\nwatchdogs = ["127.0.0.1:{port}"]\nhost_root = "{folder}/root"\n'
            f'state_directory = "{folder}/state"\nprogress_socket = "{folder}/beats"\n'
            f'[http]\nlisten = "127.0.0.1:0"\n'
        )
        daemons.append(start("chipmedic_agent", folder / "agent.toml", folder / "agent.log"))
        until(lambda: ask(f"http://{http}/api/v1/nodes?state=connected")["items"])
        time.sleep(2.0)  # the first looks of every collector are behind it
        yield f"http://{http}"
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(20)


def read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def ask(url: str, body: dict[str, str] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def until(look: Callable[[], Any]) -> Any:
    """Return what `look` sees; none within `WAIT_SECONDS` ends the run."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(0.02)
    raise SystemExit("not seen in time; is everything installed?")


def one_fault(log: SimulatedKernelLog, number: int, receiver: Receiver) -> tuple[str | None, float]:
    """Write a fault of a chip into the log; return its incident, if told, and when it was."""
    pci = f"{number // 200:04x}:{number % 200 + 16:02x}:00.0"
    began = time.time()
    log.say(("off-bus", "gsp", "remap-failed")[number % 3], pci)
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if incident := receiver.incident_of(pci):
            return incident, began
        time.sleep(0.002)
    return None, began


def stages(store: Path, began: dict[str, float], receiver: Receiver) -> list[list[float]]:
    """Return, per incident, when each stage was reached, as seconds after the fault."""
    query = """
        SELECT min(events.node_at), min(events.received_at), incidents.opened_at,
               (SELECT min(created_at) FROM notices WHERE incident = incidents.id)
        FROM incidents JOIN faults ON faults.incident = incidents.id
        JOIN events ON events.component = faults.component AND events.kind = faults.kind
        WHERE incidents.id = ? AND events.transition = 'raised'
    """
    with closing(sqlite3.connect(store)) as connection:
        return [
            [at - begin for at in (*connection.execute(query, (id_,)).fetchone(), receiver.at[id_])]
            for id_, begin in began.items()
        ]


def measure(faults: int, settle_seconds: float) -> tuple[list[list[float]], Receiver]:
    """Run the whole path so often; returns the stages and the receiver."""
    receiver = Receiver()
    began: dict[str, float] = {}
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as name, receiver.serving() as webhook:
        folder = Path(name)
        log = SimulatedKernelLog(folder / "root")
        with site(folder, webhook, settle_seconds) as http:
            for number in range(faults):
                incident, at = one_fault(log, number, receiver)
                if incident is None:
                    continue
                began[incident] = at
                ask(
                    f"{http}/api/v1/incidents/{incident}/resolve",
                    {"who": "bench", "why": "next"},
                )
                time.sleep(rng.uniform(0.1, 0.5))
        return stages(folder / "watchdog.db", began, receiver), receiver


def show(rows: Sequence[Sequence[float]]) -> None:
    """Print each stage by itself, then the whole."""
    table = []
    for number, words in enumerate(STAGES):
        own = [row[number] - (row[number - 1] if number else 0.0) for row in rows]
        table.append([words, *(f"{value:.3f}" for value in figures(own))])
    table.append(["**whole path**", *(f"{value:.3f}" for value in figures([r[-1] for r in rows]))])
    print_table(["until the …", "p50 s", "p95 s", "p99 s", "max s"], table)


def figures(values: Sequence[float]) -> tuple[float, float, float, float]:
    p50, p95, p99 = (quantile(values, share) for share in (0.5, 0.95, 0.99))
    return p50, p95, p99, max(values)


def main() -> int:
    """Measure and print; the exit status says whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--settle", type=float, default=0.2, help="of warnings, in seconds")
    given = parser.parse_args()
    print(machine())
    rows, receiver = measure(given.faults, given.settle)
    missed = given.faults - len(rows)
    twice = sum(count > 1 for count in receiver.ids.values())
    if rows:
        show(rows)
    print(f"faults {given.faults}, notices missed {missed}, sent twice {twice}, "
          f"refused {receiver.refused}")  # fmt: skip
    whole = [row[-1] for row in rows]
    is_met = bool(rows) and not missed and not twice and not receiver.refused
    is_met = is_met and quantile(whole, 0.5) <= TARGETS_SECONDS["p50"]
    is_met = is_met and quantile(whole, 0.99) <= TARGETS_SECONDS["p99"]
    print("targets met" if is_met else "targets NOT met")
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
