"""What is news: incidents compared with what people were told last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, or_, select

from chipmedic_watchdog.notify import escalation, holds, marks, reminders, routes
from chipmedic_watchdog.notify.facts import (
    IncidentFacts,
    RecoveryFacts,
    gather,
    latest_recoveries,
)
from chipmedic_watchdog.notify.fair import first_node, in_turns
from chipmedic_watchdog.notify.holds import Word
from chipmedic_watchdog.notify.labels import labels_of
from chipmedic_watchdog.notify.matchers import covers
from chipmedic_watchdog.notify.occasions import Told, occasion
from chipmedic_watchdog.notify.routes import EscalationSettings, Target
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.notify.silences import Silence, active, covering
from chipmedic_watchdog.notify.teller import Desk, Teller
from chipmedic_watchdog.store import schema

__all__ = [
    "Desk",
    "Outcome",
    "escalate",
    "is_to_remind",
    "newly_silenced",
    "remind",
    "unread",
    "write_news",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one look has done."""

    written: int = 0
    is_waiting: bool = False
    """An incident waits for a moment: for its decision, or for the scheduler's word."""
    asks_scheduler: bool = False

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            written=self.written + other.written,
            is_waiting=self.is_waiting or other.is_waiting,
            asks_scheduler=self.asks_scheduler or other.asks_scheduler,
        )


Step = tuple[escalation.Waiting, int, EscalationSettings]
"""An incident that waits, and the numbered step that is to be taken for it."""


class _Unread(NamedTuple):
    """What the order of the turns needs to know of an incident."""

    incident: str
    severity: int
    node: str


def unread(connection: Connection, settings: NotifySettings, now: float) -> list[str]:
    """Return the ids of incidents with news or an old mark, their nodes in turns.

    Cheap, as it is asked all the time.
    """
    incidents, told_marks = schema.incidents, schema.notice_marks
    columns = (incidents.c.id, incidents.c.revision, incidents.c.severity, incidents.c.root_fault,
               incidents.c.reopened_count, incidents.c.resolved_at, first_node(),
               func.json_array_length(incidents.c.nodes).label("node_count"))  # fmt: skip
    may_be_news = or_(
        told_marks.c.incident.is_(None),
        incidents.c.state != "resolved",
        told_marks.c.is_resolved.is_(False),
        incidents.c.id.in_(_with_newer_recovery()),
    )
    query = (
        select(*columns, incidents.c.state)
        .outerjoin(told_marks, told_marks.c.incident == incidents.c.id)
        .where(may_be_news)
        .order_by(incidents.c.id)
    )
    rows = list(connection.execute(query))
    resting = holds.resting(connection, now)
    rows = [row for row in rows if resting.get(row.id) != row.revision]
    ids = [row.id for row in rows]
    told, recoveries = marks.told_of(connection, ids), latest_recoveries(connection, ids)
    fresh = [
        _Unread(row.id, row.severity, row.node or "")
        for row in rows
        if _is_news(row, told.get(row.id), recoveries.get(row.id), settings, now)
    ]
    ids = [one.incident for one in in_turns(fresh)]
    return list(dict.fromkeys([*ids, *holds.due(connection, now)]))


def _with_newer_recovery() -> Select[tuple[str]]:
    """A resolved incident has news once more when its node is to be given back."""
    recoveries, marks = schema.recoveries, schema.notice_marks
    return (
        select(recoveries.c.incident)
        .join(marks, marks.c.incident == recoveries.c.incident)
        .where(recoveries.c.updated_at > marks.c.marked_at)
    )


def _is_news(
    row: Any,
    told: Told | None,
    recovery: RecoveryFacts | None,
    settings: NotifySettings,
    now: float,
) -> bool:
    present = marks.present_of(row, told, recovery, settings, now, nodes=row.node_count)
    return told is None or occasion(told, present) is not None or marks.differs(told, present)


def newly_silenced(connection: Connection, desk: Desk, now: float) -> list[str]:
    """Return open incidents that a silence covers and that are not shown as held yet."""
    silences = active(connection, now)
    if not silences:
        return []
    incidents, held = schema.incidents, schema.notice_holds
    query = select(incidents).where(
        incidents.c.state != "resolved", incidents.c.id.not_in(select(held.c.incident))
    )
    return [
        row.id
        for row in connection.execute(query).all()
        if _may_be_covered(row, silences)
        and covering(silences, labels_of(gather(connection, row), desk.settings.cluster))
    ]


