"""Proofs that people would be told: each returns what does not work, in words."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chipmedic.errors import StoreError
from chipmedic_watchdog.notify.courier import Courier
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store
from chipmedic_watchdog.store.upsert import write_rows

LOOKS_MISSED = 6
FAILING_SECONDS = 300.0
"""When every channel has failed for so long, nobody is told."""


def of_loop(age_seconds: float, poll_seconds: float, trouble: str) -> list[str]:
    """Prove that the loop looks for news."""
    if age_seconds > LOOKS_MISSED * poll_seconds:
        return [f"notices: no look for news for {age_seconds:.0f} s: {trouble or 'it hangs'}"]
    return []


def of_couriers(couriers: Sequence[Courier], now: float) -> list[str]:
    """Prove that notices are delivered: one channel that fails is seen by others, all are not."""
    reasons = [f"channel {one.name}: its courier hangs" for one in couriers if one.is_stuck]
    failing = [
        one
        for one in couriers
        if one.failing_since is not None and now - one.failing_since > FAILING_SECONDS
    ]
    if failing and len(failing) == len(couriers):
        reasons.append("no channel delivers: " + ", ".join(one.name for one in failing))
    return reasons


async def of_store(database: Store, now: float) -> list[str]:
    """Prove that the store takes a write, by making one."""
    try:
        await database.write(lambda connection: _beat(connection, now))
    except StoreError as e:
        return [f"store: {e}"]
    return []


def _beat(connection: Connection, now: float) -> None:
    write_rows(connection, schema.counters, [{"name": "deadman", "value": int(now)}])
