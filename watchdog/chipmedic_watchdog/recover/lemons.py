"""Lemons: nodes that come back again and again with a fault, however often they were repaired.

Over four weeks a few nodes make a large part of all failures (Meta found 40 of them by their
history, RSC clusters, HPCA 2025). One fault is chance, and so are two; at the third within
`lemon_days` a node is kept out, with its history as the reason, until a person gives it back. Not
more than `lemon_percent` of the fleet: where so many are lemons it is not the nodes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from chipmedic.words import counted
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import schema

DAY_SECONDS = 86_400.0
KEPT_OUT = "kept_out"
"""The state of the check of a node that is kept out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastIsolation:
    """One time that a node was taken out by us."""

    at: float
    device: str
    """Component of the fault."""
    incident: str
    kind: str


def reason(
    past: Collection[PastIsolation], settings: RecoverSettings, *, kept_out: int, known: int
) -> str | None:
    """Return why a node is a lemon, or None; `past` is of the last `lemon_days`."""
    if len(past) < settings.lemon_isolations:
        return None
    if kept_out >= max(1, int(settings.lemon_percent * known / 100)):
        return None
    times = "; ".join(
        f"{datetime.fromtimestamp(one.at, UTC):%Y-%m-%d} {one.kind} on {one.device or 'the node'}"
        f" ({one.incident})"
        for one in sorted(past, key=lambda one: one.at)
    )
    return f"isolated {counted(len(past), 'time')} in {settings.lemon_days:g} days: {times}"


def judge(connection: Connection, node: str, settings: RecoverSettings, now: float) -> str | None:
    """Return why a node is to be kept out, from what the store remembers of it."""
    isolations, incidents, nodes = schema.isolations, schema.incidents, schema.nodes
    query = (
        select(isolations, incidents.c.kind)
        .join(incidents, incidents.c.id == isolations.c.incident)
        .where(isolations.c.node == node)
        .where(isolations.c.isolated_at > now - settings.lemon_days * DAY_SECONDS)
    )
    past = [
        PastIsolation(at=row.isolated_at, device=row.device, incident=row.incident, kind=row.kind)
        for row in connection.execute(query)
    ]
    others = select(func.count(isolations.c.node.distinct())).where(
        isolations.c.returned_at.is_(None), isolations.c.gate == KEPT_OUT, isolations.c.node != node
    )
    return reason(
        past,
        settings,
        kept_out=connection.execute(others).scalar_one(),
        known=connection.execute(select(func.count()).select_from(nodes)).scalar_one(),
    )
