"""Silences and maintenance windows: matchers with an end, and who wants quiet and why.

An incident that is silenced opens all the same and is shown; people are not told of it. When the
silence ends and the incident is still open, they are. A maintenance window is a silence that is
known beforehand: while it lasts, chipmedic takes no action on its nodes either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from chipmedic.errors import ChipmedicError
from chipmedic_watchdog.notify.matchers import Labels, Matcher, covers, parse
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import upsert

KINDS = ("silence", "maintenance")
LONGEST_SECONDS = 366 * 86_400.0
MATCHERS_MAX = 20


class SilenceRefused(ChipmedicError):
    """It cannot be made or ended; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """One silence or maintenance window."""

    id: str
    kind: str
    matchers: tuple[Matcher, ...]
    starts_at: float
    ends_at: float
    why: str
    created_by: str

    def covers(self, labels: Labels) -> bool:
        """Whether it holds back the notices of an incident with these labels."""
        return covers(self.matchers, labels)


def state(starts_at: float, ends_at: float, now: float) -> str:
    """Return `pending`, `active` or `expired`, as amtool does."""
    if now >= ends_at:
        return "expired"
    return "active" if now >= starts_at else "pending"


def active(connection: Connection, now: float) -> list[Silence]:
    """Return what is in force now, the one that lasts longest first."""
    table = schema.silences
    query = (
        select(table)
        .where(table.c.starts_at <= now, table.c.ends_at > now)
        .order_by(table.c.ends_at.desc(), table.c.id)
    )
    return [_silence(row) for row in connection.execute(query)]


def covering(silences: Iterable[Silence], labels: Labels) -> Silence | None:
    """Return the silence that lasts longest of those that cover an incident, or None."""
    return next((silence for silence in silences if silence.covers(labels)), None)


def maintained(silences: Sequence[Silence], nodes: Iterable[str]) -> set[str]:
    """Return which of these nodes are under maintenance by name."""
    windows = [s for s in silences if s.kind == "maintenance"]
    return {
        node
        for node in nodes
        for window in windows
        if _names_nodes(window) and window.covers({"node": frozenset({node})})
    }


def _names_nodes(silence: Silence) -> bool:
    """Whether it is about nodes alone, so that no other label narrows it."""
    return all(matcher.label == "node" for matcher in silence.matchers)


def add(
    connection: Connection,
    kind: str,
    matchers: Sequence[str],
    *,
    starts_at: float,
    ends_at: float,
    who: str,
    why: str,
    now: float,
) -> str:
    """Make a silence; return its id.

    Raises:
        SilenceRefused: a matcher, the times or the reason are not usable.
    """
    _check(kind, matchers, starts_at, ends_at, now)
    identity = _next_id(connection)
    connection.execute(
        insert(schema.silences).values(
            id=identity,
            kind=kind,
            matchers=[str(parse(text)) for text in matchers],
            starts_at=max(starts_at, now),
            ends_at=ends_at,
            why=why,
            created_at=now,
            created_by=who,
        )
    )
    look_again(connection)
    return identity


def _check(
    kind: str, matchers: Sequence[str], starts_at: float, ends_at: float, now: float
) -> None:
    if kind not in KINDS:
        raise SilenceRefused(f"kind: {kind!r} is not one of: {', '.join(KINDS)}")
    if not 1 <= len(matchers) <= MATCHERS_MAX:
        raise SilenceRefused(f"matchers: 1 to {MATCHERS_MAX} are allowed, not {len(matchers)}")
    try:
        read = [parse(text) for text in matchers]
    except ValueError as e:
        raise SilenceRefused(f"matchers: {e}") from e
    if all(matcher.fits("") for matcher in read):
        # As in Alertmanager: one that also fits what has no such label would silence everything.
        raise SilenceRefused("matchers: at least one of them must not fit the empty text")
    if ends_at <= now or ends_at <= starts_at:
        raise SilenceRefused("the end is not after the beginning, or has passed already")
    if ends_at - now > LONGEST_SECONDS:
        raise SilenceRefused("the end is more than a year away; a silence is no setting")


def end(connection: Connection, identity: str, *, who: str, now: float) -> None:
    """End a silence before its time.

    Raises:
        SilenceRefused: there is none, or it has ended.
    """
    table = schema.silences
    row = connection.execute(select(table).where(table.c.id == identity)).first()
    if row is None:
        raise SilenceRefused(f"there is no silence {identity!r}")
    if state(row.starts_at, row.ends_at, now) == "expired":
        raise SilenceRefused(f"{identity} has ended already")
    values = {"ends_at": now, "starts_at": min(row.starts_at, now), "ended_by": who}
    connection.execute(update(table).where(table.c.id == identity).values(values))
    look_again(connection)


def look_again(connection: Connection) -> None:
    """Let every incident that is held be judged anew."""
    connection.execute(update(schema.notice_holds).values(until=0.0))


def _next_id(connection: Connection) -> str:
    counters = schema.counters
    query = select(counters.c.value).where(counters.c.name == "silence")
    row = {"name": "silence", "value": (connection.execute(query).scalar() or 0) + 1}
    connection.execute(upsert(connection, counters, row), row)
    return f"sil-{row['value']:06d}"


def _silence(row: Row[Any]) -> Silence:
    return Silence(
        id=row.id,
        kind=row.kind,
        matchers=tuple(parse(text) for text in row.matchers),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        why=row.why,
        created_by=row.created_by,
    )
