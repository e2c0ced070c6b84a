"""The outbox: notices written once, in the transaction that marks their incident as told.

An id names incident, occasion and channel, so that the same news can never be written twice; what
is pending is delivered at least once, and the id lets a receiver drop a repetition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, or_, select, update

from chipmedic.model import Severity
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.data import as_data
from chipmedic_watchdog.notify.facts import (
    IncidentFacts,
    RecoveryFacts,
    gather,
    latest_recoveries,
)
from chipmedic_watchdog.notify.occasions import PHASES, Present, Told, occasion
from chipmedic_watchdog.notify.settings import ChannelSettings, NotifySettings
from chipmedic_watchdog.notify.texts import write
from chipmedic_watchdog.notify.words import words
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows

OLDEST_NEWS_SECONDS = 86_400.0
"""An incident that was over for longer before anybody was told of it is history, not news."""
PENDING_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A notice that waits for its delivery."""

    notice: Notice
    attempts: int
    created_at: float
    next_attempt_at: float


def unread(connection: Connection) -> list[str]:
    """Return the ids of incidents with news or an old mark; cheap, as it is asked all the time."""
    incidents, marks = schema.incidents, schema.notice_marks
    columns = (incidents.c.id, incidents.c.revision, incidents.c.severity, incidents.c.root_fault)
    may_be_news = or_(
        marks.c.incident.is_(None),
        incidents.c.state != "resolved",
        marks.c.is_resolved.is_(False),
        incidents.c.id.in_(_with_newer_recovery()),
    )
    query = (
        select(*columns, incidents.c.state)
        .outerjoin(marks, marks.c.incident == incidents.c.id)
        .where(may_be_news)
        .order_by(incidents.c.id)
    )
    rows = list(connection.execute(query))
    ids = [row.id for row in rows]
    told, recoveries = _told(connection, ids), latest_recoveries(connection, ids)
    return [row.id for row in rows if _is_news(told.get(row.id), row, recoveries.get(row.id))]


def _with_newer_recovery() -> Select[tuple[str]]:
    """A resolved incident has news once more when its node is to be given back."""
    recoveries, marks = schema.recoveries, schema.notice_marks
    return (
        select(recoveries.c.incident)
        .join(marks, marks.c.incident == recoveries.c.incident)
        .where(recoveries.c.updated_at > marks.c.marked_at)
    )


def _is_news(told: Told | None, incident: Any, recovery: RecoveryFacts | None) -> bool:
    present = _present(incident, recovery)
    return told is None or occasion(told, present) is not None or _differs(told, present)


def write_news(
    connection: Connection, ids: Iterable[str], settings: NotifySettings, now: float
) -> tuple[int, bool]:
    """Write what is news; return how many notices, and whether an incident waits for a decision."""
    written, is_waiting = 0, False
    table = schema.incidents
    for row in list(connection.execute(select(table).where(table.c.id.in_(list(ids))))):
        facts = gather(connection, row)
        if _awaits_decision(facts, settings, now):
            is_waiting = True
        else:
            written += _tell(connection, row, facts, settings, now)
    return written, is_waiting


def _awaits_decision(facts: IncidentFacts, settings: NotifySettings, now: float) -> bool:
    """Whether the recovery's decision about a new incident may still come in a moment."""
    is_new = 0 <= now - facts.opened_at < settings.decision_wait_seconds
    return facts.recovery is None and is_new and facts.state != "resolved"


def _tell(
    connection: Connection,
    row: Row[Any],
    facts: IncidentFacts,
    settings: NotifySettings,
    now: float,
) -> int:
    """Write what is news about one incident, and the mark that it was told."""
    told = _told(connection, [facts.id]).get(facts.id)
    present = _present(row, facts.recovery)
    name = occasion(told, present)
    if (
        told is None
        and present.is_resolved
        and now - (facts.resolved_at or 0) > OLDEST_NEWS_SECONDS
    ):
        name = None
    if name is not None or told is None or _differs(told, present):
        _mark(connection, facts.id, present, now)
    if name is None:
        return 0
    return _write_notices(connection, facts, name, settings, now)


def _differs(told: Told, present: Present) -> bool:
    """Whether the mark is behind; a state of the same phase needs no new one."""
    return (told.revision, told.is_resolved, told.recovery) != (
        present.revision,
        present.is_resolved,
        present.recovery,
    ) or PHASES.get(told.recovery_state or "") != PHASES.get(present.recovery_state or "")


