"""A watchdog's recovery in a process of its own, which a test can kill: until nothing is under way.

python recover_once.py STORE_URL SLURM_CONF PATH
"""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy import select

from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.settings import GateSettings, Mode, RecoverSettings, SlurmSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine

ENDED = ("done", "held", "stopped")


async def recover(database: Database, settings: RecoverSettings) -> None:
    """Run the loop until the recovery of the store has ended."""
    working = asyncio.create_task(RecoverLoop(database, settings).run())
    while True:
        states = await database.read(lambda c: c.execute(select(schema.recoveries.c.state)).all())
        if states and all(row.state in ENDED for row in states):
            break
        await asyncio.sleep(0.05)
    working.cancel()


def main(url: str, slurm_conf: str, path: str) -> None:
    """Recover, and say nothing."""
    settings = RecoverSettings(
        mode=Mode.ACT,
        maximum_isolated_percent=50.0,
        hold_file="",
        gate=GateSettings(required=False),
        slurm=SlurmSettings(env={"SLURM_CONF": slurm_conf, "PATH": path}),
    )
    asyncio.run(recover(Database(open_engine(url)), settings))


if __name__ == "__main__":
    main(*sys.argv[1:])
