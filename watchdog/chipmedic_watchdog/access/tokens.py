"""Tokens: an operator's, and the one with which a node joins. Only their hashes are stored.

A token is `<kind>.<id>.<secret>` and, to join, `.<fingerprint of the authority's key>`: the agent
knows the watchdog by it before it sends the secret (kubeadm's discovery-token-ca-cert-hash). The
secret has 192 random bits, so a fast hash is enough and none can be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from chipmedic.errors import ChipmedicError
from chipmedic_watchdog.access.roles import ROLES, Caller
from chipmedic_watchdog.store import audit, schema

OPERATOR, JOIN = "cmo", "cmj"
JOIN_ROLE = "join"
ID_BYTES, SECRET_BYTES = 4, 24
NAME_MAX = 64
USES_MAX = 100_000


class TokenRefused(ChipmedicError):
    """The token opens nothing; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a new token is to be."""

    role: str
    name: str
    """Of the operator, who is known by it in the audit; to join: of the only node, or empty."""
    uses: int | None = None
    """To join: how many nodes may use it."""
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if not self.name.isprintable() or len(self.name) > (253 if self.is_join else NAME_MAX):
            raise ValueError(f"name: {self.name!r} is no name of up to {NAME_MAX} characters")
        if not self.is_join and (not self.name.strip() or self.role not in ROLES):
            raise ValueError(f"an operator's token needs a name, and a role of: {', '.join(ROLES)}")
        if self.uses is not None and not 1 <= self.uses <= USES_MAX:
            raise ValueError(f"uses: {self.uses} is not 1 to {USES_MAX}")

    @property
    def is_join(self) -> bool:
        """Whether it is for nodes."""
        return self.role == JOIN_ROLE


def create(
    connection: Connection, granted: Granted, *, who: str, now: float, fingerprint: str = ""
) -> dict[str, Any]:
    """Make a token; returns what is shown of it, with the token itself, this once."""
    identity, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
    row = {
        "id": identity,
        "secret_hash": _hash(secret),
        "role": granted.role,
        "name": granted.name,
        "node": (granted.name or None) if granted.is_join else None,
        "uses_left": granted.uses,
        "created_at": now,
        "created_by": who,
        "expires_at": granted.expires_at,
        "revoked_at": None,
    }
    connection.execute(insert(schema.tokens).values(row))
    audit.append(
        connection, at=now, who=who, act="create token", target=identity, role=granted.role,
        name=granted.name, uses=granted.uses, expires_at=granted.expires_at,
    )  # fmt: skip
    parts = [JOIN if granted.is_join else OPERATOR, identity, secret]
    text = ".".join([*parts, fingerprint] if granted.is_join else parts)
    return {**shown(row), "token": text}


def shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what may be shown of a stored token."""
    return {name: value for name, value in row.items() if name != "secret_hash"}


def revoke(connection: Connection, identity: str, *, who: str, why: str, now: float) -> bool:
    """Make a token worthless; False: there is none, or it was revoked before."""
    table = schema.tokens
    is_in_force = (table.c.id == identity) & table.c.revoked_at.is_(None)
    done = connection.execute(update(table).where(is_in_force).values(revoked_at=now))
    if done.rowcount:
        audit.append(connection, at=now, who=who, act="revoke token", target=identity, why=why)
    return bool(done.rowcount)


def find_operator(connection: Connection, text: str, now: float) -> Caller:
    """Return whose token this is.

    Raises:
        TokenRefused: nobody's, or not any more.
    """
    row = _find(connection, OPERATOR, text, now)
    if row.role not in ROLES:
        raise TokenRefused(f"the token {row.id} is of a role that this version does not know")
    return Caller(ROLES[row.role], f"token:{row.id}", row.name)


def use_to_join(connection: Connection, text: str, node: str, now: float) -> str:
    """Take one use of a join token for this node; returns the token's id.

    Raises:
        TokenRefused: it is none, has expired, was revoked or used up, or is for another node.
    """
    row = _find(connection, JOIN, text, now)
    if row.node is not None and row.node != node:
        raise TokenRefused(f"the token {row.id} is for the node {row.node}, not for {node}")
    table = schema.tokens
    has_use = (table.c.id == row.id) & (table.c.uses_left > 0)
    # In the statement: two that come at once cannot both have the last use.
    taken = connection.execute(update(table).where(has_use).values(uses_left=table.c.uses_left - 1))
    if not taken.rowcount:
        raise TokenRefused(f"the token {row.id} has been used up: create another one")
    return str(row.id)


def _find(connection: Connection, kind: str, text: str, now: float) -> Row[Any]:
    parts = text.split(".")
    if parts[0] != kind or len(parts) < 3:
        raise TokenRefused(
            f"this is no token for it: one begins with {kind}. and has three parts; is it whole?"
        )
    table = schema.tokens
    row = connection.execute(select(table).where(table.c.id == parts[1])).one_or_none()
    # Hashed and compared also where there is none: the answer's time tells nothing.
    stored = row.secret_hash if row is not None else _hash("")
    if not hmac.compare_digest(_hash(parts[2]), stored) or row is None:
        raise TokenRefused("the token is not known here")
    if row.revoked_at is not None:
        raise TokenRefused(f"the token {row.id} was revoked")
    if row.expires_at is not None and now >= row.expires_at:
        raise TokenRefused(f"the token {row.id} has expired: create another one")
    if (row.role == JOIN_ROLE) != (kind == JOIN):
        raise TokenRefused("the token is not known here")
    return row


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
