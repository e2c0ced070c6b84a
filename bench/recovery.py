"""From a fault in the store to the job running on clean nodes, on a real private Slurm.

    sudo .venv/bin/python bench/recovery.py [--rounds 20] [--without]

Target (docs/benchmarks.md): p50 at most 20 s, p95 at most 60 s, unattended.

Munge, slurmctld and four slurmd on loopback, `cred_expire` at its default; a two-node job; each
round writes the incident of an uncorrectable memory error and waits until the recovery is done and
the job runs elsewhere. `--without` measures what Slurm does after `scontrol requeue` alone.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from measure import machine, quantile
from sqlalchemy import Connection, insert, select, update

from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.settings import GateSettings, Mode, RecoverSettings, SlurmSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from system.slurm.cluster import NODES, Cluster, why_not

ROUND_SECONDS = 180.0


def open_store(folder: Path) -> Database:
    """Return a store that knows the cluster's nodes."""
    engine = open_engine(f"sqlite:///{folder}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    now = time.time()
    rows = [
        {
            "node": node,
            "state": "connected",
            "labels": {},
            "first_seen_at": now,
            "last_seen_at": now,
        }
        for node in NODES
    ]
    database.write_now(lambda c: c.execute(insert(schema.nodes), rows))
    return database


def write_fault(identity: str, node: str, job: str, now: float) -> Callable[[Connection], None]:
    """Return the write that the correlation makes of a failed chip."""
    incident = {
        "id": identity, "state": "open", "severity": 3, "kind": "memory.uncorrectable",
        "cause": "single/1", "title": "memory", "nodes": [node], "jobs": [job],
        "fault_at": now, "opened_at": now, "updated_at": now,
    }  # fmt: skip
    fault = {
        "node": node, "component": "chip:GPU-1", "kind": "memory.uncorrectable", "severity": 3,
        "action": "reset_chip", "node_since": now, "opened_at": now, "updated_at": now,
        "summary": "memory", "source": "nvidia", "codes": [], "state": "open",
        "incident": identity,
    }  # fmt: skip

    def write(connection: Connection) -> None:
        connection.execute(insert(schema.incidents).values(**incident))
        connection.execute(insert(schema.faults).values(**fault))

    return write


def resolve(connection: Connection) -> None:
    """End every incident, so that its node is given back."""
    connection.execute(update(schema.faults).values(state="cleared"))
    connection.execute(update(schema.incidents).values(state="resolved"))


def start_job(cluster: Cluster) -> tuple[str, str]:
    """Start a two-node job; return its id and its first node."""
    job = cluster.submit("-N2")
    cluster.wait("the job runs", lambda: cluster.job(job)["JobState"] == "RUNNING", seconds=60)
    return job, cluster.job(job)["BatchHost"]


async def until(what: Callable[[], bool]) -> None:
    """Wait for something, at most for a round."""
    deadline = time.monotonic() + ROUND_SECONDS
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError("the round did not end")
        await asyncio.sleep(0.05)


async def one_round(cluster: Cluster, database: Database, loop: RecoverLoop, number: int) -> float:
    """Break a chip, wait for the job on clean nodes, repair; return the seconds between."""
    job, bad = await asyncio.to_thread(start_job, cluster)
    identity = f"inc-{number:06d}"

    def state() -> Any:
        table = schema.recoveries
        query = select(table.c.state).where(table.c.incident == identity).order_by(table.c.id)
        return database.read_now(lambda c: list(c.execute(query).scalars()))

    start = time.monotonic()
    await database.write(write_fault(identity, bad, f"slurm:{job}", time.time()))
    loop.wake()
    await until(lambda: state()[-1:] == ["done"])
    took_seconds = time.monotonic() - start
    after = cluster.job(job)
    if after["JobState"] != "RUNNING" or after["BatchHost"] == bad:
        raise SystemExit(f"round {number}: the job is {after['JobState']} on {after['NodeList']}")
    await database.write(resolve)
    await until(lambda: state() == ["done", "done"])
    await asyncio.to_thread(cluster.tidy)
    return took_seconds


async def measure_recoveries(cluster: Cluster, folder: Path, rounds: int) -> list[float]:
    """Run the recovery loop over a number of rounds."""
    database = open_store(folder)
    settings = RecoverSettings(
        mode=Mode.ACT,
        return_mode=Mode.ACT,
        gate=GateSettings(required=False),
        maximum_isolated_percent=50,
        maximum_isolations_per_node=rounds + 1,
        lemon_isolations=rounds + 1,
        return_cool_down_seconds=0,
        hold_file="",
        slurm=SlurmSettings(env=cluster.env),
    )
    loop = RecoverLoop(database, settings)
    task = asyncio.create_task(loop.run())
    try:
        return [await one_round(cluster, database, loop, n) for n in range(1, rounds + 1)]
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        database.close()


def measure_slurm_alone(cluster: Cluster, rounds: int) -> list[float]:
    """Requeue a job and wait until Slurm itself starts it again."""
    taken = []
    for _ in range(rounds):
        job, _ = start_job(cluster)
        start = time.monotonic()
        cluster.command("scontrol", "requeue", job)
        cluster.wait("it runs again", lambda job=job: _runs_again(cluster, job), seconds=300)  # type: ignore[misc]
        taken.append(time.monotonic() - start)
        cluster.tidy()
    return taken


def _runs_again(cluster: Cluster, job: str) -> bool:
    fields = cluster.job(job)
    return fields["JobState"] == "RUNNING" and fields["Restarts"] == "1"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--without", action="store_true", help="Slurm's requeue alone")
    given = parser.parse_args()
    if reason := why_not():
        raise SystemExit(f"cannot be measured here: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="chipmedic-bench-"))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        cluster.start()
        taken = (
            measure_slurm_alone(cluster, given.rounds)
            if given.without
            else asyncio.run(measure_recoveries(cluster, folder, given.rounds))
        )
    finally:
        cluster.stop()
        shutil.rmtree(folder)
    what = (
        "requeue by Slurm alone" if given.without else "fault in the store to job running elsewhere"
    )
    print(machine())
    p50, p95 = quantile(taken, 0.5), quantile(taken, 0.95)
    print(f"{what}: n={len(taken)} p50={p50:.1f} s p95={p95:.1f} s max={max(taken):.1f} s")


if __name__ == "__main__":
    main()
