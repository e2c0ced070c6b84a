"""The rows by which the leader has agents act: asked for, answered, taken away."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select, update

from chipmedic_watchdog.lead.signals import Signal, tell
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import token_of

KEPT_SECONDS = 600.0
"""An answer that nobody has taken: whoever asked is gone."""

_TABLE = schema.agent_orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One thing that an agent is to do; see `JobAct` in the wire contract."""

    node: str
    act: str
    job: str = ""
    reason: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOrder:
    """One that waits for its agent."""

    id: str
    order: Order
    fencing_token: int
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an agent said."""

    is_ok: bool
    detail: str
    is_final: bool = False
    """It will say no again until a person changes something."""


def ask(connection: Connection, order: Order, *, now: float, timeout_seconds: float) -> str:
    """Write an order down under the leader's token; return its id."""
    identity = secrets.token_hex(8)
    connection.execute(
        insert(_TABLE).values(
            id=identity,
            node=order.node,
            act=order.act,
            job=order.job,
            reason=order.reason,
            attempt=order.attempt,
            fencing_token=token_of(connection),
            asked_at=now,
            expires_at=now + timeout_seconds,
        )
    )
    tell(connection, Signal.ORDERS)
    return identity


def waiting(connection: Connection, nodes: Collection[str], now: float) -> list[AskedOrder]:
    """Return what these nodes have not answered and is not too late."""
    query = select(_TABLE).where(_TABLE.c.answered_at.is_(None), _TABLE.c.expires_at > now)
    return [
        AskedOrder(
            id=row.id,
            order=Order(
                node=row.node, act=row.act, job=row.job, reason=row.reason, attempt=row.attempt
            ),
            fencing_token=row.fencing_token,
            expires_at=row.expires_at,
        )
        for row in connection.execute(query.order_by(_TABLE.c.asked_at))
        if row.node in nodes
    ]


def answer(connection: Connection, identity: str, said: Answer, now: float) -> None:
    """Write down what an agent said."""
    connection.execute(
        update(_TABLE)
        .where(_TABLE.c.id == identity, _TABLE.c.answered_at.is_(None))
        .values(answered_at=now, is_ok=said.is_ok, is_final=said.is_final, detail=said.detail)
    )


def read(connection: Connection, identities: Collection[str]) -> dict[str, Answer]:
    """Return the answers to these orders, as far as there are any."""
    query = select(_TABLE).where(_TABLE.c.id.in_(identities), _TABLE.c.answered_at.is_not(None))
    return {
        row.id: Answer(is_ok=row.is_ok, detail=row.detail, is_final=row.is_final)
        for row in connection.execute(query)
    }


def take_away(connection: Connection, identities: Collection[str], now: float) -> None:
    """Remove orders that are over, and those that nobody came back for."""
    is_left = _TABLE.c.expires_at < now - KEPT_SECONDS
    connection.execute(delete(_TABLE).where(or_(_TABLE.c.id.in_(identities), is_left)))
