"""Counts of the store for metrics, health and the page."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from chipmedic.faults.kinds import KINDS
from chipmedic_watchdog.ledger.figures import LedgerFigures, LedgerReader
from chipmedic_watchdog.recover import figures as recovery_figures
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store_figures import StoreFigures
from chipmedic_watchdog.web.listing import severity_word

STRANGE_KINDS_MAX = 50
"""Kinds of plug-ins, or of a hostile agent; the rest is `other`."""
INCIDENT_STATES = ("open", "acknowledged", "recovering", "verifying", "resolved")
NOTICE_STATES = ("pending", "digest", "delivered", "failed", "gathered")
"""`digest`: waits for a digest that a route or a limit asks for; `pending` should have gone."""
NODE_STATES = ("connected", "silent", "stopped", "unknown")


def read_figures(connection: Connection, ledger: LedgerReader | None = None) -> StoreFigures:
    """Count; a state that nothing is in counts as 0, so that its series does not vanish."""
    faults = schema.faults.c
    rows = connection.execute(
        select(faults.kind, faults.severity, func.count())
        .where(faults.state != "cleared")
        .group_by(faults.kind, faults.severity)
    )
    now = time.time()
    backlog = connection.execute(select(func.sum(schema.nodes.c.backlog_events))).scalar()
    return StoreFigures(
        open_faults=_by_kind(rows),
        incidents=_by_state(connection, schema.incidents.c.state, INCIDENT_STATES),
        notices=_by_state(connection, _NOTICE_STATE, NOTICE_STATES),
        nodes=_by_state(connection, schema.nodes.c.state, NODE_STATES),
        recoveries=_by_state(connection, schema.recoveries.c.state, ()),
        backlog_events=backlog or 0,
        recovery=recovery_figures.read(connection),
        ledger=LedgerFigures() if ledger is None else ledger.read(connection, now),
    )


_NOTICE_STATE = case(
    (
        and_(schema.notices.c.state == "pending", schema.notices.c.digest_at.is_not(None)),
        "digest",
    ),
    else_=schema.notices.c.state,
)


def _by_kind(rows: Iterable[Any]) -> dict[tuple[str, str], int]:
    """Add up; a kind is any text that an agent sends, so those that nobody knows are bounded."""
    found: Counter[tuple[str, str]] = Counter()
    strange: set[str] = set()
    for kind, severity, count in rows:
        is_named = kind in KINDS or kind in strange or len(strange) < STRANGE_KINDS_MAX
        if is_named and kind not in KINDS:
            strange.add(kind)
        found[kind if is_named else "other", severity_word(severity)] += count
    return dict(found)


def _by_state(
    connection: Connection, column: ColumnElement[Any], states: tuple[str, ...]
) -> dict[str, int]:
    rows = connection.execute(select(column, func.count()).group_by(column))
    return dict.fromkeys(states, 0) | {row[0]: row[1] for row in rows}
