"""Escalation: who is called when nobody takes an incident, and who is not."""

from __future__ import annotations

from typing import Any

import pytest

from chipmedic_watchdog.notify import news
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.routes import EscalationSettings, RouteSettings
from chipmedic_watchdog.notify.settings import (
    ChannelKind,
    ChannelSettings,
    NotifySettings,
    SeverityName,
)
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

STDOUT = ChannelSettings(kind=ChannelKind.STDOUT)
SETTINGS = NotifySettings(
    channels={
        "pager": STDOUT,
        "lead": ChannelSettings(kind=ChannelKind.STDOUT, minimum_severity=SeverityName.CRITICAL),
        "boss": STDOUT,
    },
    routes=(
        RouteSettings(
            channels=("pager",),
            escalations=(
                EscalationSettings(after_seconds=600, channels=("lead",)),
                EscalationSettings(after_seconds=1800, channels=("lead", "boss")),
            ),
        ),
    ),
)
DESK = Desk(settings=SETTINGS)
NOW = story.NOW


def look(database: Database, after_seconds: float = 0.0) -> None:
    now = NOW + after_seconds
    ids = database.read_now(lambda c: news.unread(c, SETTINGS, now))
    database.write_now(lambda c: news.write_news(c, ids, DESK, now))
    database.write_now(lambda c: news.escalate(c, DESK, now))


def told(database: Database) -> list[tuple[str, str]]:
    rows = sorted(story.rows(database, schema.notices), key=lambda row: row["created_at"])
    return [(row["occasion"], row["channel"]) for row in rows]


def set_incident(database: Database, **values: Any) -> None:
    story.change(database, schema.incidents, schema.incidents.c.id == "inc-000042", **values)


def test_the_next_ones_are_told_once_each_and_hear_the_end(database: Database) -> None:
    story.put_incident(database, severity=2)
    for after_seconds in (0, 300, 599, 601, 900, 1801, 1805, 9999):
        look(database, after_seconds)
    assert told(database) == [
        ("opened", "pager"),
        ("escalated", "lead"),
        ("escalated", "lead"),
        ("escalated", "boss"),
    ]
    assert "WARNING, nobody has taken it for" in story.rows(database, schema.notices)[1]["title"]
    set_incident(database, state="resolved", resolved_at=NOW + 10_000, revision=2)
    look(database, 10_001)
    assert {channel for occasion, channel in told(database) if occasion == "resolved"} == {
        "pager",
        "lead",
        "boss",
    }


@pytest.mark.parametrize(
    "values",
    [
        {"state": "acknowledged", "acknowledged_at": NOW + 60, "acknowledged_by": "mei"},
        {"state": "resolved", "resolved_at": NOW + 60, "revision": 2},
        {"state": "recovering"},
    ],
    ids=["acknowledged", "resolved", "recovering"],
)
def test_what_somebody_looks_after_is_not_escalated(
    database: Database, values: dict[str, Any]
) -> None:
    story.put_incident(database)
    look(database)
    set_incident(database, **values)
    look(database, 3600)
    assert "escalated" not in dict(told(database))


@pytest.mark.parametrize(
    ("state", "is_escalated"),
    [("done", False), ("verifying", False), ("held", True), ("proposed", True)],
)
def test_a_recovery_that_does_its_work_calls_nobody(
    database: Database, state: str, is_escalated: bool
) -> None:
    story.put_incident(database)
    story.put_recovery(database, state=state, mode="propose")
    look(database)
    look(database, 3600)
    assert ("escalated" in dict(told(database))) == is_escalated


def test_after_a_return_the_wait_begins_anew(database: Database) -> None:
    story.put_incident(database)
    look(database)
    look(database, 700)
    set_incident(database, state="resolved", resolved_at=NOW + 800, revision=2)
    look(database, 801)
    set_incident(database, state="open", resolved_at=None, revision=3, reopened_count=1)
    look(database, 1000)
    look(database, 1500)
    assert told(database).count(("escalated", "lead")) == 1
    look(database, 1601)
    assert told(database).count(("escalated", "lead")) == 2


def test_what_nobody_was_told_of_is_not_escalated(database: Database) -> None:
    story.put_incident(database, severity=1)
    look(database)
    look(database, 3600)
    assert told(database) == []
