"""Digests: several notices of one channel as one, because a route or a limit says so.

A notice with a `digest_at` is not delivered by itself. When that time has come, all of them are
gathered into one notice of the outbox, in one transaction: none is left out, none comes twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from chipmedic_watchdog.notify.settings import Language, NotifySettings
from chipmedic_watchdog.notify.words import Words, words
from chipmedic_watchdog.store import schema

LINES_MAX = 40
"""Incidents that a digest names; of the others it says how many they are and how to see them."""
LOUD_COUNT = 10
"""Notices of a digest from which on it names the node that more than half of them are about."""
CHUNK = 5_000


def next_at(connection: Connection, channel: str) -> float | None:
    """Return when the digest of a channel is due; None: nothing waits for one."""
    table = schema.notices
    query = select(func.min(table.c.digest_at)).where(
        table.c.state == "pending", table.c.channel == channel, table.c.digest_at.is_not(None)
    )
    return connection.execute(query).scalar()


def put_off(connection: Connection, notices: Sequence[str], at: float) -> None:
    """Let the digest of then tell these notices."""
    table = schema.notices
    for start in range(0, len(notices), CHUNK):
        part = notices[start : start + CHUNK]
        connection.execute(update(table).where(table.c.id.in_(part)).values(digest_at=at))


def gather(connection: Connection, channel: str, settings: NotifySettings, now: float) -> None:
    """Make one notice of all that wait for this channel's digest; one alone is told as it is."""
    table = schema.notices
    query = (
        select(table)
        .where(table.c.state == "pending", table.c.channel == channel)
        .where(table.c.digest_at.is_not(None))
        .order_by(table.c.created_at, table.c.id)
    )
    rows = list(connection.execute(query))
    ids = [row.id for row in rows]
    if len(rows) < 2:
        put_back = update(table).where(table.c.id.in_(ids))
        connection.execute(put_back.values(digest_at=None, next_attempt_at=now))
        return
    digest = _digest(rows, channel, settings, now)
    connection.execute(insert(table), [digest])
    for start in range(0, len(ids), CHUNK):
        part = table.c.id.in_(ids[start : start + CHUNK])
        values = {"state": "gathered", "receipt": digest["id"], "delivered_at": None}
        connection.execute(update(table).where(part).values(**values))


def _digest(
    rows: Sequence[Row[Any]], channel: str, settings: NotifySettings, now: float
) -> dict[str, Any]:
    language = settings.channels[channel].language or settings.language
    latest = _latest(rows)
    identity = f"digest/{rows[0].id}"
    title, body = write(identity, rows, latest, language)
    return {
        "id": identity,
        "incident": "",
        "occasion": "digest",
        "channel": channel,
        "created_at": now,
        "state": "pending",
        "attempts": 0,
        "next_attempt_at": now,
        "route": rows[0].route,
        "severity": max(row.severity for row in rows),
        "is_resolved": all(row.is_resolved for row in latest),
        "title": title,
        "body": body,
        "data": {
            "version": 1,
            "occasion": "digest",
            "language": language.value,
            "notices": [row.data for row in rows],
        },
    }


def _latest(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Return the last notice of each incident: what is open first, then by severity."""
    last = {row.incident: row for row in rows}
    return sorted(last.values(), key=lambda row: (row.is_resolved, -row.severity))


def _loudest(rows: Sequence[Row[Any]], said: Words) -> list[str]:
    """Name the node that most of many notices are about: its trouble is the news."""
    nodes = Counter(node for row in rows for node in row.data.get("nodes", ())[:1])
    if len(rows) < LOUD_COUNT or not nodes:
        return []
    [(node, count)] = nodes.most_common(1)
    return [said.say("digest", "loudest", count=count, node=node)] if 2 * count > len(rows) else []


def write(
    identity: str, rows: Sequence[Row[Any]], latest: Sequence[Row[Any]], language: Language
) -> tuple[str, str]:
    """Return title and body of a digest."""
    said = words(language)
    resolved = sum(1 for row in latest if row.is_resolved)
    title = said.say("digest", "title", count=len(rows), incidents=len(latest), resolved=resolved)
    # What a route gathers was never to be tried before; what a limit put off was.
    is_by_limit = any(row.next_attempt_at < (row.digest_at or 0.0) for row in rows)
    lines = [said.say("digest", "why_limit" if is_by_limit else "why_route")]
    lines += [*_loudest(rows, said), ""]
    lines += [f"- {row.title}" for row in latest[:LINES_MAX]]
    if len(latest) > LINES_MAX:
        lines.append(said.say("marks", "cut", count=len(latest) - LINES_MAX))
    return title, "\n".join([*lines, "", said.say("digest", "more", id=identity)])
