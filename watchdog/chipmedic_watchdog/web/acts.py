"""What a person does to an incident, a recovery or a node; each act is in the audit."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from sqlalchemy import Connection, select, update

from chipmedic_watchdog.recover import approvals
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.web import details
from chipmedic_watchdog.web.problem import Problem


def acknowledge(
    connection: Connection, incident: str, body: dict[str, str], now: float
) -> dict[str, Any]:
    """Note who looks after an incident; a second one takes it over.

    Raises:
        Problem: 404, or 409 when it is resolved.
    """
    found = _active(connection, incident)
    columns = {"acknowledged_at": now, "acknowledged_by": body["who"], "updated_at": now}
    if found.state == "open":
        columns["state"] = "acknowledged"
    _write(connection, incident, columns, "acknowledge", body, now)
    return details.incident(connection, incident)


def resolve(
    connection: Connection, incident: str, body: dict[str, str], now: float
) -> dict[str, Any]:
    """Close an incident on a person's word; its faults stay as they are and open no other.

    Raises:
        Problem: 404, or 409 when it is resolved.
    """
    _active(connection, incident)
    columns = {
        "state": "resolved",
        "resolved_at": now,
        "resolved_by": body["who"],
        "resolve_reason": body["why"],
        "updated_at": now,
        "revision": schema.incidents.c.revision + 1,
    }
    _write(connection, incident, columns, "resolve", body, now)
    return details.incident(connection, incident)


def _active(connection: Connection, incident: str) -> Any:
    table = schema.incidents
    row = connection.execute(select(table).where(table.c.id == incident)).first()
    if row is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no incident {incident!r}")
    if row.state == "resolved":
        who = row.resolved_by or "chipmedic"
        raise Problem(HTTPStatus.CONFLICT, f"{incident} was resolved by {who}")
    return row


def _write(
    connection: Connection,
    incident: str,
    columns: dict[str, Any],
    act: str,
    body: dict[str, str],
    now: float,
) -> None:
    table = schema.incidents
    connection.execute(update(table).where(table.c.id == incident).values(columns))
    audit.append(connection, at=now, who=body["who"], act=act, target=incident, why=body["why"])


def note_collect(connection: Connection, node: str, body: dict[str, str], now: float) -> None:
    """Put into the audit that somebody let an agent look."""
    audit.append(
        connection,
        at=now,
        who=body["who"],
        act="collect now",
        target=node,
        checks=body["checks"],
    )


def answer_recovery(
    connection: Connection, recovery: str, act: str, body: dict[str, str], now: float
) -> dict[str, Any]:
    """Approve, decline, stop or retry a recovery.

    Raises:
        Problem: 404, or 409 when it is not in a state for that.
    """
    table = schema.recoveries
    if connection.execute(select(table.c.id).where(table.c.id == recovery)).first() is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no recovery {recovery!r}")
    try:
        if act == "approve":
            approvals.approve(connection, recovery, who=body["who"], now=now)
        elif act == "retry":
            approvals.retry(connection, recovery, who=body["who"], now=now)
        elif act == "decline":
            approvals.decline(connection, recovery, who=body["who"], why=body["why"], now=now)
        else:
            approvals.stop(connection, recovery, who=body["who"], why=body["why"], now=now)
    except approvals.NotPossible as e:
        raise Problem(HTTPStatus.CONFLICT, str(e)) from e
    return details.recovery(connection, recovery)


def turn_switch(
    connection: Connection, act: str, body: dict[str, str], now: float
) -> dict[str, Any]:
    """Hold recovery, release it, or let the breaker try again.

    Raises:
        Problem: 409 when there is nothing to release or to try.
    """
    turn = {
        "hold": approvals.hold,
        "release": approvals.release,
        "reset_breaker": approvals.reset_breaker,
    }[act]
    try:
        switch = turn(connection, who=body["who"], why=body["why"], now=now)
    except approvals.NotPossible as e:
        raise Problem(HTTPStatus.CONFLICT, str(e)) from e
    return asdict(switch)


def give_back(
    connection: Connection, node: str, body: dict[str, str], now: float
) -> dict[str, Any]:
    """Plan to give an isolated node back.

    Raises:
        Problem: 409 when it is not isolated by us.
    """
    try:
        recovery = approvals.give_back(connection, node, who=body["who"], why=body["why"], now=now)
    except approvals.NotPossible as e:
        raise Problem(HTTPStatus.CONFLICT, str(e)) from e
    return details.recovery(connection, recovery)
