"""How a node comes to its certificate, keeps it and loses it: functions of a write transaction.

A node can only speak for itself: a token that any node may use opens no name that another machine
holds a certificate for, and a certificate renews only itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from chipmedic.errors import ChipmedicError
from chipmedic_watchdog.access import tokens
from chipmedic_watchdog.access.authority import Authority, Issued
from chipmedic_watchdog.store import audit, schema

NAME_MAX = 253
AUTHORITY = "authority"
"""The act of the audit that says with which key certificates are signed from then on."""
KEEP_SECONDS = 90 * 86400.0
"""How long an expired certificate is shown."""


class NotEnrolled(ChipmedicError):
    """The node gets no certificate; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a node asks for."""

    node: str
    csr: str
    """PEM; the key in it never leaves the node."""

    def __post_init__(self) -> None:
        if not self.node or len(self.node) > NAME_MAX or not self.node.isprintable():
            raise ValueError(f"node: {self.node[:NAME_MAX]!r} is no node name")


def join(
    connection: Connection,
    authority: Authority,
    request: Request,
    *,
    token: str,
    lifetime_seconds: float,
    now: float,
) -> Issued:
    """Give a node its first certificate for a token.

    Raises:
        TokenRefused: the token does not open this.
        NotEnrolled: the name is held by another certificate, or the request is unusable.
    """
    identity = tokens.use_to_join(connection, token, request.node, now)
    table = schema.tokens
    bound = connection.execute(select(table.c.node).where(table.c.id == identity)).scalar_one()
    if bound is None and _is_held(connection, request.node, now):
        raise NotEnrolled(
            f"{request.node} has a certificate already: join with a token for it alone (chipmedic "
            f"watchdog token create --node {request.node}), or revoke the node first"
        )
    issued = _issue(connection, authority, request, identity, lifetime_seconds, now)
    audit.append(
        connection, at=now, who=f"node {request.node}", act="join", target=request.node,
        token=identity, serial=issued.serial,
    )  # fmt: skip
    return issued


def renew(
    connection: Connection,
    authority: Authority,
    request: Request,
    *,
    serial: str,
    lifetime_seconds: float,
    now: float,
) -> Issued:
    """Give a node a new certificate for the one that it has just shown.

    Raises:
        NotEnrolled: that one was revoked, or the request is unusable.
    """
    table = schema.certificates
    row = connection.execute(select(table).where(table.c.serial == serial)).one_or_none()
    if row is not None and row.revoked_at is not None:
        raise NotEnrolled(f"the certificate {serial} of {request.node} was revoked")
    return _issue(connection, authority, request, None, lifetime_seconds, now)


def revoke(connection: Connection, node: str, *, who: str, why: str, now: float) -> int:
    """Make every certificate of a node worthless; returns how many there were."""
    table = schema.certificates
    is_in_force = (table.c.node == node) & table.c.revoked_at.is_(None) & (table.c.expires_at > now)
    done = connection.execute(update(table).where(is_in_force).values(revoked_at=now))
    if done.rowcount:
        audit.append(
            connection, at=now, who=who, act="revoke node", target=node, why=why,
            certificates=done.rowcount,
        )  # fmt: skip
    return done.rowcount


def revoked(connection: Connection, now: float) -> frozenset[str]:
    """Return the serials that must not be let in, though they have not expired."""
    table = schema.certificates
    query = select(table.c.serial).where(table.c.revoked_at.is_not(None), table.c.expires_at > now)
    return frozenset(connection.execute(query).scalars())


def note_authority(connection: Connection, fingerprint: str, *, now: float) -> str | None:
    """Put an authority into the audit when it is new; returns another one that was in use before.

    Watchdogs of one store must have the same, or each refuses the nodes of the others.
    """
    table = schema.audit
    last = (
        select(table.c.target).where(table.c.act == AUTHORITY).order_by(table.c.id.desc()).limit(1)
    )
    before = connection.execute(last).scalar()
    if before == fingerprint:
        return None
    audit.append(connection, at=now, who="chipmedic", act=AUTHORITY, target=fingerprint)
    return before


def _is_held(connection: Connection, node: str, now: float) -> bool:
    table = schema.certificates
    query = select(table.c.serial).where(
        table.c.node == node, table.c.revoked_at.is_(None), table.c.expires_at > now
    )
    return connection.execute(query.limit(1)).first() is not None


def _issue(
    connection: Connection,
    authority: Authority,
    request: Request,
    token: str | None,
    lifetime_seconds: float,
    now: float,
) -> Issued:
    try:
        issued = authority.sign_node(
            request.csr, request.node, now=now, lifetime_seconds=lifetime_seconds
        )
    except ValueError as e:
        raise NotEnrolled(str(e)) from e
    table = schema.certificates
    is_old = (table.c.node == request.node) & (table.c.expires_at < now - KEEP_SECONDS)
    connection.execute(delete(table).where(is_old))
    connection.execute(
        insert(table).values(
            serial=issued.serial,
            node=request.node,
            issued_at=now,
            expires_at=issued.expires_at,
            token=token,
            revoked_at=None,
        )
    )
    return issued
