"""A test notice: the whole way from the outbox to a person, without an incident."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from sqlalchemy import Connection, select

from chipmedic.model import Severity
from chipmedic_watchdog.notify import outbox
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.notify.words import words
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.web.listing import as_json
from chipmedic_watchdog.web.problem import Problem


def send(
    connection: Connection, settings: NotifySettings, body: dict[str, str], now: float
) -> dict[str, Any]:
    """Put a test notice into the outbox of a channel.

    Raises:
        Problem: 404, there is no such channel.
    """
    name = body["channel"]
    channel = settings.channels.get(name)
    if channel is None:
        known = ", ".join(sorted(settings.channels)) or "none"
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no channel {name!r}; there are: {known}")
    said = words(channel.language or settings.language)
    row = {
        "id": f"test/{now:.3f}/{name}",
        "incident": "",
        "occasion": "test",
        "channel": name,
        "created_at": now,
        "state": "pending",
        "attempts": 0,
        "next_attempt_at": now,
        "severity": int(Severity.INFO),
        "is_resolved": False,
        "route": "test",
        "title": said.say("test", "title"),
        "body": said.say("test", "body", who=body["who"], channel=name),
        "data": _data(said.language.value, now),
    }
    outbox.write(connection, [row])
    table = schema.notices
    found = connection.execute(select(table).where(table.c.id == row["id"])).mappings().one()
    audit.append(connection, at=now, who=body["who"], act="test notice", target=name)
    return as_json(found)


def _data(language: str, now: float) -> dict[str, Any]:
    """Return facts of the shape that every notice has, about nothing."""
    return {
        "version": 1,
        "occasion": "test",
        "language": language,
        "incident": "test",
        "kind": "test",
        "severity": "info",
        "labels": {},
        "nodes": [],
        "jobs": [],
        "faults": [],
        "fault_at": now,
        "resolved_at": None,
    }
