"""The gate before a node is offered again: it has cooled down, is no lemon, and passes its check.

    "" ─ask→ asked ─agent→ passed → it is given back, or proposed
                  └──────→ failed ─(retry_seconds)→ asked

The leader asks by a word in the store, and the watchdog to which the node is connected has the
agent run the check (`gate_runner.py`). A person's `give-back` waives all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, update

from chipmedic_watchdog.recover import lemons, probation
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import audit, schema


class GateState(StrEnum):
    """How far a node's check is."""

    NONE = ""
    WAITS = "waits"
    """It has not cooled down."""
    ASKED = "asked"
    PASSED = "passed"
    FAILED = "failed"
    KEPT_OUT = lemons.KEPT_OUT
    """A lemon: only a person gives it back."""
    WAIVED = "waived"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateNow:
    """Where a check stands, as the store has it."""

    state: GateState
    at: float
    """When it got there."""
    resolved_at: float
    """When the incident was resolved: what was checked before is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateNext:
    """Where it is to stand."""

    state: GateState
    detail: str = ""


def step(
    present: GateNow, settings: RecoverSettings, *, lemon: str | None, not_before: float, now: float
) -> GateNext | None:
    """Return where the check of a node goes next, or None: it stays."""
    gate = settings.gate
    if lemon is not None:
        return GateNext(state=GateState.KEPT_OUT, detail=lemon)
    if now < not_before:
        until = f"{datetime.fromtimestamp(not_before, UTC):%Y-%m-%d %H:%M} UTC"
        return GateNext(state=GateState.WAITS, detail=f"isolated before: cools down until {until}")
    if not gate.required:
        return GateNext(state=GateState.PASSED, detail="no check is required")
    age = now - present.at
    if present.state is GateState.ASKED:
        if age <= gate.timeout_seconds:
            return None
        words = f"its agent has not answered within {gate.timeout_seconds:g} s"
        return GateNext(state=GateState.FAILED, detail=words)
    is_valid = present.at >= present.resolved_at and age <= gate.valid_seconds
    if present.state is GateState.PASSED and is_valid:
        return None
    if present.state is GateState.FAILED and age < gate.retry_seconds:
        return None
    return GateNext(state=GateState.ASKED, detail="its agent runs the check")


def admit(connection: Connection, isolation: Any, settings: RecoverSettings, now: float) -> bool:
    """Move the check of an isolated node on; return whether the node may be offered now."""
    present = GateNow(
        state=GateState(isolation.gate),
        at=isolation.gate_at or 0.0,
        resolved_at=isolation.resolved_at or 0.0,
    )
    earlier = probation.earlier_isolations(
        connection,
        isolation.node,
        isolation.device,
        before=isolation.isolated_at,
        since=isolation.isolated_at - settings.attempts_window_seconds,
    )
    then = step(
        present,
        settings,
        lemon=lemons.judge(connection, isolation.node, settings, now),
        not_before=probation.not_before(isolation.isolated_at, earlier, settings),
        now=now,
    )
    if then is None:
        return present.state is GateState.PASSED
    if (then.state, then.detail) != (present.state, isolation.gate_detail):
        write(connection, isolation.id, then, node=isolation.node, now=now)
    return then.state is GateState.PASSED


def write(connection: Connection, identity: int, then: GateNext, *, node: str, now: float) -> None:
    """Write where a check stands; what came of one is in the audit."""
    table = schema.isolations
    connection.execute(
        update(table)
        .where(table.c.id == identity)
        .values(gate=then.state.value, gate_detail=then.detail, gate_at=now)
    )
    if then.state is not GateState.ASKED:
        audit.append(
            connection, at=now, who="chipmedic", act=f"check {then.state.value}", target=node,
            why=then.detail,
        )  # fmt: skip
