"""The page that a person opens first: what is wrong now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from sqlalchemy import Connection, select

from chipmedic_watchdog.health import Health
from chipmedic_watchdog.notify import standing
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.notify.silences import state
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.web import details
from chipmedic_watchdog.web.figures import read_figures
from chipmedic_watchdog.web.listing import as_json
from chipmedic_watchdog.web.silences import with_holds

SHOWN_MAX = 100
NOTICES_SHOWN = 15


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class StatusPage:
    """Renders the template over the store."""

    def __init__(self, version: str) -> None:
        self._version = version
        environment = Environment(
            loader=PackageLoader("chipmedic_watchdog.web"), autoescape=select_autoescape()
        )
        environment.filters["utc"] = _utc
        self._template = environment.get_template("status.html")

    def render(
        self, connection: Connection, health: Health, notify: NotifySettings, now: float
    ) -> str:
        """Return the page."""
        figures = read_figures(connection)
        return self._template.render(
            nodes=figures.nodes,
            notices=figures.notices,
            faults=sum(figures.open_faults.values()),
            incidents=_active(connection),
            silent=_silent(connection),
            silences=_silences(connection, now),
            notices_sent=_notices(connection),
            watchdogs=details.watchdogs(connection, {})["items"],
            channels=[o for o in standing.channels(connection, notify.channels) if o["failing"]],
            problems=list(health.problems.values()),
            warnings=list(health.warnings.values()),
            now=now,
            version=self._version,
        )


def _active(connection: Connection) -> list[dict[str, Any]]:
    table = schema.incidents
    query = (
        select(table)
        .where(table.c.state != "resolved")
        .order_by(table.c.severity.desc(), table.c.id.desc())
        .limit(SHOWN_MAX)
    )
    rows = [as_json(row) for row in connection.execute(query).mappings()]
    return with_holds(connection, rows)


def _silences(connection: Connection, now: float) -> list[dict[str, Any]]:
    """Return silences and maintenance windows that have not ended, the next to end first."""
    table = schema.silences
    query = select(table).where(table.c.ends_at > now).order_by(table.c.ends_at).limit(SHOWN_MAX)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    for row in rows:
        row["state"] = state(row["starts_at"], row["ends_at"], now)
    return rows


def _notices(connection: Connection) -> list[dict[str, Any]]:
    """Return what has failed or waits for another try, then the latest notices."""
    table = schema.notices
    has_trouble = (table.c.state == "failed") | (
        (table.c.state == "pending") & (table.c.attempts > 0)
    )
    newest = table.c.created_at.desc()
    found: dict[str, dict[str, Any]] = {}
    for query in (select(table).where(has_trouble), select(table)):
        for row in connection.execute(query.order_by(newest).limit(NOTICES_SHOWN)).mappings():
            found.setdefault(row["id"], as_json(row))
    return list(found.values())


def _silent(connection: Connection) -> list[dict[str, Any]]:
    """Return the nodes that do not report, each with the jobs that were there at last."""
    table, jobs = schema.nodes, schema.job_nodes
    query = (
        select(table.c.node, table.c.state, table.c.last_seen_at)
        .where(table.c.state != "connected")
        .order_by(table.c.last_seen_at.desc())
        .limit(SHOWN_MAX)
    )
    rows = [dict(row) for row in connection.execute(query).mappings()]
    for row in rows:
        names = select(jobs.c.job).where(jobs.c.node == row["node"], jobs.c.is_present.is_(True))
        row["jobs"] = list(connection.execute(names).scalars())
    return rows
