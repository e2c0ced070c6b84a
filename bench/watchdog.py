"""What one watchdog holds: a fleet's streams, events without loss, silence told right, one page.

    PYTHONPATH=bench .venv/bin/python bench/watchdog.py [--agents 10000] [--seconds 600]
                                      [--events 5000] [--store sqlite|postgresql|URL]

Target (docs/benchmarks.md): 10,000 agents at most one core and 2 GiB; 5,000 events/s with none
lost; a rack group of 1,000 that falls silent is one incident and one page; a silent host is seen
within 3 s (p99); 1 % lost heartbeats and a pause of the whole fleet of 3 s judge nobody.

The agents are simulated at the level of the protocol (bench/fleet.py), in processes of their own
and over loopback; what they use of the machine's cores is in the table. The rack group is a process
that is stopped (SIGSTOP), a silent host one whose proxy freezes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import cost_of_tree, machine, print_table, quantile
from path import KEY, Receiver, start
from sqlalchemy import create_engine, text

from chipmedic_simulator.tcp_proxy import TcpProxy

READY = re.compile(r"ready: stream_port=(\d+) http=(\S+)")
PER_PROCESS = 2_500
FLEET = Path(__file__).with_name("fleet.py")
PAUSE_SECONDS = 3.0
SILENCE_WAIT_SECONDS = 20.0
CONNECT_PER_SECOND = 400


@dataclass(slots=True)
class Worker:
    """One process of the fleet."""

    process: subprocess.Popen[bytes]
    output: Path
    agents: int

    @property
    def figures(self) -> dict[str, float]:
        lines = self.output.read_text().splitlines() if self.output.exists() else []
        whole = [line for line in lines if line.endswith("}")]
        return json.loads(whole[-1]) if whole else {"connected": 0, "sent": 0, "acked": 0}


@dataclass(slots=True)
class Bench:
    """Everything that runs, and what was found."""

    given: argparse.Namespace
    folder: Path
    url: str
    receiver: Receiver
    watchdog: subprocess.Popen[bytes]
    address: str
    http: str
    workers: list[Worker] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def launch(self, agents: int, first: int, *, events: float, loss: float = 0.0,
               address: str = "") -> Worker:  # fmt: skip
        output = self.folder / f"fleet-{first}.jsonl"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, FLEET, "--address", address or self.address, "--first", str(first),
                 "--agents", str(agents), "--heartbeat", str(self.given.heartbeat),
                 "--events", str(events), "--loss", str(loss),
                 "--spread", str(max(1.0, agents / CONNECT_PER_SECOND))],
                stdout=out, env={**os.environ, "NO_PROXY": "127.0.0.1", "GRPC_VERBOSITY": "NONE"},
            )  # fmt: skip
        worker = Worker(process, output, agents)
        self.workers.append(worker)
        return worker

    def total(self, key: str) -> float:
        return sum(worker.figures.get(key, 0) for worker in self.workers)

    def sql(self, query: str) -> list[Any]:
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                return list(connection.execute(text(query)))
        finally:
            engine.dispose()

    def tell(self, what: str, value: str, target: str = "", *, is_met: bool = True) -> None:
        self.rows.append([what, value, target])
        sys.stderr.write(f"{what}: {value}\n")
        if not is_met:
            self.failures.append(what)


async def until(is_so: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.2)
    return True


async def connect(bench: Bench) -> None:
    """Start the fleet; a rack group (and a switch) is a process of its own."""
    given, first = bench.given, 0
    spread = [*_parts(given.agents - given.group)]
    began = time.monotonic()
    bench.launch(given.group, 0, events=0, loss=given.loss)
    first = ((given.group - 1) // 1000 + 1) * 1000  # the next switch
    for count in spread:
        share = given.events * count / max(1, given.agents - given.group)
        bench.launch(count, first, events=share, loss=given.loss)
        first += count
    is_whole = await until(lambda: bench.total("connected") >= given.agents, 300)
    bench.tell("agents connected", f"{bench.total('connected'):,.0f} of {given.agents:,} in "
               f"{time.monotonic() - began:.0f} s", "all", is_met=is_whole)  # fmt: skip


def _parts(agents: int) -> Iterator[int]:
    while agents > 0:
        yield min(PER_PROCESS, agents)
        agents -= PER_PROCESS


async def steady(bench: Bench) -> None:
    """Let the fleet beat and tell for the time given, and see what it costs."""
    for worker in bench.workers:
        worker.process.send_signal(signal.SIGUSR1)
    before, begun = cost_of_tree(bench.watchdog.pid), time.monotonic()
    sent = bench.total("sent")
    fleet = sum(cost_of_tree(worker.process.pid).cpu_seconds for worker in bench.workers)
    peak = before.pss_bytes
    while time.monotonic() - begun < bench.given.seconds:
        await asyncio.sleep(min(5.0, bench.given.seconds))
        peak = max(peak, cost_of_tree(bench.watchdog.pid).pss_bytes)
    seconds = time.monotonic() - begun
    cost = cost_of_tree(bench.watchdog.pid)
    fleet = sum(cost_of_tree(w.process.pid).cpu_seconds for w in bench.workers) - fleet
    cores = (cost.cpu_seconds - before.cpu_seconds) / seconds
    rate = (bench.total("sent") - sent) / seconds
    bench.tell("events/s sent", f"{rate:,.0f} over {seconds:.0f} s", f"{bench.given.events:,.0f}",
               is_met=rate >= 0.95 * bench.given.events)  # fmt: skip
    bench.tell("watchdog CPU", f"{cores:.2f} cores", "1", is_met=cores <= 1.0)
    bench.tell("watchdog memory (PSS, most)", f"{peak / 2**20:,.0f} MiB", "2,048",
               is_met=peak <= 2**31)  # fmt: skip
    busiest = max(bench.workers, key=lambda worker: worker.figures.get("ack_p99", 0))
    p50, p99 = busiest.figures["ack_p50"], busiest.figures["ack_p99"]
    bench.tell("event made → acknowledged, p50 / p99", f"{p50:.3f} / {p99:.3f} s")
    bench.tell("fleet's own CPU", f"{fleet / seconds:.2f} cores of {os.cpu_count()}")


async def pause(bench: Bench) -> None:
    """Stop the whole fleet for three seconds; with the loss of heartbeats it judges nobody."""
    before = len(unreachable(bench))
    for worker in bench.workers:
        worker.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(PAUSE_SECONDS)
    for worker in bench.workers:
        worker.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(SILENCE_WAIT_SECONDS)
    await until(lambda: bench.total("connected") >= bench.given.agents, 60)
    false = len(unreachable(bench)) - before
    bench.tell(f"judged silent by {bench.given.loss:.0%} lost heartbeats and a pause of 3 s",
               str(false), "0", is_met=false == 0)  # fmt: skip


def unreachable(bench: Bench) -> list[Any]:
    return bench.sql("SELECT node, opened_at FROM faults WHERE kind = 'node.unreachable'")


async def silent_hosts(bench: Bench) -> None:
    """Freeze the proxies of single hosts, one after the other, and see when each is judged."""
    first = 900_000
    proxies = []
    rng = random.Random(7)
    for number in range(bench.given.hosts):
        proxy = await TcpProxy(bench.address, rng).start()
        bench.launch(1, first + number, events=0, address=proxy.address)
        proxies.append(proxy)
    names = [f"node-{first + number:05d}" for number in range(bench.given.hosts)]
    await until(lambda: bench.total("connected") >= bench.given.agents + bench.given.hosts, 60)
    frozen: dict[str, float] = {}
    for name, proxy in zip(names, proxies, strict=True):
        await asyncio.sleep(rng.uniform(0.5, 1.5))
        frozen[name] = time.time()
        proxy.is_frozen = True
    await asyncio.sleep(8.0)
    seen = {node: at - frozen[node] for node, at in unreachable(bench) if node in frozen}
    values = list(seen.values())
    missed = len(frozen) - len(seen)
    if values:
        bench.tell("silent host → judged, p50 / p99 / max",
                   f"{quantile(values, 0.5):.2f} / {quantile(values, 0.99):.2f} / "
                   f"{max(values):.2f} s", "3 (p99)",
                   is_met=quantile(values, 0.99) <= 3.0 and not missed)  # fmt: skip
    bench.tell("silent hosts not seen", f"{missed} of {len(frozen)}", "0", is_met=not missed)
    for worker in bench.workers[-bench.given.hosts :]:
        worker.process.kill()
        worker.process.wait()
    del bench.workers[-bench.given.hosts :]
    for proxy in proxies:
        await proxy.stop()


async def silent_group(bench: Bench) -> None:
    """Stop the process of the rack group: one incident, one page."""
    before, at = pages(bench), time.time()
    bench.workers[0].process.send_signal(signal.SIGSTOP)
    await until(lambda: len(judged_since(bench, at)) >= bench.given.group, 60)
    await until(lambda: pages(bench) > before, 30)
    await asyncio.sleep(3.0)
    found = bench.sql(
        f"SELECT id, cause, opened_at FROM incidents WHERE opened_at > {at} "
        "AND kind = 'node.unreachable'"
    )
    judged = judged_since(bench, at)
    bench.tell(f"group of {bench.given.group:,} silent: judged", f"{len(judged):,}",
               f"{bench.given.group:,}", is_met=len(judged) >= bench.given.group)  # fmt: skip
    bench.tell("… incidents", f"{len(found)} ({', '.join(row[1] for row in found)})", "1",
               is_met=len(found) == 1)  # fmt: skip
    told = pages(bench) - before
    bench.tell("… pages", str(told), "1", is_met=told == 1)
    if found:
        seconds = max(row[1] for row in judged) - at
        bench.tell("… stopped → incident / last verdict",
                   f"{found[0][2] - at:.1f} / {seconds:.1f} s")  # fmt: skip
    bench.workers[0].process.send_signal(signal.SIGCONT)
    await until(lambda: bench.total("connected") >= bench.given.agents, 60)
    await asyncio.sleep(SILENCE_WAIT_SECONDS)  # the incident is over; the next one is another


def judged_since(bench: Bench, at: float) -> list[Any]:
    return bench.sql(
        f"SELECT node, opened_at FROM faults WHERE kind = 'node.unreachable' AND opened_at > {at}"
    )


def pages(bench: Bench) -> int:
    """Return how many notices the receiver has of incidents that are not over."""
    return len(bench.receiver.texts)


async def nothing_lost(bench: Bench) -> None:
    """End the fleet and count what is in the store."""
    for worker in bench.workers:
        worker.process.send_signal(signal.SIGTERM)
    await until(lambda: all(w.process.poll() is not None for w in bench.workers), 60)
    for worker in bench.workers:
        if worker.process.poll() is None:
            sys.stderr.write(f"not acknowledged: {worker.figures}\n")
    sent, acked = bench.total("sent"), bench.total("acked")
    (row,) = bench.sql("SELECT count(*) FROM events WHERE transition != 'gap'")
    bench.tell("events sent / acknowledged / in the store",
               f"{sent:,.0f} / {acked:,.0f} / {row[0]:,}", "the same",
               is_met=sent == acked == row[0])  # fmt: skip


@contextmanager
def store(kind: str, folder: Path) -> Iterator[str]:
    """Yield the address of an empty store."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/watchdog.db"
        return
    if kind != "postgresql":
        yield kind
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from postgres_server import PostgresServer  # a server of the tests' own, on a unix socket

    server = PostgresServer.create()
    try:
        server.start()
        yield server.url(server.new_database())
    finally:
        server.stop()


