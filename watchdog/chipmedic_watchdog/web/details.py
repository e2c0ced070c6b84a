"""One node, incident or job with all that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from chipmedic_watchdog.incidents.rules import RuleSet, builtin
from chipmedic_watchdog.lead.lease import LEASE_SECONDS, alive, database_clock
from chipmedic_watchdog.ledger.summary import report, summary
from chipmedic_watchdog.ledger.text import render_text
from chipmedic_watchdog.notify import standing
from chipmedic_watchdog.notify.settings import ChannelSettings
from chipmedic_watchdog.recover import switches
from chipmedic_watchdog.recover.breaker import BreakerState
from chipmedic_watchdog.recover.safety import BREAKER
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import is_shared
from chipmedic_watchdog.web.endpoint import Query, read_limit
from chipmedic_watchdog.web.listing import as_json
from chipmedic_watchdog.web.problem import Problem

ROWS_MAX = 500
PROGRESS_MAX = 200
SINCE_MAX = 1e11
"""Later than any time that has a date."""


def _rows(
    connection: Connection, table: Table, *conditions: Any, order: Any = None, limit: int = ROWS_MAX
) -> list[dict[str, Any]]:
    statement = select(table).where(*conditions).limit(limit)
    if order is not None:
        statement = statement.order_by(order)
    return [as_json(row) for row in connection.execute(statement).mappings()]


def _one(connection: Connection, table: Table, key: str, value: str) -> dict[str, Any]:
    rows = _rows(connection, table, table.c[key] == value, limit=1)
    if not rows:
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no {key} {value!r}")
    return rows[0]


def node(connection: Connection, name: str) -> dict[str, Any]:
    """Return a node with its chips, checks, jobs and open faults.

    Raises:
        Problem: 404.
    """
    found = _one(connection, schema.nodes, "node", name)
    faults, jobs = schema.faults, schema.job_nodes
    return {
        **found,
        "chips": _rows(connection, schema.chips, schema.chips.c.node == name,
                       order=schema.chips.c.chip_index),
        "coverage": _rows(connection, schema.coverage, schema.coverage.c.node == name),
        "jobs": _rows(connection, jobs, jobs.c.node == name, jobs.c.is_present.is_(True)),
        "faults": _rows(connection, faults, faults.c.node == name, faults.c.state != "cleared",
                        order=faults.c.id),
        "isolations": _rows(connection, schema.isolations, schema.isolations.c.node == name,
                            schema.isolations.c.returned_at.is_(None)),
    }  # fmt: skip


def whereabouts(connection: Connection, name: str) -> str:
    """Say of a node that is not connected to this watchdog where it is."""
    nodes, others = schema.nodes.c, schema.watchdogs.c
    query = (
        select(others.name, others.http)
        .join(schema.nodes, nodes.watchdog == others.id)
        .where(nodes.node == name, nodes.state == "connected")
    )
    row = connection.execute(query).one_or_none()
    return "not connected" if row is None else f"connected to {row.name}: ask {row.http}"


def watchdogs(connection: Connection, query: Query) -> dict[str, Any]:
    """Return the watchdogs of the store, all on one page; one that beats no more is not alive."""
    table, lease = schema.watchdogs, schema.lease
    leader = connection.execute(select(lease)).one_or_none()
    found = _rows(connection, table, order=table.c.name)
    now = database_clock(connection)
    if is_shared(connection.engine):
        living = set(alive(connection, now))
    else:  # one at a time, without a beat
        living = {leader.holder} if leader is not None else set()
        found = [row for row in found if row["id"] in living]
    items = [
        {
            **row,
            "is_leader": leader is not None and leader.holder == row["id"],
            "is_alive": row["id"] in living,
            **_lease(leader if leader is not None and leader.holder == row["id"] else None, now),
        }
        for row in found
        if row["name"] > query.get("after", "")
    ]
    return {"items": items, "next": None}


def channels(
    connection: Connection, settings: Mapping[str, ChannelSettings], query: Query
) -> dict[str, Any]:
    """Return the channels, all on one page."""
    found = standing.channels(connection, settings)
    return {"items": [o for o in found if o["channel"] > query.get("after", "")], "next": None}


def _lease(held: Row[Any] | None, now: float) -> dict[str, Any]:
    """Return what the lease says of the one that holds it; ages are by the database's clock."""
    if held is None:
        return {"token": None, "led_for_seconds": None, "lease_age_seconds": None}
    return {
        "token": held.token,
        "led_for_seconds": max(0.0, now - held.taken_at),
        "lease_age_seconds": max(0.0, now - (held.expires_at - LEASE_SECONDS)),
    }


def incident(connection: Connection, name: str, rules: RuleSet | None = None) -> dict[str, Any]:
    """Return an incident with its faults, notices and recoveries; `rules` for their words.

    Raises:
        Problem: 404.
    """
    found = _one(connection, schema.incidents, "id", name)
    faults, notices = schema.faults, schema.notices
    recoveries = _rows(
        connection, schema.recoveries, schema.recoveries.c.incident == name,
        order=schema.recoveries.c.id,
    )  # fmt: skip
    for row in recoveries:
        row["steps"] = _steps(connection, row["id"])
    return {
        **found,
        "grouped": {
            one: (rules or builtin()).words_of(found["cause"], one) for one in ("en", "zh")
        },
        "held": next(iter(_rows(connection, schema.notice_holds,
                                schema.notice_holds.c.incident == name)), None),
        "faults": _rows(connection, faults, faults.c.incident == name, order=faults.c.id),
        "notices": _rows(connection, notices, notices.c.incident == name,
                         order=notices.c.created_at),
        "recoveries": recoveries,
        "isolations": _rows(connection, schema.isolations, schema.isolations.c.incident == name),
        "audit": _rows(connection, schema.audit, schema.audit.c.target == name,
                       order=schema.audit.c.id),
    }  # fmt: skip


