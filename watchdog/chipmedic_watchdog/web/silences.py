"""Silences and maintenance windows in the interface; making and ending one is in the audit."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from sqlalchemy import Connection, select

from chipmedic_watchdog.notify import silence_reach, silences
from chipmedic_watchdog.notify.matchers import parse
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.web.endpoint import Query
from chipmedic_watchdog.web.listing import Listing
from chipmedic_watchdog.web.problem import Problem

BODY = {
    "matchers": 'One per line, as in Alertmanager: node="gpu-017". All must fit.',
    "ends_at": "UNIX seconds.",
    "starts_at?": "UNIX seconds; default: now.",
    "kind?": "silence (default) or maintenance.",
    "who": "Who wants it, for the audit and for the others.",
    "why": "The reason, for the others.",
}


def page(connection: Connection, listing: Listing, query: Query, now: float) -> dict[str, Any]:
    """Return a page of silences, each with its state at this moment."""
    found = listing.page(connection, query)
    for item in found["items"]:
        item["state"] = silences.state(item["starts_at"], item["ends_at"], now)
    return found


def add(connection: Connection, body: dict[str, str], now: float) -> dict[str, Any]:
    """Make a silence; its `notes` say what it does not reach.

    Raises:
        Problem: 400 with what is wrong.
    """
    matchers = [line.strip() for line in body["matchers"].splitlines() if line.strip()]
    known = silence_reach.known_labels(connection)
    try:
        made = [parse(line) for line in matchers]
    except ValueError as e:
        raise Problem(HTTPStatus.BAD_REQUEST, f"matchers: {e}") from e
    if trouble := silence_reach.unknown_label(made, known):
        raise Problem(HTTPStatus.BAD_REQUEST, f"matchers: {trouble}")
    try:
        identity = silences.add(
            connection,
            body["kind"] or "silence",
            matchers,
            starts_at=_time("starts_at", body["starts_at"]) if body["starts_at"] else now,
            ends_at=_time("ends_at", body["ends_at"]),
            who=body["who"],
            why=body["why"],
            now=now,
        )
    except silences.SilenceRefused as e:
        raise Problem(HTTPStatus.BAD_REQUEST, str(e)) from e
    found = one(connection, identity, now)
    audit.append(
        connection, at=now, who=body["who"], act=found["kind"], target=identity,
        why=body["why"], matchers=found["matchers"], ends_at=found["ends_at"],
    )  # fmt: skip
    return found | {"notes": list(silence_reach.fits_nothing(made, known))}


def expire(
    connection: Connection, identity: str, body: dict[str, str], now: float
) -> dict[str, Any]:
    """End a silence before its time.

    Raises:
        Problem: 404 or 409.
    """
    one(connection, identity, now)
    try:
        silences.end(connection, identity, who=body["who"], now=now)
    except silences.SilenceRefused as e:
        raise Problem(HTTPStatus.CONFLICT, str(e)) from e
    found = one(connection, identity, now)
    audit.append(connection, at=now, who=body["who"], act="expire silence", target=identity)
    return found


def one(connection: Connection, identity: str, now: float) -> dict[str, Any]:
    """Return one silence.

    Raises:
        Problem: 404.
    """
    table = schema.silences
    row = connection.execute(select(table).where(table.c.id == identity)).mappings().first()
    if row is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no silence {identity!r}")
    return dict(row) | {"state": silences.state(row["starts_at"], row["ends_at"], now)}


def with_holds(connection: Connection, incidents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each incident what holds its notices back; None: nothing."""
    table = schema.notice_holds
    ids = [item["id"] for item in incidents]
    rows = connection.execute(select(table).where(table.c.incident.in_(ids)))
    held = {row.incident: row.held_by for row in rows}
    for item in incidents:
        item["held_by"] = held.get(item["id"])
    return incidents


def _time(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Problem(HTTPStatus.BAD_REQUEST, f"{key}: {text!r} is not a number of UNIX seconds")
    return value