def _may_be_covered(row: Row[Any], silences: Sequence[Silence]) -> bool:
    """Whether a silence fits what the row itself says; to find out the rest costs more queries."""
    known = {
        "incident": frozenset({row.id}),
        "kind": frozenset({row.kind}),
        "node": frozenset(row.nodes or [""]),
        "job": frozenset(row.jobs or [""]),
    }
    return any(
        covers([matcher for matcher in silence.matchers if matcher.label in known], known)
        for silence in silences
    )


def write_news(connection: Connection, ids: Iterable[str], desk: Desk, now: float) -> Outcome:
    """Write what is news of these incidents, or why people are not told of it."""
    written, is_waiting, asks = 0, False, False
    table = schema.incidents
    silences = active(connection, now)
    for row in list(connection.execute(select(table).where(table.c.id.in_(list(ids))))):
        facts = gather(connection, row)
        labels = labels_of(facts, desk.settings.cluster)
        asks = asks or (desk.has_scheduler and _needs_word(facts, desk.word, now))
        if _awaits_decision(facts, desk.settings, now) or _awaits_word(facts, desk, now):
            is_waiting = True
            continue
        hold = holds.hold_of(facts, labels, silences, desk.word, now)
        written += Teller(connection, desk, facts, labels, now).tell(row, hold)
    return Outcome(written=written, is_waiting=is_waiting, asks_scheduler=asks)


def _needs_word(facts: IncidentFacts, word: Word, now: float) -> bool:
    """Whether the scheduler has to be asked: about a new absence, or one that lasts, again."""
    is_old = word.asked_at < max(facts.opened_at, now - holds.AGAIN_SECONDS)
    return is_old and facts.state != "resolved" and holds.is_absence(facts)


def _awaits_word(facts: IncidentFacts, desk: Desk, now: float) -> bool:
    longest_seconds = desk.settings.scheduler_wait_seconds
    return desk.has_scheduler and holds.awaits_word(facts, desk.word, now, longest_seconds)


def _awaits_decision(facts: IncidentFacts, settings: NotifySettings, now: float) -> bool:
    """Whether the recovery's decision about a new incident may still come in a moment."""
    is_new = 0 <= now - facts.opened_at < settings.decision_wait_seconds
    return facts.recovery is None and is_new and facts.state != "resolved"


def escalations_due(connection: Connection, desk: Desk, now: float) -> list[Step]:
    """Return the steps that are to be taken for what nobody has acknowledged."""
    found = []
    for one in escalation.waiting(connection):
        facts = _facts(connection, one.incident)
        labels = labels_of(facts, desk.settings.cluster)
        taken = routes.chosen(desk.settings.routes, labels)
        found += [(one, level, step) for level, step in escalation.due(one, taken, now)]
    return found


def escalate(connection: Connection, desk: Desk, now: float) -> int:
    """Tell the next ones of what nobody has acknowledged; return how many notices."""
    written = 0
    for one, level, step in escalations_due(connection, desk, now):
        facts = _facts(connection, one.incident)
        labels = labels_of(facts, desk.settings.cluster)
        targets = [Target(channel=name, route=f"escalation {level}") for name in step.channels]
        suffix = escalation.suffix(one.reopened_count, level)
        teller = Teller(connection, desk, facts, labels, now)
        written += teller.write("escalated", suffix, targets)
    return written


def is_to_remind(connection: Connection, settings: NotifySettings, now: float) -> bool:
    """Whether something may have to be told again; cheap."""
    return bool(reminders.waiting(connection, settings, now))


def remind(connection: Connection, desk: Desk, now: float) -> int:
    """Tell again what is critical and taken by nobody; return how many notices."""
    written = 0
    for one in reminders.waiting(connection, desk.settings, now):
        facts = _facts(connection, one.incident)
        labels = labels_of(facts, desk.settings.cluster)
        target = reminders.due(one, desk.settings, labels, now)
        if target is not None:
            teller = Teller(connection, desk, facts, labels, now)
            written += teller.write(reminders.OCCASION, one.suffix, [target])
    return written


def _facts(connection: Connection, incident: str) -> IncidentFacts:
    table = schema.incidents
    return gather(connection, connection.execute(select(table).where(table.c.id == incident)).one())
