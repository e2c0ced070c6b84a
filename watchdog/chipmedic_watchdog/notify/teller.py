"""Tells of one incident: which occasion it is, to which channels it goes, and the notices of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row

from chipmedic_watchdog.incidents.rules import RuleSet, builtin
from chipmedic_watchdog.notify import digest, holds, marks, outbox, routes
from chipmedic_watchdog.notify.data import as_data
from chipmedic_watchdog.notify.facts import IncidentFacts
from chipmedic_watchdog.notify.holds import Word
from chipmedic_watchdog.notify.links import Linker
from chipmedic_watchdog.notify.matchers import Labels
from chipmedic_watchdog.notify.occasions import NEEDS_NOW, PHASES, Present, Told, occasion
from chipmedic_watchdog.notify.routes import Target
from chipmedic_watchdog.notify.settings import ChannelKind, NotifySettings
from chipmedic_watchdog.notify.texts import write
from chipmedic_watchdog.notify.words import words

OLDEST_NEWS_SECONDS = 86_400.0
"""An incident that was over for longer before anybody was told of it is history, not news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """All that the writing of notices needs besides the store."""

    settings: NotifySettings
    linker: Linker | None = None
    word: Word = field(default_factory=Word)
    has_scheduler: bool = False
    rules: RuleSet = field(default_factory=builtin)
    """Those of the correlation, for their words."""


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells of one incident."""

    connection: Connection
    desk: Desk
    facts: IncidentFacts
    labels: Labels
    now: float

    def tell(self, row: Row[Any], hold: holds.Hold | None) -> int:
        """Write what is news about it, or that it is held, and the mark of what was told."""
        settings = self.desk.settings
        told = marks.told_of(self.connection, [self.facts.id]).get(self.facts.id)
        present = marks.present_of(row, told, self.facts.recovery, settings, self.now,
                                   nodes=len(row.nodes))  # fmt: skip
        name = occasion(told, present)
        if told is None and present.is_resolved and self._is_history():
            name = None
        if hold is not None and not (told is not None and name == "resolved"):
            # The end of what people know is told in any case: it asks nothing of them.
            return self._hold(hold, told, present)
        was_held = holds.lift(self.connection, self.facts.id)
        if name is None and was_held and not present.is_resolved:
            name = "still"
        if name is not None or told is None or marks.differs(told, present):
            before = told if name is None else None
            marks.put(self.connection, self.facts.id, present, self.now, before)
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
            marks.put(self.connection, self.facts.id, replace(present, is_resolved=True), self.now)
        return 0

    def _targets(self, name: str) -> list[Target]:
        """Return where the news goes: by the routes, and wherever people know of it already."""
        settings = self.desk.settings
        found = routes.targets(settings.routes, self.labels, settings.channels)
        told = outbox.channels_told(self.connection, self.facts.id)
        for channel in sorted(told & settings.channels.keys() - found.keys()):
            found[channel] = Target(channel=channel, route="told before")
        return [
            t
            for t in found.values()
            if (t.channel in told or self._is_over_bar(t.channel)) and self._has_reader(t.channel)
        ]

    def _has_reader(self, channel: str) -> bool:
        return "user" in self.labels or not self.desk.settings.channels[channel].to_job_owner

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
        grouped = self.desk.rules.words_of(facts.cause, language.value)
        text = write(facts, name, words(language), now=now, links=links, grouped=grouped)
        data = as_data(
            facts,
            name,
            language=language.value,
            cluster=settings.cluster,
            external_url=settings.external_url,
            grouped=grouped,
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
        channel = self.desk.settings.channels[target.channel]
        # A digest for the owner of one job would tell of the jobs of others.
        is_single = channel.kind is ChannelKind.ALERTMANAGER or channel.to_job_owner
        if target.digest_seconds == 0 or name in NEEDS_NOW or is_single:
            return None
        begun = digest.next_at(self.connection, target.channel)
        return self.now + target.digest_seconds if begun is None else begun


def _suffix(facts: IncidentFacts, name: str, now: float) -> str:
    """Return what makes an occasion unique within its incident."""
    recovery = facts.recovery
    if name == "still":
        return f"still-{facts.revision}-{now:.0f}"
    if recovery is None or name not in PHASES.values():
        return f"{name}-{facts.revision}"
    return f"{name}-{facts.revision}-{recovery.id}-{recovery.updated_at:.3f}"
