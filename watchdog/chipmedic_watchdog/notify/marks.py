"""The marks: what people were told of an incident last, and how that compares with the present."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from chipmedic_watchdog.notify.facts import RecoveryFacts
from chipmedic_watchdog.notify.occasions import PHASES, Present, Told, is_over
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows


def differs(told: Told, present: Present) -> bool:
    """Whether the mark is behind; a state of the same phase needs no new one."""
    return (told.revision, told.is_resolved, told.recovery, told.reopened_count) != (
        present.revision,
        present.is_resolved,
        present.recovery,
        present.reopened_count,
    ) or PHASES.get(told.recovery_state or "") != PHASES.get(present.recovery_state or "")


def present_of(
    incident: Any,
    told: Told | None,
    recovery: RecoveryFacts | None,
    settings: NotifySettings,
    now: float,
    *,
    nodes: int,
) -> Present:
    """Return what an incident is now, as far as people would want to know."""
    # What nobody has been told of has no return to wait for.
    quiet_seconds = 0.0 if told is None else settings.flap_quiet_seconds
    return Present(
        revision=incident.revision,
        severity=incident.severity,
        root_fault=incident.root_fault,
        is_resolved=is_over(
            incident.state,
            incident.resolved_at,
            incident.reopened_count,
            now,
            quiet_seconds,
        ),
        reopened_count=incident.reopened_count,
        recovery=recovery.id if recovery else None,
        recovery_state=recovery.state if recovery else None,
        is_proposal=bool(
            recovery and recovery.mode == "propose" and "approved_by" not in recovery.evidence
        ),
        is_return=recovery is not None and recovery.is_return,
        nodes=nodes,
        at=now,
    )


def told_of(connection: Connection, incidents: list[str]) -> dict[str, Told]:
    """Return what was told of these incidents; one that is missing was not told at all."""
    table = schema.notice_marks
    return {
        row.incident: Told(
            revision=row.revision,
            severity=row.severity,
            root_fault=row.root_fault,
            is_resolved=row.is_resolved,
            recovery=row.recovery,
            recovery_state=row.recovery_state,
            reopened_count=row.reopened_count,
            nodes=row.told_nodes,
            told_at=row.told_at,
        )
        for row in connection.execute(select(table).where(table.c.incident.in_(incidents)))
    }


def put(
    connection: Connection, incident: str, present: Present, now: float, before: Told | None = None
) -> None:
    """Write what was told, in the transaction that writes the notices.

    `before` is what was told before, where this is no news that people are told.
    """
    row = {
        "incident": incident,
        "revision": present.revision,
        "severity": int(present.severity),
        "root_fault": present.root_fault,
        "is_resolved": present.is_resolved,
        "recovery": present.recovery,
        "recovery_state": present.recovery_state,
        "reopened_count": present.reopened_count,
        "told_nodes": present.nodes if before is None else before.nodes,
        "told_at": now if before is None else before.told_at,
        "marked_at": now,
    }
    write_rows(connection, schema.notice_marks, [row])
