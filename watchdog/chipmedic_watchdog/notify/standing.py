"""How the channels fare: what the leader's couriers know, and what the store tells everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from chipmedic_watchdog.notify.settings import ChannelSettings
from chipmedic_watchdog.store import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """One channel, as its courier knows it."""

    name: str
    last_success_at: float | None
    """None: nothing has ever arrived there."""
    failures_in_a_row: int
    """Attempts since the last one that succeeded, or since the leader's start."""


def last_success(connection: Connection, channel: str) -> float | None:
    """Return when a channel got its last notice."""
    table = schema.notices
    query = select(func.max(table.c.delivered_at)).where(
        table.c.channel == channel, table.c.state == "delivered"
    )
    found: float | None = connection.execute(query).scalar()
    return found


def channels(
    connection: Connection, settings: Mapping[str, ChannelSettings]
) -> list[dict[str, Any]]:
    """Return every configured channel with what waits for it and what fails, by name."""
    table = schema.notices
    has_failed = table.c.attempts > 0
    query = (
        select(
            table.c.channel,
            func.count().label("pending"),
            func.count(case((has_failed, 1))).label("failing"),
            func.min(case((has_failed, table.c.created_at))).label("failing_since"),
            func.max(case((has_failed, table.c.last_error))).label("last_error"),
        )
        .where(table.c.state == "pending")
        .group_by(table.c.channel)
    )
    waiting = {row["channel"]: row for row in connection.execute(query).mappings()}
    nothing: dict[str, Any] = {"pending": 0, "failing": 0, "failing_since": None, "last_error": ""}
    return [
        {"channel": name, "kind": one.kind.value}
        | {key: waiting.get(name, nothing)[key] or empty for key, empty in nothing.items()}
        for name, one in sorted(settings.items())
    ]
