"""The lease in the store: one row that says who leads, until when, and under which token.

Its times are the database's clock, so that the clocks of the watchdogs do not matter. Who leads
renews; after `LEASE_SECONDS` without a renewal another one takes over and the token grows.

Locks (PostgreSQL): a write of the leader holds the row FOR KEY SHARE, which lets renewals pass; a
takeover and an act of a person take it FOR UPDATE, so each of them waits for the leader's write
under way, and what the leader writes afterwards sees it. A deposed leader's write finds another
token and fails. SQLite has one writer, and one watchdog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert

from chipmedic.errors import StoreError
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.postgresql import session_name
from chipmedic_watchdog.store.upsert import write_rows

LEASE_SECONDS = 6.0
FORGOTTEN_SECONDS = 86_400.0
"""Watchdogs that were not seen for so long are forgotten."""
LOCK_SECONDS = 1.5
"""How long a beat waits for a row; a leader that was stopped amid a write may hold it."""
NAME = "leader"
_LEASE = schema.lease


class Deposed(StoreError):
    """Not led from here (any more): what was about to be done is another's to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One watchdog, as it tells the others of itself."""

    id: str
    """Drawn at its start."""
    name: str
    http: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a beat found."""

    holder: str
    token: int
    alive: Mapping[str, str] = field(default_factory=dict)
    """The watchdogs that were seen lately: id and name."""


def database_clock(connection: Connection) -> float:
    """Return UNIX seconds of the database."""
    return float(connection.execute(text(_CLOCK[connection.dialect.name])).scalar_one())


_CLOCK = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())::float8",
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
}


def beat(
    connection: Connection, me: Member, held_token: int | None, *, is_alone: bool = False
) -> View:
    """Say that this watchdog lives, keep the lease or take it where it is free; one transaction.

    `held_token` is the token under which this watchdog leads, None where it does not. `is_alone`:
    nobody else can be at this store, so that the lease of the process before this one is free.
    """
    _limit_waiting(connection)
    now = database_clock(connection)
    _tell(connection, me, now)
    if held_token is None or not _renew(connection, me.id, held_token, now):
        _take_if_free(connection, me.id, now, is_alone=is_alone)
    row = connection.execute(select(_LEASE).where(_LEASE.c.name == NAME)).one()
    return View(
        holder=row.holder,
        token=row.token,
        alive={me.id: me.name} if is_alone else alive(connection, now),
    )


def alive(connection: Connection, now: float) -> dict[str, str]:
    """Return id and name of the watchdogs that live; `now` is the database's."""
    table = schema.watchdogs
    query = select(table.c.id, table.c.name).where(table.c.seen_at >= now - LEASE_SECONDS)
    return {row.id: row.name for row in connection.execute(query)}


def _limit_waiting(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{int(LOCK_SECONDS * 1000)}ms'"))


def _tell(connection: Connection, me: Member, now: float) -> None:
    table = schema.watchdogs
    row = {"id": me.id, "name": me.name, "http": me.http, "version": me.version, "seen_at": now}
    done = connection.execute(update(table).where(table.c.id == me.id).values(row))
    if not done.rowcount:
        write_rows(connection, table, [{**row, "started_at": now}])
        is_forgotten = table.c.seen_at < now - FORGOTTEN_SECONDS
        was_here = (table.c.name == me.name) & (table.c.id != me.id)
        connection.execute(delete(table).where(is_forgotten | was_here))


def _renew(connection: Connection, holder: str, token: int, now: float) -> bool:
    done = connection.execute(
        update(_LEASE)
        .where(_LEASE.c.name == NAME, _LEASE.c.holder == holder, _LEASE.c.token == token)
        .values(expires_at=now + LEASE_SECONDS)
    )
    return bool(done.rowcount)


def _take_if_free(connection: Connection, holder: str, now: float, *, is_alone: bool) -> None:
    """Take the lead where nobody has it, it has expired, or it is ours of a time that we gave up.

    A token is the second in which the lead was taken, or one more than the last: agents keep the
    highest that they saw, and a store that is new or comes from a backup must not speak with less.
    """
    lease = {"holder": holder, "taken_at": now, "expires_at": now + LEASE_SECONDS}
    query = select(_LEASE).where(_LEASE.c.name == NAME)
    seen = connection.execute(query).one_or_none()
    if seen is None:
        _insert_first(connection, {"name": NAME, "token": int(now), **lease})
    elif is_alone or _is_free(seen, holder, now):
        # Here the leader's write under way is waited for; another may have been faster.
        row = connection.execute(query.with_for_update()).one()
        if is_alone or _is_free(row, holder, now):
            token = max(row.token + 1, int(now))
            connection.execute(update(_LEASE).values(token=token, **lease))


def _is_free(row: Row[Any], holder: str, now: float) -> bool:
    return bool(row.expires_at < now or row.holder == holder)


def _insert_first(connection: Connection, row: dict[str, object]) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(postgresql_insert(_LEASE).on_conflict_do_nothing(), [row])
    else:
        connection.execute(insert(_LEASE), [row])


def require(connection: Connection, holder: str, token: int) -> None:
    """See in the transaction of a write that its writer still leads; it does until the commit.

    Raises:
        Deposed: it does not.
    """
    query = (
        select(_LEASE.c.holder, _LEASE.c.token)
        .where(_LEASE.c.name == NAME)
        .with_for_update(read=True, key_share=True)
    )
    row = connection.execute(query).one_or_none()
    if row is None or (row.holder, row.token) != (holder, token):
        raise Deposed(_words(token, None if row is None else row.token))


def _words(token: int, present: int | None) -> str:
    return f"another watchdog leads now (token {present or 'none'}, ours was {token})"


def stand_before_the_leader(connection: Connection) -> None:
    """Let what a person does here and what the leader writes happen one after the other."""
    connection.execute(select(_LEASE.c.name).where(_LEASE.c.name == NAME).with_for_update())


def release(connection: Connection, me: Member) -> None:
    """Give the lead up and take leave, so that nobody has to wait for it."""
    _limit_waiting(connection)
    connection.execute(
        update(_LEASE).where(_LEASE.c.name == NAME, _LEASE.c.holder == me.id).values(expires_at=0.0)
    )
    connection.execute(delete(schema.watchdogs).where(schema.watchdogs.c.id == me.id))


def end_sessions_of_dead_leader(connection: Connection) -> int:
    """End the server's sessions of a leader whose lease is over; return how many there were.

    One that was stopped amid a write still holds rows; its session can only be ended from outside.
    """
    now = database_clock(connection)
    query = select(_LEASE.c.holder).where(_LEASE.c.name == NAME, _LEASE.c.expires_at < now)
    holder = connection.execute(query).scalar()
    if holder is None:
        return 0
    ending = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = :name "
        "AND pid <> pg_backend_pid()"
    )
    return int(connection.execute(ending, {"name": session_name(holder)}).scalar_one())
