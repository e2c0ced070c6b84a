"""Escalation: who else is told when nobody acknowledges an incident."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Select, func, select

from chipmedic_watchdog.notify.routes import EscalationSettings, RouteSettings
from chipmedic_watchdog.store import schema

BEGINNINGS = ("opened", "reopened", "still", "held", "proposed")
"""Occasions from which the wait is counted: the first of them since the incident last opened."""
HANDLED = frozenset({"planned", "running", "verifying", "done"})
"""States of a recovery in which chipmedic is at work or has done it: nobody else is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An open incident that nobody has acknowledged."""

    incident: str
    reopened_count: int
    told_at: float
    """When people were first told, since it last opened."""
    levels_told: frozenset[int]


def waiting(connection: Connection) -> list[Waiting]:
    """Return the incidents that wait for somebody; those that are held or handled do not."""
    incidents, holds = schema.incidents, schema.notice_holds
    query = select(incidents.c.id, incidents.c.reopened_count).where(
        incidents.c.state == "open",
        incidents.c.acknowledged_at.is_(None),
        incidents.c.id.not_in(select(holds.c.incident)),
        incidents.c.id.not_in(handled()),
    )
    rows = connection.execute(query).all()
    found = (_waiting(connection, row.id, row.reopened_count) for row in rows)
    return [one for one in found if one is not None]


def _waiting(connection: Connection, incident: str, reopened_count: int) -> Waiting | None:
    """Return how long one incident waits; None: nobody has been told of it."""
    table = schema.notices
    query = select(table.c.id, table.c.occasion, table.c.created_at)
    told = connection.execute(query.where(table.c.incident == incident)).all()
    begun = [row.created_at for row in told if row.occasion in BEGINNINGS]
    if not begun:
        return None
    # A return that was told begins the wait anew; else it began with the first notice.
    returns = [row.created_at for row in told if row.occasion in ("reopened", "still")]
    mark = f"/{suffix(reopened_count, '')}"
    levels_told = (row.id.partition(mark)[2].partition("/")[0] for row in told)
    return Waiting(
        incident=incident,
        reopened_count=reopened_count,
        told_at=max(returns, default=min(begun)),
        levels_told=frozenset(int(level) for level in levels_told if level.isdecimal()),
    )


def suffix(reopened_count: int, level: int | str) -> str:
    """Return what names a step in the id of its notices: each is taken once per opening."""
    return f"escalated-{reopened_count}-{level}"


def handled() -> Select[tuple[str]]:
    """Return the incidents that chipmedic is at work on, or has dealt with."""
    recoveries = schema.recoveries
    newest = select(func.max(recoveries.c.id)).group_by(recoveries.c.incident)
    return select(recoveries.c.incident).where(
        recoveries.c.id.in_(newest), recoveries.c.state.in_(HANDLED)
    )


def levels(routes: Sequence[RouteSettings]) -> Iterator[tuple[int, EscalationSettings]]:
    """Yield the steps of the routes that an incident takes, numbered through."""
    steps = [step for route in routes for step in route.escalations]
    yield from enumerate(steps, start=1)


def due(
    one: Waiting, routes: Sequence[RouteSettings], now: float
) -> list[tuple[int, EscalationSettings]]:
    """Return the steps that are to be taken now."""
    return [
        (level, step)
        for level, step in levels(routes)
        if level not in one.levels_told and now - one.told_at >= step.after_seconds
    ]
