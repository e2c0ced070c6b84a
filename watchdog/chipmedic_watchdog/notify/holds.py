"""Why people are not told of an incident for now: a silence, or an absence that was expected.

Each hold is a row that the pages show. It is looked at again when it ends, when the incident
changes, and when somebody makes or ends a silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, select

from chipmedic.recoverer import NodeView
from chipmedic_watchdog.notify.facts import IncidentFacts
from chipmedic_watchdog.notify.matchers import Labels
from chipmedic_watchdog.notify.silences import Silence, covering
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import write_rows

SCHEDULER = "scheduler"
EXPECTED_KINDS = frozenset({"node.unreachable", "node.rebooted"})
"""What a node does by itself when an admin takes it out or lets it boot."""
AGAIN_SECONDS = 30.0
"""How often the scheduler is asked whether a node is still meant to be away."""
WORD_VALID_SECONDS = 3 * AGAIN_SECONDS
"""What a scheduler said longer ago holds nothing back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the schedulers say of the nodes."""

    asked_at: float = 0.0
    """When the question was sent; 0: not yet."""
    views: Mapping[str, NodeView] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why an incident is held back, and until when that is sure."""

    by: str
    why: str
    until: float


def hold_of(
    facts: IncidentFacts, labels: Labels, silences: Sequence[Silence], word: Word, now: float
) -> Hold | None:
    """Return what holds the notices of an incident back, or None."""
    silence = covering(silences, labels)
    if silence is not None:
        why = f"{silence.kind} by {silence.created_by or 'nobody named'}: {silence.why}"
        return Hold(by=silence.id, why=why, until=silence.ends_at)
    why = expected(facts, word) if now - word.asked_at <= WORD_VALID_SECONDS else ""
    return Hold(by=SCHEDULER, why=why, until=now + AGAIN_SECONDS) if why else None


def is_absence(facts: IncidentFacts) -> bool:
    """Whether the incident is about nodes that are away or came back, and about nothing else."""
    return bool(facts.faults) and all(fault.kind in EXPECTED_KINDS for fault in facts.faults)


def expected(facts: IncidentFacts, word: Word) -> str:
    """Return why every node of an absence is meant to be away; empty: it is not, or unknown."""
    if not is_absence(facts):
        return ""
    reasons = [word.views[node].expected for node in facts.nodes if node in word.views]
    if len(reasons) < len(facts.nodes) or not all(reasons):
        return ""
    return "; ".join(dict.fromkeys(reasons))


def awaits_word(facts: IncidentFacts, word: Word, now: float, longest_seconds: float) -> bool:
    """Whether the scheduler may still say in a moment that a new absence was expected."""
    if not is_absence(facts) or facts.state == "resolved":
        return False
    is_new = 0 <= now - facts.opened_at < longest_seconds
    return is_new and word.asked_at < facts.opened_at


def put(connection: Connection, facts: IncidentFacts, hold: Hold, now: float) -> None:
    """Write that an incident is held back."""
    table = schema.notice_holds
    query = select(table.c.since).where(table.c.incident == facts.id)
    since = connection.execute(query).scalar()
    row = {
        "incident": facts.id,
        "held_by": hold.by,
        "why": hold.why,
        "since": now if since is None else since,
        "until": hold.until,
        "revision": facts.revision,
    }
    write_rows(connection, table, [row])


def lift(connection: Connection, incident: str) -> bool:
    """Write that an incident is held no more; return whether it was."""
    table = schema.notice_holds
    return connection.execute(delete(table).where(table.c.incident == incident)).rowcount > 0


def resting(connection: Connection, now: float) -> dict[str, int]:
    """Return the held incidents that need no look yet, each with the revision looked at."""
    table = schema.notice_holds
    query = select(table.c.incident, table.c.revision).where(table.c.until > now)
    return {row.incident: row.revision for row in connection.execute(query)}


def due(connection: Connection, now: float) -> list[str]:
    """Return the held incidents whose hold may have ended."""
    table = schema.notice_holds
    return list(connection.execute(select(table.c.incident).where(table.c.until <= now)).scalars())