@contextmanager
def running(given: argparse.Namespace) -> Iterator[Bench]:
    receiver = Receiver()
    with (
        tempfile.TemporaryDirectory() as name,
        receiver.serving() as webhook,
        store(given.store, Path(name)) as url,
    ):
        folder = Path(name)
        (folder / "key").write_bytes(KEY)
        (folder / "watchdog.toml").write_text(
            f'[store]\nurl = "{url}"\n[stream]\nlisten = "127.0.0.1:0"\n'
            f'heartbeat_seconds = {given.heartbeat}\n[http]\nlisten = "127.0.0.1:0"\n'
            f'[notify.channels.desk]\nkind = "webhook"\nurl = "{webhook}"\n'
            f'secret_file = "{folder}/key"\n'
        )
        log = folder / "watchdog.log"
        watchdog = start("chipmedic_watchdog", folder / "watchdog.toml", log)
        bench = None
        try:
            end = time.monotonic() + 60
            while not (found := READY.search(log.read_text(errors="replace"))):
                if watchdog.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the watchdog is not ready:\n{log.read_text()}")
                time.sleep(0.05)
            bench = Bench(
                given, folder, url, receiver, watchdog, f"127.0.0.1:{found[1]}",
                f"http://{found[2]}",
            )  # fmt: skip
            yield bench
        finally:
            for worker in bench.workers if bench else ():
                if worker.process.poll() is None:
                    worker.process.send_signal(signal.SIGCONT)
                    worker.process.kill()
                    worker.process.wait()
            watchdog.terminate()
            try:
                watchdog.wait(30)
            except subprocess.TimeoutExpired:
                watchdog.kill()
            if given.keep_log:
                Path(given.keep_log).write_text(log.read_text(errors="replace"))


