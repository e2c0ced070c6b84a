"""How long nobody leads when the leading watchdog dies, or stands still.

    PYTHONPATH=bench .venv/bin/python bench/lead.py [--rounds 12] [--store postgresql|URL]

Target (docs/operations.md): at most 10 s, each time. Two real watchdogs on one PostgreSQL; in each
round the leader gets SIGKILL or SIGSTOP, and the time counts until the other one says on /healthz
that it leads. Then the first is there again and follows. A round in which both would lead at once
fails the run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from measure import machine, print_table, quantile

from watchdog import store

READY = re.compile(r"ready: stream_port=\d+ http=(\S+)")
TARGET_SECONDS = 10.0
WAIT_SECONDS = 60.0


class Watchdog:
    """One process and its address."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store = folder, store
        folder.mkdir()
        self.start()

    def start(self) -> None:
        """Start it and wait until it serves."""
        config, log = self.folder / "watchdog.toml", self.folder / "log"
        config.write_text(
            f'store.url = "{self.store}"\nstream.listen = "127.0.0.1:0"\n'
            'http.listen = "127.0.0.1:0"\n'
        )
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chipmedic_watchdog.main", "--config", str(config)],
                stderr=file,
            )
        wait_for(lambda: READY.search(log.read_text()) is not None)
        found = READY.search(log.read_text())
        assert found is not None
        self.http = found[1]

    def leads(self) -> bool:
        """Ask it."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/healthz", timeout=1) as answer:
                return bool(json.load(answer)["lead"]["is_leader"])
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def signal(self, number: int) -> None:
        """Signal it."""
        os.kill(self.process.pid, number)


def wait_for(is_so: object) -> float:
    """Wait; return how long it took."""
    assert callable(is_so)
    begin = time.monotonic()
    while not is_so():
        if time.monotonic() - begin > WAIT_SECONDS:
            raise SystemExit(f"not within {WAIT_SECONDS:g} s")
        time.sleep(0.05)
    return time.monotonic() - begin


def measure(pair: list[Watchdog], number: int) -> float:
    """Take the lead from who has it; return the seconds until the other one has it."""
    leader = next(one for one in pair if one.leads())
    (other,) = [one for one in pair if one is not leader]
    leader.signal(number)
    seconds = wait_for(other.leads)
    if number == signal.SIGSTOP:
        leader.signal(signal.SIGCONT)
        time.sleep(0.5)
        if leader.leads():
            raise SystemExit("two lead at once")
    else:
        leader.process.wait()
        leader.start()
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; 1 where one took too long."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", default="postgresql", help="postgresql, or an address")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args(argv)
    print(machine(), f"load {os.getloadavg()[0]:.1f}")
    rows, worst = [], 0.0
    with tempfile.TemporaryDirectory() as folder, store(arguments.store, Path(folder)) as url:
        pair = [Watchdog(Path(folder) / name, url) for name in ("a", "b")]
        try:
            wait_for(lambda: any(one.leads() for one in pair))
            for name, number in (("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP)):
                took = [measure(pair, number) for _ in range(arguments.rounds)]
                worst = max(worst, *took)
                rows.append(
                    (name, str(len(took)), f"{quantile(took, 0.5):.1f}", f"{max(took):.1f}")
                )
        finally:
            for one in pair:
                one.process.kill()
    print_table(("the leader is", "n", "p50 s", "max s"), rows)
    return int(worst > TARGET_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
