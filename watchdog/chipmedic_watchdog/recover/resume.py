"""Lets recoveries go on that a limit held, as soon as it lets them: the oldest first.

Before that they are judged anew. What an incident asks for may have changed while its recovery
waited; then the recovery ends and the present decision takes its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, select

from chipmedic.recoverer import NodeView
from chipmedic_watchdog.recover import book, cases, safety
from chipmedic_watchdog.recover.policy import Decision
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.recover.transitions import end
from chipmedic_watchdog.store import audit, schema


def waiting(connection: Connection) -> list[book.Recovery]:
    """Return the recoveries that a limit holds which may free itself, the newest of each incident.

    A return is beside the recovery of its incident, not after it.
    """
    held = [
        recovery
        for recovery in book.in_states(connection, ("held",))
        if recovery.held_by in safety.FREES_ITSELF
    ]
    history = book.of_incidents(connection, {recovery.incident for recovery in held})
    return [r for r in held if r.is_return or r.id == _newest(history[r.incident])]


def go_on(
    connection: Connection,
    identity: str,
    decision: Decision | None,
    settings: RecoverSettings,
    views: Mapping[str, NodeView] | None,
    now: float,
) -> bool:
    """Let one recovery go on where no limit holds it any more; return whether it changed.

    `decision` is what its incident asks for now; None for a return, and where nobody can say.
    """
    recovery = book.find(connection, identity)
    if recovery is None or recovery.state != "held" or not recovery.held_by:
        return False
    if not recovery.is_return:
        if _is_resolved(connection, recovery.incident):
            end(connection, recovery, "stopped", "the incident is resolved", now=now)
            return True
        if decision is None:
            return False
    left = [
        stored for stored in book.steps(connection, identity) if stored.state not in book.FINISHED
    ]
    if not left or (recovery.is_return and _is_kept_out(connection, recovery)):
        return False
    if decision is not None and not _is_wanted(left, {*decision.nodes, *decision.jobs}):
        book.change(
            connection, identity, now=now, evidence={**recovery.evidence, book.SUPERSEDED: True}
        )
        words = f"not as it was planned any more: {decision.reason}"
        end(connection, recovery, "stopped", words, now=now)
        return True
    if safety.refusal(connection, recovery, left[0], settings, views, now) is not None:
        return False
    book.change(connection, identity, now=now, state="planned", detail="", held_by="")
    audit.append(
        connection, at=now, who="chipmedic", act="go on", target=identity,
        incident=recovery.incident, held_by=recovery.held_by,
    )  # fmt: skip
    return True


def _newest(history: Collection[book.Recovery]) -> str:
    return max((r.id for r in history if not r.is_return), default="")


def _is_wanted(left: Collection[book.StoredStep], wanted: Collection[str]) -> bool:
    return all(stored.step.target in wanted for stored in left)


def _is_kept_out(connection: Connection, recovery: book.Recovery) -> bool:
    by_person = "approved_by" in recovery.evidence
    return any(
        cases.keeps_out(connection, node, by_person=by_person) is not None
        for node in recovery.nodes
    )


def _is_resolved(connection: Connection, incident: str) -> bool:
    table = schema.incidents
    state = connection.execute(select(table.c.state).where(table.c.id == incident)).scalar()
    return state is None or state == "resolved"
