"""Reminders: a critical incident that is open and that nobody has acknowledged is told again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from chipmedic.model import Severity
from chipmedic_watchdog.notify import escalation
from chipmedic_watchdog.notify.matchers import Labels
from chipmedic_watchdog.notify.routes import Target, chosen
from chipmedic_watchdog.notify.settings import ChannelKind, NotifySettings
from chipmedic_watchdog.store import schema

OCCASION = "reminded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a channel has heard of an open incident."""

    incident: str
    reopened_count: int
    channel: str
    last_at: float
    reminders: int

    @property
    def suffix(self) -> str:
        """What names the next reminder in its id: each is written once."""
        return f"{OCCASION}-{self.reopened_count}-{self.reminders + 1}"


def shortest(settings: NotifySettings) -> float | None:
    """Return the shortest interval of all routes; None: nobody is reminded."""
    given = [route.repeat_seconds for route in settings.routes if route.repeat_seconds is not None]
    return min((one for one in (*given, settings.repeat_seconds) if one > 0), default=None)


def waiting(connection: Connection, settings: NotifySettings, now: float) -> list[Told]:
    """Return what was told longer ago than the shortest interval, one for each channel."""
    interval_seconds = shortest(settings)
    if interval_seconds is None:
        return []
    people = [
        name for name, one in settings.channels.items() if one.kind is not ChannelKind.ALERTMANAGER
    ]
    notices, incidents, holds = schema.notices.c, schema.incidents.c, schema.notice_holds.c
    last_at = func.max(notices.created_at)
    query = (
        select(
            incidents.id,
            incidents.reopened_count,
            notices.channel,
            last_at.label("last_at"),
            func.count(case((notices.occasion == OCCASION, 1))).label("reminders"),
        )
        .join(schema.notices, notices.incident == incidents.id)
        .where(incidents.state == "open", incidents.severity >= Severity.CRITICAL)
        .where(incidents.acknowledged_at.is_(None), notices.channel.in_(people))
        .where(incidents.id.not_in(select(holds.incident)))
        .where(incidents.id.not_in(escalation.handled()))
        .group_by(incidents.id, incidents.reopened_count, notices.channel)
        .having(last_at <= now - interval_seconds)
    )
    return [
        Told(
            incident=row.id,
            reopened_count=row.reopened_count,
            channel=row.channel,
            last_at=row.last_at,
            reminders=row.reminders,
        )
        for row in connection.execute(query)
    ]


def due(one: Told, settings: NotifySettings, labels: Labels, now: float) -> Target | None:
    """Return where the reminder goes; None: the incident's route asks for a longer wait."""
    seconds = _intervals(settings, labels).get(one.channel, settings.repeat_seconds)
    if seconds <= 0 or now - one.last_at < seconds:
        return None
    return Target(channel=one.channel, route=f"told again after {seconds:g} s")


def _intervals(settings: NotifySettings, labels: Labels) -> Mapping[str, float]:
    """Return the interval of each channel of the incident's routes, the first that says one."""
    return dict(reversed(list(_given(settings, labels))))


def _given(settings: NotifySettings, labels: Labels) -> Iterator[tuple[str, float]]:
    for route in chosen(settings.routes, labels):
        if route.repeat_seconds is not None:
            yield from ((name, route.repeat_seconds) for name in route.channels)
