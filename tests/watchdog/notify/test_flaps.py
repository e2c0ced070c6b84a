"""A part that comes and goes: no page for each return, one word at the third, one at the end."""

from __future__ import annotations

import pytest

from chipmedic_watchdog.notify import news
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

SETTINGS = NotifySettings(channels={"desk": ChannelSettings(kind=ChannelKind.STDOUT)})
DESK = Desk(settings=SETTINGS)


class Flapping:
    """One incident, looked at each ten seconds."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = story.NOW
        self.revision, self.returns = 1, 0
        story.put_incident(database)

    def set(self, **values: object) -> None:
        self.revision += 1
        where = schema.incidents.c.id == "inc-000042"
        story.change(self.database, schema.incidents, where, revision=self.revision, **values)

    def go(self) -> None:
        self.set(state="resolved", resolved_at=self.now)

    def come(self) -> None:
        self.returns += 1
        self.set(state="open", resolved_at=None, reopened_count=self.returns)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 10
            self.look()

    def look(self) -> None:
        ids = self.database.read_now(lambda c: news.unread(c, SETTINGS, self.now))
        self.database.write_now(lambda c: news.write_news(c, ids, DESK, self.now))

    @property
    def told(self) -> list[str]:
        rows = story.rows(self.database, schema.notices)
        return [row["occasion"] for row in sorted(rows, key=lambda row: row["created_at"])]


@pytest.mark.parametrize(
    ("returns", "told"),
    [
        (0, ["opened", "resolved"]),
        (1, ["opened", "resolved", "reopened", "resolved"]),
        (2, ["opened", "resolved", "reopened", "resolved"]),
        (3, ["opened", "resolved", "reopened", "flapping", "resolved"]),
        (30, ["opened", "resolved", "reopened", "flapping", "resolved"]),
    ],
)
def test_thirty_returns_cost_no_more_than_three(
    database: Database, returns: int, told: list[str]
) -> None:
    flapping = Flapping(database)
    flapping.wait(20)
    for _ in range(returns):
        flapping.go()
        flapping.wait(60)
        flapping.come()
        flapping.wait(60)
    flapping.go()
    flapping.wait(1200)
    assert flapping.told == told


def test_the_third_return_says_so_in_the_title(database: Database) -> None:
    flapping = Flapping(database)
    flapping.wait(20)
    for _ in range(3):
        flapping.go()
        flapping.wait(60)
        flapping.come()
        flapping.wait(60)
    title = story.rows(database, schema.notices)[-1]["title"]
    assert title.startswith("CRITICAL, comes and goes (3 returns): uncorrectable memory error")


def test_the_end_is_told_when_it_has_lasted(database: Database) -> None:
    flapping = Flapping(database)
    flapping.wait(20)
    flapping.go()
    flapping.wait(10)
    flapping.come()
    flapping.wait(10)
    flapping.go()
    flapping.wait(SETTINGS.flap_quiet_seconds - 20)
    assert flapping.told == ["opened", "resolved", "reopened"]
    flapping.wait(40)
    assert flapping.told == ["opened", "resolved", "reopened", "resolved"]


def test_nothing_is_rewritten_while_the_end_is_waited_for(database: Database) -> None:
    flapping = Flapping(database)
    flapping.wait(10)
    flapping.go()
    flapping.wait(10)
    flapping.come()
    flapping.wait(10)
    flapping.go()
    flapping.wait(10)
    assert database.read_now(lambda c: news.unread(c, SETTINGS, flapping.now + 5)) == []
