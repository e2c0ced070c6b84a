"""A watchdog's recovery over a private Slurm: its store, its loops, and what a fault writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import insert, select

from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.incidents.engine import IncidentEngine
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.settings import GateSettings, Mode, RecoverSettings, SlurmSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from system.slurm.cluster import Cluster
from waiting import PATIENCE_SECONDS


def put(database: Database, table: Any, **values: Any) -> None:
    database.write_now(lambda c: c.execute(insert(table).values(**values)))


def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    return database.read_now(lambda c: [dict(r) for r in c.execute(select(table)).mappings()])


def bad_chip(database: Database, node: str, job: str, incident: str = "inc-000001") -> None:
    """What the correlation writes when a chip of the job's node fails."""
    now = time.time()
    put(
        database,
        schema.incidents,
        id=incident,
        state="open",
        severity=3,
        kind="memory.uncorrectable",
        cause=f"single/{incident}",
        title="memory.uncorrectable",
        nodes=[node],
        jobs=[job],
        fault_at=now,
        opened_at=now,
        updated_at=now,
    )
    put(
        database,
        schema.faults,
        node=node,
        component="chip:GPU-77",
        kind="memory.uncorrectable",
        severity=3,
        action="reset_chip",
        node_since=now,
        opened_at=now,
        updated_at=now,
        summary="2 uncorrectable memory errors",
        source="nvidia",
        codes=["xid:48"],
        state="open",
        incident=incident,
    )
    put(database, schema.job_nodes, job=job, node=node, node_at=now, received_at=now, pids=[1])


def bad_line(database: Database, node: str) -> None:
    """What the intake writes when the kernel of a node tells of a broken chip."""
    now = time.time()
    put(
        database, schema.faults, node=node, component="chip:GPU-77", kind="memory.uncorrectable",
        severity=3, action="reset_chip", node_since=now, opened_at=now, updated_at=now,
        summary="2 uncorrectable memory errors", source="kernel_log", codes=["xid:48"],
        state="open",
    )  # fmt: skip


@asynccontextmanager
async def recovering(
    cluster: Cluster, database: Database, **settings: Any
) -> AsyncIterator[RecoverLoop]:
    whole: dict[str, Any] = {
        "mode": Mode.ACT,
        "maximum_isolated_percent": 50.0,
        "hold_file": "",
        "gate": GateSettings(required=False),
        "slurm": SlurmSettings(env=cluster.env),
    } | settings
    loop = RecoverLoop(database, RecoverSettings(**whole))
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def state(
    database: Database, wanted: str, *, seconds: float = PATIENCE_SECONDS
) -> dict[str, Any]:
    """Wait until the newest recovery is in a state; its row."""
    start = time.monotonic()
    while True:
        found = rows(database, schema.recoveries)
        if found and found[-1]["state"] == wanted:
            return found[-1]
        assert time.monotonic() - start < seconds, found
        await asyncio.sleep(0.1)


@asynccontextmanager
async def correlating(database: Database, loop: RecoverLoop) -> AsyncIterator[None]:
    """Make incidents of faults, as the daemon does beside its recovery."""
    engine = IncidentEngine(
        database, Sessions(Clock(), 5.0), Metrics(), Health(), IncidentSettings()
    )
    engine.on_change = loop.wake
    task = asyncio.create_task(engine.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