def safety(connection: Connection) -> dict[str, Any]:
    """Return where the switches of recovery stand, and every node that we hold isolated."""
    isolations = schema.isolations
    hold = switches.read(connection, switches.HOLD, switches.OFF)
    breaker = switches.read(connection, BREAKER, BreakerState.CLOSED)
    return {
        "hold": asdict(hold),
        "breaker": asdict(breaker),
        "isolations": _rows(connection, isolations, isolations.c.returned_at.is_(None),
                            order=isolations.c.id),
    }  # fmt: skip


def recovery(connection: Connection, name: str) -> dict[str, Any]:
    """Return a recovery with its steps.

    Raises:
        Problem: 404.
    """
    found = _one(connection, schema.recoveries, "id", name)
    return {**found, "steps": _steps(connection, name)}


def _steps(connection: Connection, recovery: str) -> list[dict[str, Any]]:
    table = schema.recovery_steps
    return _rows(connection, table, table.c.recovery == recovery, order=table.c.number)


def jobs(connection: Connection, query: Query) -> dict[str, Any]:
    """Return a page of jobs, by name."""
    limit = read_limit(query)
    table = schema.job_nodes
    names = select(table.c.job).distinct().order_by(table.c.job).limit(limit + 1)
    if "after" in query:
        names = names.where(table.c.job > query["after"])
    if query.get("state") == "running":
        names = names.where(table.c.is_present.is_(True))
    if "node" in query:
        names = names.where(table.c.node == query["node"])
    found = list(connection.execute(names).scalars())
    items = [_job(connection, name) for name in found[:limit]]
    return {"items": items, "next": found[limit - 1] if len(found) > limit else None}


def job(connection: Connection, name: str) -> dict[str, Any]:
    """Return a job with its nodes, its latest progress and its lost time.

    Raises:
        Problem: 404.
    """
    found = _job(connection, name)
    progress, ledger, incidents = schema.job_progress, schema.ledger, schema.incidents
    recent = _rows(
        connection, progress, progress.c.job == name,
        order=progress.c.at.desc(), limit=PROGRESS_MAX,
    )  # fmt: skip
    active = _rows(connection, incidents, incidents.c.state != "resolved")
    return {
        **found,
        "node_reports": _rows(
            connection, schema.job_nodes, schema.job_nodes.c.job == name,
            order=schema.job_nodes.c.node, limit=20_000,
        ),
        "progress": recent[::-1],
        "incidents": [row["id"] for row in active if name in row["jobs"]],
        "ledger": _rows(connection, ledger, ledger.c.job == name, order=ledger.c.start_at),
    }  # fmt: skip


def account(connection: Connection, name: str, query: Query) -> dict[str, Any]:
    """Return where the time of a job went, as data and as text.

    Raises:
        Problem: 404.
    """
    found = summary(connection, name)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no job {name!r}")
    return {**found, "text": render_text(found, query.get("language", "en"))}


def accounts(connection: Connection, query: Query) -> dict[str, Any]:
    """Return the accounts of all jobs that moved since a time.

    Raises:
        Problem: 400, it is no time.
    """
    return report(connection, read_since(query, 0.0))


def read_since(query: Query, default: float) -> float:
    """Return the time from which a report is wanted.

    Raises:
        Problem: 400, it is no time.
    """
    try:
        since = float(query.get("since", default))
    except ValueError:
        since = math.nan
    if not math.isfinite(since) or abs(since) > SINCE_MAX:
        raise Problem(HTTPStatus.BAD_REQUEST, "since: not a number of UNIX seconds")
    return since


def _job(connection: Connection, name: str) -> dict[str, Any]:
    """Sum up what the nodes of a job say; the furthest step of the newest attempt counts."""
    table = schema.job_nodes
    rows = connection.execute(select(table).where(table.c.job == name)).all()
    if not rows:
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no job {name!r}")
    present = [row for row in rows if row.is_present] or rows
    attempt = max(row.attempt for row in present)
    current = [row for row in present if row.attempt == attempt]
    # A node whose processes have ended reports the job for a while, but is not where it runs.
    here = [row for row in current if row.pids] or current
    ahead = max(current, key=lambda row: (row.step is not None, row.step or 0, row.received_at))
    return {
        "job": name,
        "name": ahead.name,
        "user": ahead.user,
        "state": "running" if any(row.is_present for row in rows) else "ended",
        "attempt": attempt,
        "step": ahead.step,
        "checkpoint_step": ahead.checkpoint_step,
        "phase": ahead.phase,
        "nodes": sorted(row.node for row in here),
        "chips": sum(len(row.chips) for row in here),
        "received_at": max(row.received_at for row in rows),
    }
