"""Probation: for a time after its return a node leaves at what else would only be a warning.

Nearly a third of the machines that come back from a repair fail again within a week (StepFun), so a
first sign is taken for the fault itself. And who fails again waits longer before the next return.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from chipmedic.model import Severity
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import schema

FUSE = Severity.CRITICAL
"""A fault of the hardware as bad as this takes a node out ..."""
SHORT_FUSE = Severity.WARNING
"""... and one as bad as this, while the node is on probation."""


def fuse(*, is_on_probation: bool) -> Severity:
    """Return the least severity of a fault of the hardware for which a node must leave."""
    return SHORT_FUSE if is_on_probation else FUSE


def nodes(connection: Connection, settings: RecoverSettings, now: float) -> frozenset[str]:
    """Return the nodes that were given back a short while ago."""
    table = schema.isolations
    query = select(table.c.node).where(table.c.returned_at > now - settings.probation_seconds)
    return frozenset(connection.execute(query).scalars())


def not_before(isolated_at: float, earlier: int, settings: RecoverSettings) -> float:
    """Return when a device may be offered again at the earliest.

    At once after its first isolation of the window, then after the cool-down, thrice, seven times.
    """
    return isolated_at + settings.return_cool_down_seconds * (2.0 ** min(earlier, 10) - 1)


def earlier_isolations(
    connection: Connection, node: str, device: str, *, before: float, since: float
) -> int:
    """Count how often the same device of a node was isolated in the window before."""
    table = schema.isolations
    query = select(func.count()).where(
        table.c.node == node,
        table.c.device == device,
        table.c.isolated_at < before,
        table.c.isolated_at > since,
    )
    return connection.execute(query).scalar_one()
