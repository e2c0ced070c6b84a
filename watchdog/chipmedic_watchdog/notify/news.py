"""What is news, and the notices of it: incidents compared with what people were told last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, or_, select

from chipmedic_watchdog.notify import digest, escalation, holds, outbox, routes
from chipmedic_watchdog.notify.data import as_data
from chipmedic_watchdog.notify.facts import (
    IncidentFacts,
    RecoveryFacts,
    gather,
    latest_recoveries,
)
from chipmedic_watchdog.notify.holds import Word
from chipmedic_watchdog.notify.labels import labels_of
from chipmedic_watchdog.notify.links import Linker
from chipmedic_watchdog.notify.matchers import Labels
from chipmedic_watchdog.notify.occasions import (
    NEEDS_NOW,
    PHASES,
    Present,
    Told,
    is_over,
    occasion,
)
from chipmedic_watchdog.notify.routes import Target
from chipmedic_watchdog.notify.settings import ChannelKind, NotifySettings
from chipmedic_watchdog.notify.silences import Silence, active
from chipmedic_watchdog.notify.texts import write
from chipmedic_watchdog.notify.words import words
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows

OLDEST_NEWS_SECONDS = 86_400.0
"""An incident that was over for longer before anybody was told of it is history, not news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """All that the writing of notices needs besides the store."""

    settings: NotifySettings
    linker: Linker | None = None
    word: Word = field(default_factory=Word)
    has_scheduler: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one look has done."""

    written: int = 0
    is_waiting: bool = False
    """An incident waits for a moment: for its decision, or for the scheduler's word."""
    asks_scheduler: bool = False


def unread(connection: Connection, settings: NotifySettings, now: float) -> list[str]:
    """Return the ids of incidents with news or an old mark; cheap, as it is asked all the time."""
    incidents, marks = schema.incidents, schema.notice_marks
    columns = (incidents.c.id, incidents.c.revision, incidents.c.severity, incidents.c.root_fault,
               incidents.c.reopened_count, incidents.c.resolved_at)  # fmt: skip
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
    resting = holds.resting(connection, now)
    rows = [row for row in rows if resting.get(row.id) != row.revision]
    ids = [row.id for row in rows]
    told, recoveries = _told(connection, ids), latest_recoveries(connection, ids)
    fresh = [
        row.id
        for row in rows
        if _is_news(row, told.get(row.id), recoveries.get(row.id), settings, now)
    ]
    return list(dict.fromkeys([*fresh, *holds.due(connection, now)]))


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
    present = _present(row, told, recovery, settings, now)
    return told is None or occasion(told, present) is not None or _differs(told, present)


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
        if _silence(connection, row, silences, desk) is not None
    ]


def _silence(
    connection: Connection, row: Row[Any], silences: Sequence[Silence], desk: Desk
) -> Silence | None:
    labels = labels_of(gather(connection, row), desk.settings.cluster)
    return next((silence for silence in silences if silence.covers(labels)), None)


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
        written += _Teller(connection, desk, facts, labels, now).tell(row, hold)
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


