"""Reminders: what is critical and taken by nobody is told again, once for each interval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chipmedic_watchdog.notify import news
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.routes import RouteSettings
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

HOUR = 3600.0
STDOUT = ChannelSettings(kind=ChannelKind.STDOUT)
ALERTMANAGER = ChannelSettings(kind=ChannelKind.ALERTMANAGER, url="http://am:9093")
SETTINGS = NotifySettings(channels={"desk": STDOUT, "am": ALERTMANAGER})


def told(database: Database, settings: NotifySettings = SETTINGS) -> None:
    """The incident's first notices."""
    ids = database.read_now(lambda c: news.unread(c, settings, story.NOW))
    desk = Desk(settings=settings)
    database.write_now(lambda c: news.write_news(c, ids, desk, story.NOW))


def remind(database: Database, hours: float, settings: NotifySettings = SETTINGS) -> int:
    now = story.NOW + hours * HOUR
    if not database.read_now(lambda c: news.is_to_remind(c, settings, now)):
        return 0
    return database.write_now(lambda c: news.remind(c, Desk(settings=settings), now))


def test_it_is_told_again_each_four_hours_to_people_alone(database: Database) -> None:
    story.put_incident(database)
    told(database)
    assert [remind(database, hours) for hours in (3.9, 4.1, 4.2, 8.0, 8.2, 8.3)] == [
        0, 1, 0, 0, 1, 0,
    ]  # fmt: skip
    again = [r for r in story.rows(database, schema.notices) if r["occasion"] == "reminded"]
    assert [row["id"] for row in again] == [
        "inc-000042/reminded-0-1/desk",
        "inc-000042/reminded-0-2/desk",
    ]
    assert again[0]["title"].startswith("CRITICAL, open for 4.1 h and taken by nobody: ")


@pytest.mark.parametrize(
    "state",
    [
        {"severity": 2},
        {"state": "resolved", "resolved_at": story.NOW},
        {"state": "acknowledged", "acknowledged_at": story.NOW},
    ],
)
def test_what_is_not_critical_or_is_taken_is_not_told_again(
    database: Database, state: dict[str, Any]
) -> None:
    story.put_incident(database)
    told(database)
    story.change(database, schema.incidents, schema.incidents.c.id == "inc-000042", **state)
    assert remind(database, 5) == 0


def test_what_chipmedic_works_on_is_not_told_again(database: Database) -> None:
    story.put_incident(database)
    told(database)
    story.put_recovery(database, state="running")
    assert remind(database, 5) == 0


def test_a_silence_holds_it_back(database: Database) -> None:
    story.put_incident(database)
    told(database)
    story.put(database, schema.notice_holds, incident="inc-000042", held_by="sil-000001",
              why="fan", since=story.NOW, until=story.NOW + 9 * HOUR, revision=1)  # fmt: skip
    assert remind(database, 5) == 0


def test_a_route_has_an_interval_of_its_own_or_none(database: Database) -> None:
    story.put_incident(database)
    told(database)
    route = RouteSettings(channels=("desk",), repeat_seconds=HOUR)
    assert remind(database, 1.1, replace(SETTINGS, routes=(route,))) == 1
    never = replace(route, repeat_seconds=0.0)
    assert remind(database, 50, replace(SETTINGS, routes=(never,))) == 0
    assert remind(database, 50, replace(SETTINGS, repeat_seconds=0.0)) == 0


def test_what_was_never_told_is_no_reminder(database: Database) -> None:
    story.put_incident(database)
    assert remind(database, 50) == 0


@pytest.mark.parametrize("seconds", [-1.0, 5.0, float("nan")])
def test_an_interval_that_nobody_bears_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="repeat_seconds"):
        NotifySettings(repeat_seconds=seconds)
    with pytest.raises(ValueError, match="repeat_seconds"):
        RouteSettings(channels=("desk",), repeat_seconds=seconds)
