"""The outbox: notices written once, in the transaction that marks their incident as told.

An id names incident, occasion and channel, so that the same news can never be written twice; what
is pending is delivered at least once, and the id lets a receiver drop a repetition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, update

from chipmedic.model import Severity
from chipmedic.notifier import Earlier, Notice
from chipmedic_watchdog.notify.fair import first_node, in_turns
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import token_of

PENDING_MAX = 500
"""Notices that a courier takes at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A notice that waits for its delivery."""

    notice: Notice
    attempts: int
    created_at: float
    next_attempt_at: float
    node: str = ""
    """The first of its incident's, whose turn it takes."""

    @property
    def incident(self) -> str:
        """Empty: a digest."""
        return self.notice.incident

    @property
    def occasion(self) -> str:
        """What it tells."""
        return str(self.notice.data.get("occasion", ""))


class _Waiting(NamedTuple):
    """What the order of the turns needs to know of a notice."""

    id: str
    incident: str
    severity: int
    node: str


def write(connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
    """Write the notices whose id is new; return how many."""
    table = schema.notices
    known = select(table.c.id).where(table.c.id.in_([row["id"] for row in rows]))
    have = set(connection.execute(known).scalars())
    token = token_of(connection)
    fresh = [{**row, "fencing_token": token} for row in rows if row["id"] not in have]
    if fresh:
        connection.execute(insert(table), fresh)
    return len(fresh)


def channels_told(connection: Connection, incident: str) -> set[str]:
    """Return the channels that have heard of an incident, or are about to."""
    table = schema.notices
    query = select(table.c.channel).where(table.c.incident == incident).distinct()
    return set(connection.execute(query).scalars())


def due(connection: Connection, channel: str, now: float) -> tuple[list[Pending], float | None]:
    """Return what a channel may deliver now, and when the next of the others is due.

    The nodes take turns (`fair`). Notices of one incident keep their order: while one waits for its
    next try, the later ones do.
    """
    table, incidents = schema.notices, schema.incidents
    columns = (table.c.id, table.c.incident, table.c.severity, table.c.next_attempt_at)
    query = (
        select(*columns, first_node())
        .outerjoin(incidents, incidents.c.id == table.c.incident)
        .where(table.c.state == "pending", table.c.channel == channel)
        .where(table.c.digest_at.is_(None))
        .order_by(table.c.created_at, table.c.id)
    )
    found: list[_Waiting] = []
    waiting: dict[str, float] = {}
    for row in connection.execute(query):
        if row.incident in waiting:
            continue
        if row.next_attempt_at > now:
            waiting[row.incident] = row.next_attempt_at
            continue
        found.append(_Waiting(row.id, row.incident, row.severity, row.node or ""))
    return _whole(connection, channel, in_turns(found)[:PENDING_MAX]), min(
        waiting.values(), default=None
    )


def _whole(connection: Connection, channel: str, turns: Sequence[_Waiting]) -> list[Pending]:
    """Read the notices whose turn it is."""
    table = schema.notices
    query = select(table).where(table.c.id.in_([one.id for one in turns]))
    rows = {row.id: row for row in connection.execute(query)}
    earlier = _earlier(connection, channel, {one.incident for one in turns})
    return [_pending(rows[one.id], earlier.get(one.incident), one.node) for one in turns]


def record_delivery(connection: Connection, notice: str, receipt: str, now: float) -> None:
    """Write that a notice has arrived."""
    table = schema.notices
    connection.execute(
        update(table)
        .where(table.c.id == notice)
        .values(
            state="delivered",
            attempts=table.c.attempts + 1,
            delivered_at=now,
            receipt=receipt,
            last_error="",
        )
    )


def record_failure(
    connection: Connection, notice: str, error: str, *, next_attempt_at: float | None
) -> None:
    """Write that a notice has not arrived; without a next try it has failed for good.

    One that has arrived meanwhile, by another watchdog that led, stays as it is.
    """
    table = schema.notices
    values: dict[str, Any] = {"attempts": table.c.attempts + 1, "last_error": error}
    values |= (
        {"state": "failed"} if next_attempt_at is None else {"next_attempt_at": next_attempt_at}
    )
    is_it = (table.c.id == notice) & (table.c.state == "pending")
    connection.execute(update(table).where(is_it).values(**values))


def drop_unknown_channels(connection: Connection, channels: Iterable[str]) -> int:
    """Mark the notices failed whose channel is not configured any more; return how many."""
    table = schema.notices
    done = connection.execute(
        update(table)
        .where(table.c.state == "pending", table.c.channel.not_in(list(channels)))
        .values(state="failed", last_error="the channel is not configured any more")
    )
    return done.rowcount


def standing(connection: Connection, channel: str) -> list[Notice]:
    """Return the latest delivered notice of each incident that people know to be open."""
    notices, marks = schema.notices, schema.notice_marks
    query = (
        select(notices)
        .join(marks, marks.c.incident == notices.c.incident)
        .where(notices.c.channel == channel, notices.c.state == "delivered")
        .where(marks.c.is_resolved.is_(False))
        .order_by(notices.c.created_at, notices.c.id)
    )
    latest = {row.incident: row for row in connection.execute(query)}
    return [_notice(row, None) for row in latest.values() if not row.is_resolved]


def _earlier(connection: Connection, channel: str, incidents: set[str]) -> dict[str, Earlier]:
    """Return what a channel has delivered of these incidents."""
    table = schema.notices
    query = (
        select(table.c.incident, table.c.receipt, table.c.data)
        .where(table.c.incident.in_(sorted(incidents - {""})), table.c.channel == channel)
        .where(table.c.state == "delivered")
        .order_by(table.c.created_at, table.c.id)
    )
    found: dict[str, Earlier] = {}
    for row in connection.execute(query):
        known = found.get(row.incident)
        found[row.incident] = Earlier(known.first_receipt if known else row.receipt, row.data)
    return found


def _pending(row: Row[Any], earlier: Earlier | None, node: str) -> Pending:
    return Pending(
        node=node,
        notice=_notice(row, earlier),
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
    )


def _notice(row: Row[Any], earlier: Earlier | None) -> Notice:
    return Notice(
        id=row.id,
        incident=row.incident,
        severity=Severity(row.severity).name.lower(),
        is_resolved=row.is_resolved,
        title=row.title,
        body=row.body,
        data=row.data,
        earlier=earlier,
    )
