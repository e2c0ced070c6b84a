"""The loop of recoveries while the rest of the watchdog rings its bell all the time."""

from __future__ import annotations

import asyncio

from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import NOW, FakeScheduler, World, put, put_incident, rows


async def ring(loop: RecoverLoop, seconds: float) -> None:
    for _ in range(int(seconds / 0.02)):
        loop.wake()
        await asyncio.sleep(0.02)


async def test_a_repaired_node_returns_though_heartbeats_never_cease(database: Database) -> None:
    world = World(drained={"n1": "chipmedic:inc-000001"})
    put_incident(database, state="resolved", resolved_at=NOW)
    put(
        database, schema.isolations, node="n1", adapter="slurm", incident="inc-000001",
        reason="chipmedic:inc-000001", undo={"reason": "chipmedic:inc-000001"}, isolated_at=NOW,
    )  # fmt: skip
    settings = RecoverSettings(mode=Mode.ACT, return_mode=Mode.ACT, poll_seconds=0.3)
    loop = RecoverLoop(database, settings, {"slurm": FakeScheduler(world)})
    running = asyncio.create_task(loop.run())
    await ring(loop, 2.0)
    running.cancel()
    (isolation,) = rows(database, schema.isolations)
    assert isolation["returned_at"] is not None