async def measure(bench: Bench) -> None:
    await connect(bench)
    await steady(bench)
    await pause(bench)
    await silent_group(bench)
    if bench.given.hosts:
        await silent_hosts(bench)
    await nothing_lost(bench)
    with urllib.request.urlopen(f"{bench.http}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    stalls = re.search(r"^chipmedic_watchdog_stalls_total (\S+)", metrics, re.M)
    bench.tell("stalls of the watchdog's own loop", stalls[1] if stalls else "?")


def main() -> int:
    """Measure and print; the exit status says whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--group", type=int, default=1_000, help="agents that fall silent at once")
    parser.add_argument("--hosts", type=int, default=20, help="agents that fall silent alone")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--events", type=float, default=5_000.0, help="per second")
    parser.add_argument("--heartbeat", type=float, default=5.0)
    parser.add_argument("--loss", type=float, default=0.01, help="share of lost heartbeats")
    parser.add_argument("--store", default="sqlite", help="sqlite, postgresql, or an address")
    parser.add_argument("--keep-log", default="", help="put the watchdog's log here")
    given = parser.parse_args()
    given.group = min(given.group, given.agents)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if given.agents * 1.2 + 200 > hard:
        raise SystemExit(f"{given.agents} agents need more open files than {hard} (ulimit -n)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended
    print(machine())
    with running(given) as bench:
        asyncio.run(measure(bench))
        print_table([f"{given.agents:,} agents, {given.store}", "found", "target"], bench.rows)
        load = os.getloadavg()[0]
        print(f"load {load:.1f} at the end on {os.cpu_count()} cores")
        print("targets met" if not bench.failures else f"NOT met: {'; '.join(bench.failures)}")
        return 1 if bench.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