def _write_notices(
    connection: Connection,
    facts: IncidentFacts,
    name: str,
    settings: NotifySettings,
    now: float,
) -> int:
    rows = []
    for channel, its in settings.channels.items():
        if facts.severity < _minimum(its, settings):
            continue
        language = its.language or settings.language
        text = write(facts, name, words(language), now=now)
        rows.append(
            {
                "id": f"{facts.id}/{_suffix(facts, name)}/{channel}",
                "incident": facts.id,
                "occasion": name,
                "channel": channel,
                "created_at": now,
                "state": "pending",
                "attempts": 0,
                "next_attempt_at": now,
                "severity": int(facts.severity),
                "is_resolved": facts.state == "resolved",
                "title": text.title,
                "body": text.body,
                "data": as_data(facts, name, language=language.value),
            }
        )
    table = schema.notices
    known = select(table.c.id).where(table.c.id.in_([row["id"] for row in rows]))
    have = set(connection.execute(known).scalars())
    fresh = [row for row in rows if row["id"] not in have]
    if fresh:
        connection.execute(insert(table), fresh)
    return len(fresh)


def _suffix(facts: IncidentFacts, name: str) -> str:
    """Return what makes an occasion unique within its incident."""
    recovery = facts.recovery
    if recovery is None or name not in PHASES.values():
        return f"{name}-{facts.revision}"
    return f"{name}-{facts.revision}-{recovery.id}-{recovery.updated_at:.3f}"


def _minimum(channel: ChannelSettings, settings: NotifySettings) -> Severity:
    return (channel.minimum_severity or settings.minimum_severity).severity


def _present(incident: Any, recovery: RecoveryFacts | None) -> Present:
    return Present(
        revision=incident.revision,
        severity=incident.severity,
        root_fault=incident.root_fault,
        is_resolved=incident.state == "resolved",
        recovery=recovery.id if recovery else None,
        recovery_state=recovery.state if recovery else None,
        is_proposal=bool(
            recovery and recovery.mode == "propose" and "approved_by" not in recovery.evidence
        ),
        is_return=recovery is not None and recovery.is_return,
    )


def _told(connection: Connection, incidents: list[str]) -> dict[str, Told]:
    table = schema.notice_marks
    return {
        row.incident: Told(
            revision=row.revision,
            severity=row.severity,
            root_fault=row.root_fault,
            is_resolved=row.is_resolved,
            recovery=row.recovery,
            recovery_state=row.recovery_state,
        )
        for row in connection.execute(select(table).where(table.c.incident.in_(incidents)))
    }


def _mark(connection: Connection, incident: str, present: Present, now: float) -> None:
    row = {
        "incident": incident,
        "revision": present.revision,
        "severity": int(present.severity),
        "root_fault": present.root_fault,
        "is_resolved": present.is_resolved,
        "recovery": present.recovery,
        "recovery_state": present.recovery_state,
        "marked_at": now,
    }
    write_rows(connection, schema.notice_marks, [row])


def due(connection: Connection, channel: str, now: float) -> tuple[list[Pending], float | None]:
    """Return what a channel may deliver now, in order, and when the next of the others is due.

    Notices of one incident keep their order: while one waits for its next try, the later ones do.
    """
    table = schema.notices
    query = (
        select(table)
        .where(table.c.state == "pending", table.c.channel == channel)
        .order_by(table.c.created_at, table.c.id)
        .limit(PENDING_MAX)
    )
    found: list[Pending] = []
    waiting: dict[str, float] = {}
    for row in connection.execute(query):
        if row.incident in waiting:
            continue
        if row.next_attempt_at > now:
            waiting[row.incident] = row.next_attempt_at
            continue
        found.append(_pending(row))
    return found, min(waiting.values(), default=None)


def record_delivery(connection: Connection, notice: str, receipt: str, now: float) -> None:
    """Write that a notice has arrived."""
    table = schema.notices
    connection.execute(
        update(table)
        .where(table.c.id == notice)
        .values(
            state="delivered",
            attempts=table.c.attempts + 1,
            delivered_at=now,
            receipt=receipt,
            last_error="",
        )
    )


def record_failure(
    connection: Connection, notice: str, error: str, *, next_attempt_at: float | None
) -> None:
    """Write that a notice has not arrived; without a next try it has failed for good."""
    table = schema.notices
    values: dict[str, Any] = {"attempts": table.c.attempts + 1, "last_error": error}
    values |= (
        {"state": "failed"} if next_attempt_at is None else {"next_attempt_at": next_attempt_at}
    )
    connection.execute(update(table).where(table.c.id == notice).values(**values))


def drop_unknown_channels(connection: Connection, channels: Iterable[str]) -> int:
    """Mark the notices failed whose channel is not configured any more; return how many."""
    table = schema.notices
    done = connection.execute(
        update(table)
        .where(table.c.state == "pending", table.c.channel.not_in(list(channels)))
        .values(state="failed", last_error="the channel is not configured any more")
    )
    return done.rowcount


def _pending(row: Row[Any]) -> Pending:
    return Pending(
        notice=Notice(
            id=row.id,
            incident=row.incident,
            severity=Severity(row.severity).name.lower(),
            is_resolved=row.is_resolved,
            title=row.title,
            body=row.body,
            data=row.data,
        ),
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
    )