def escalate(connection: Connection, desk: Desk, now: float) -> int:
    """Tell the next ones of what nobody has acknowledged; return how many notices."""
    written = 0
    table = schema.incidents
    for one in escalation.waiting(connection):
        row = connection.execute(select(table).where(table.c.id == one.incident)).one()
        facts = gather(connection, row)
        labels = labels_of(facts, desk.settings.cluster)
        taken = routes.chosen(desk.settings.routes, labels)
        for level, step in escalation.due(one, taken, now):
            targets = [Target(channel=name, route=f"escalation {level}") for name in step.channels]
            suffix = escalation.suffix(one.reopened_count, level)
            teller = _Teller(connection, desk, facts, labels, now)
            written += teller.write("escalated", suffix, targets)
    return written


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells of one incident."""

    connection: Connection
    desk: Desk
    facts: IncidentFacts
    labels: Labels
    now: float

    def tell(self, row: Row[Any], hold: holds.Hold | None) -> int:
        """Write what is news about it, or that it is held, and the mark of what was told."""
        settings = self.desk.settings
        told = _told(self.connection, [self.facts.id]).get(self.facts.id)
        present = _present(row, told, self.facts.recovery, settings, self.now)
        name = occasion(told, present)
        if told is None and present.is_resolved and self._is_history():
            name = None
        if hold is not None and not (told is not None and name == "resolved"):
            # The end of what people know is told in any case: it asks nothing of them.
            return self._hold(hold, told, present)
        was_held = holds.lift(self.connection, self.facts.id)
        if name is None and was_held and not present.is_resolved:
            name = "still"
        if name is not None or told is None or _differs(told, present):
            _mark(self.connection, self.facts.id, present, self.now)
        if name is None:
            return 0
        return self.write(name, _suffix(self.facts, name, self.now), self._targets(name))

    def _is_history(self) -> bool:
        return self.now - (self.facts.resolved_at or 0) > OLDEST_NEWS_SECONDS

    def _hold(self, hold: holds.Hold, told: Told | None, present: Present) -> int:
        if self.facts.state != "resolved":
            holds.put(self.connection, self.facts, hold, self.now)
            return 0
        # It came and went while nobody wanted to hear of it.
        holds.lift(self.connection, self.facts.id)
        if told is None or told.is_resolved:
            _mark(self.connection, self.facts.id, replace(present, is_resolved=True), self.now)
        return 0

    def _targets(self, name: str) -> list[Target]:
        """Return where the news goes: by the routes, and wherever people know of it already."""
        settings = self.desk.settings
        found = routes.targets(settings.routes, self.labels, settings.channels)
        told = outbox.channels_told(self.connection, self.facts.id)
        for channel in sorted(told & settings.channels.keys() - found.keys()):
            found[channel] = Target(channel=channel, route="told before")
        return [t for t in found.values() if t.channel in told or self._is_over_bar(t.channel)]

    def _is_over_bar(self, channel: str) -> bool:
        settings = self.desk.settings
        bar = settings.channels[channel].minimum_severity or settings.minimum_severity
        return self.facts.severity >= bar.severity

    def write(self, name: str, suffix: str, targets: Sequence[Target]) -> int:
        """Write a notice of an occasion for each of the channels; return how many are new."""
        rows = [self._row(name, suffix, target) for target in targets]
        return outbox.write(self.connection, rows)

    def _row(self, name: str, suffix: str, target: Target) -> dict[str, Any]:
        facts, now, linker = self.facts, self.now, self.desk.linker
        settings = self.desk.settings
        identity = f"{facts.id}/{suffix}/{target.channel}"
        language = settings.channels[target.channel].language or settings.language
        links = linker.links(facts, identity, now=now, language=language.value) if linker else {}
        text = write(facts, name, words(language), now=now, links=links)
        data = as_data(
            facts,
            name,
            language=language.value,
            cluster=settings.cluster,
            external_url=settings.external_url,
        )
        digest_at = self._digest_at(name, target)
        return {
            "id": identity,
            "incident": facts.id,
            "occasion": name,
            "channel": target.channel,
            "created_at": now,
            "state": "pending",
            "attempts": 0,
            "next_attempt_at": now if digest_at is None else digest_at,
            "digest_at": digest_at,
            "route": target.route,
            "severity": int(facts.severity),
            "is_resolved": facts.state == "resolved",
            "title": text.title,
            "body": text.body,
            "data": data | ({"links": dict(links)} if links else {}),
        }

    def _digest_at(self, name: str, target: Target) -> float | None:
        """Return when the digest tells it; None: it is told at once."""
        kind = self.desk.settings.channels[target.channel].kind
        if target.digest_seconds == 0 or name in NEEDS_NOW or kind is ChannelKind.ALERTMANAGER:
            return None
        begun = digest.next_at(self.connection, target.channel)
        return self.now + target.digest_seconds if begun is None else begun


def _differs(told: Told, present: Present) -> bool:
    """Whether the mark is behind; a state of the same phase needs no new one."""
    return (told.revision, told.is_resolved, told.recovery, told.reopened_count) != (
        present.revision,
        present.is_resolved,
        present.recovery,
        present.reopened_count,
    ) or PHASES.get(told.recovery_state or "") != PHASES.get(present.recovery_state or "")


def _suffix(facts: IncidentFacts, name: str, now: float) -> str:
    """Return what makes an occasion unique within its incident."""
    recovery = facts.recovery
    if name == "still":
        return f"still-{facts.revision}-{now:.0f}"
    if recovery is None or name not in PHASES.values():
        return f"{name}-{facts.revision}"
    return f"{name}-{facts.revision}-{recovery.id}-{recovery.updated_at:.3f}"


def _present(
    incident: Any,
    told: Told | None,
    recovery: RecoveryFacts | None,
    settings: NotifySettings,
    now: float,
) -> Present:
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
            reopened_count=row.reopened_count,
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
        "reopened_count": present.reopened_count,
        "marked_at": now,
    }
    write_rows(connection, schema.notice_marks, [row])
