"""The tables that the interface shows as pages, with what can be asked of each."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

from sqlalchemy import and_

from chipmedic_watchdog.store import schema
from chipmedic_watchdog.web.endpoint import Parameter
from chipmedic_watchdog.web.listing import Filter, Listing, is_severity
from chipmedic_watchdog.web.problem import Problem


def _equal(name: str, words: str, *choices: str, column: str | None = None) -> Filter:
    return Filter(parameter=Parameter(name=name, words=words, choices=choices),
                  column=column or name)  # fmt: skip


def _is_state(column: Any, value: str) -> Any:
    """`active` is every state but resolved."""
    return column != "resolved" if value == "active" else column == value


def _is_since(column: Any, value: str) -> Any:
    try:
        return column >= float(value)
    except ValueError as e:
        problem = f"since: {value!r} is not a number of UNIX seconds"
        raise Problem(HTTPStatus.BAD_REQUEST, problem) from e


def _is_silence_state(ends_at: Any, value: str) -> Any:
    """By the times alone: a silence has no state of its own."""
    now, starts_at = time.time(), schema.silences.c.starts_at
    return {
        "pending": starts_at > now,
        "active": and_(starts_at <= now, ends_at > now),
        "expired": ends_at <= now,
        "unexpired": ends_at > now,
    }[value]


SEVERITY = Filter(
    parameter=Parameter(
        name="severity", words="Exactly this severity.", choices=("info", "warning", "critical")
    ),
    column="severity",
    condition=is_severity,
)
NODES = Listing(
    table=schema.nodes, key="node", is_descending=False,
    filters=(_equal("state", "State of the stream.", "connected", "silent", "stopped", "unknown"),),
)  # fmt: skip
FAULTS = Listing(
    table=schema.faults, key="id", is_integer_key=True,
    filters=(
        _equal("state", "State of the fault.", "open", "unknown", "cleared"),
        _equal("node", "Node."), _equal("kind", "Kind."), _equal("job", "Job."),
        _equal("incident", "Incident."), SEVERITY,
    ),
)  # fmt: skip
INCIDENTS = Listing(
    table=schema.incidents, key="id",
    filters=(
        Filter(
            parameter=Parameter(
                name="state", words="State; `active` is every one but resolved.",
                choices=("active", "open", "acknowledged", "recovering", "verifying", "resolved"),
            ),
            column="state", condition=_is_state,
        ),
        _equal("kind", "Kind of the root fault."), SEVERITY,
    ),
)  # fmt: skip
NOTICES = Listing(
    table=schema.notices, key="id",
    filters=(
        _equal("state", "State.", "pending", "delivered", "failed", "gathered"),
        _equal("incident", "Incident."), _equal("channel", "Channel."),
        _equal("digest", "Gathered into this digest.", column="receipt"),
        Filter(parameter=Parameter(name="since", words="Written since then; UNIX seconds."),
               column="created_at", condition=_is_since),
    ),
)  # fmt: skip
RECOVERIES = Listing(
    table=schema.recoveries, key="id",
    filters=(_equal("state", "State."), _equal("incident", "Incident.")),
)  # fmt: skip
LEDGER = Listing(
    table=schema.ledger, key="id", is_integer_key=True,
    filters=(_equal("job", "Job."), _equal("incident", "Incident."), _equal("phase", "Phase.")),
)  # fmt: skip

SILENCES = Listing(
    table=schema.silences, key="id",
    filters=(
        _equal("kind", "Kind.", "silence", "maintenance"),
        Filter(
            parameter=Parameter(name="state", words="State now.",
                                choices=("pending", "active", "expired", "unexpired")),
            column="ends_at", condition=_is_silence_state,
        ),
    ),
)  # fmt: skip

TABLES = (
    ("nodes", "Node", "Nodes, by name.", NODES),
    ("faults", "Fault", "Faults, newest first.", FAULTS),
    ("incidents", "Incident", "Incidents, newest first.", INCIDENTS),
    ("notices", "Notice", "Notices of the outbox.", NOTICES),
    ("recoveries", "Recovery", "Recoveries, newest first.", RECOVERIES),
    ("ledger", "LedgerEntry", "Lost time, newest first.", LEDGER),
)
"""Path, schema, words, listing."""
