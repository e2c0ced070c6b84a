"""The outbox: each piece of news once per channel, whatever is killed; order within an incident."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from chipmedic_watchdog.notify import news, outbox
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.routes import RouteSettings
from chipmedic_watchdog.notify.settings import (
    ChannelKind,
    ChannelSettings,
    Language,
    NotifySettings,
    SeverityName,
)
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

STDOUT = ChannelSettings(kind=ChannelKind.STDOUT)
CRITICAL_ONLY = ChannelSettings(
    kind=ChannelKind.STDOUT, minimum_severity=SeverityName.CRITICAL, language=Language.ZH
)
SETTINGS = NotifySettings(channels={"desk": STDOUT, "pager": CRITICAL_ONLY})
DESK = Desk(settings=SETTINGS)


def look(database: Database, now: float = story.NOW) -> int:
    """One look of the loop; how many notices it wrote."""
    ids = unread(database, now)
    return database.write_now(lambda c: news.write_news(c, ids, DESK, now)).written


def unread(database: Database, now: float = story.NOW) -> list[str]:
    return database.read_now(lambda c: news.unread(c, SETTINGS, now))


def ids(database: Database) -> list[str]:
    return sorted(row["id"] for row in story.rows(database, schema.notices))


def set_incident(database: Database, **values: Any) -> None:
    story.change(database, schema.incidents, schema.incidents.c.id == "inc-000042", **values)


def test_one_notice_for_each_channel_and_never_again(database: Database) -> None:
    story.put_incident(database)
    story.put_fault(database)
    assert look(database) == 2
    assert look(database) == 0
    assert ids(database) == ["inc-000042/opened-1/desk", "inc-000042/opened-1/pager"]
    assert unread(database) == []
    titles = {row["channel"]: row["title"] for row in story.rows(database, schema.notices)}
    assert titles["desk"].startswith("CRITICAL: uncorrectable memory error on node gpu-017")
    assert titles["pager"].startswith("严重：节点 gpu-017")


@pytest.mark.parametrize(("severity", "channels"), [(1, []), (2, ["desk"]), (3, ["desk", "pager"])])
def test_each_channel_has_its_own_bar(
    database: Database, severity: int, channels: list[str]
) -> None:
    story.put_incident(database, severity=severity)
    look(database)
    assert [row["channel"] for row in story.rows(database, schema.notices)] == channels


def test_a_whole_life(database: Database) -> None:
    story.put_incident(database, severity=2)
    look(database)
    set_incident(database, severity=3, revision=2)
    look(database)
    story.put_recovery(database)
    look(database)
    recoveries = schema.recoveries.c.id == "rec-000007"
    story.change(database, schema.recoveries, recoveries, state="done", updated_at=story.NOW + 9)
    look(database)
    set_incident(database, state="resolved", resolved_at=story.NOW + 60, revision=3)
    look(database, story.NOW + 61)
    set_incident(database, state="open", revision=4, reopened_count=1)
    look(database)
    desk = [r for r in story.rows(database, schema.notices) if r["channel"] == "desk"]
    assert [row["occasion"] for row in desk] == [
        "opened",
        "updated",
        "recovering",
        "recovered",
        "resolved",
        "reopened",
    ]
    assert [row["is_resolved"] for row in desk] == [False] * 4 + [True, False]


def test_news_of_one_moment_is_one_notice(database: Database) -> None:
    story.put_incident(database)
    look(database)
    story.put_recovery(database, state="held", detail="the budget is used up")
    set_incident(database, revision=2, severity=3, root_fault=8)
    assert look(database) == 2
    assert {r["occasion"] for r in story.rows(database, schema.notices)} == {"opened", "held"}


def test_a_node_that_may_come_back_is_news_of_a_resolved_incident(database: Database) -> None:
    story.put_incident(database, state="resolved", resolved_at=story.NOW - 5)
    look(database)
    story.put_recovery(
        database,
        "rec-000008",
        mode="propose",
        state="proposed",
        updated_at=story.NOW + 5,
        evidence={"kind": "return", "jobs": []},
    )
    assert look(database, story.NOW + 6) == 2
    last = story.rows(database, schema.notices)[-1]
    assert "chipmedic recoveries approve rec-000008" in last["body"]


def test_history_is_no_news(database: Database) -> None:
    story.put_incident(database, state="resolved", resolved_at=story.NOW - 90_000)
    assert look(database) == 0
    assert unread(database) == []


def test_a_new_incident_waits_a_moment_for_the_decision(database: Database) -> None:
    story.put_incident(database, opened_at=story.NOW)

    def told(now: float) -> tuple[int, bool]:
        done = database.write_now(lambda c: news.write_news(c, ["inc-000042"], DESK, now))
        return done.written, done.is_waiting

    assert told(story.NOW + 0.1) == (0, True)
    assert told(story.NOW + 0.31) == (2, False), "no longer than it may"


def test_a_new_incident_with_a_decision_waits_for_nothing(database: Database) -> None:
    story.put_incident(database, opened_at=story.NOW)
    story.put_recovery(database)
    assert look(database) == 2
    assert "To stop" in story.rows(database, schema.notices)[0]["body"]


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("point", range(1, 4))
def test_killed_while_writing_nothing_is_lost_and_nothing_is_twice(
    database: Database, point: int
) -> None:
    story.put_incident(database)
    left = point

    def dying(connection: Connection) -> None:
        original: Callable[..., Any] = connection.execute

        def execute(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if str(args[0]).startswith(("INSERT", "UPDATE")):
                left -= 1
                if left == 0:
                    raise Killed
            return original(*args, **kwargs)

        connection.execute = execute  # type: ignore[method-assign]
        news.write_news(connection, ["inc-000042"], DESK, story.NOW)
        raise Killed  # before the commit

    with pytest.raises(Killed):
        database.write_now(dying)
    assert ids(database) == []
    assert look(database) == 2
    assert look(database) == 0


def test_the_same_news_cannot_be_written_twice_even_without_the_mark(database: Database) -> None:
    story.put_incident(database)
    look(database)
    database.write_now(lambda c: c.execute(schema.notice_marks.delete()))
    assert look(database) == 0
    assert len(ids(database)) == 2


def put_notice(database: Database, name: str, **values: Any) -> None:
    whole: dict[str, Any] = {
        "incident": "inc-000042",
        "occasion": "opened",
        "channel": "desk",
        "created_at": story.NOW,
        "state": "pending",
        "next_attempt_at": story.NOW,
        "severity": 3,
        "title": "t",
        "body": "b",
        "data": {},
    } | values
    story.put(database, schema.notices, id=name, **whole)


def test_notices_of_an_incident_keep_their_order_and_others_pass(database: Database) -> None:
    put_notice(database, "a", next_attempt_at=story.NOW + 30)
    put_notice(database, "b", created_at=story.NOW + 1)
    put_notice(database, "c", incident="inc-000043", created_at=story.NOW + 2)
    put_notice(database, "d", channel="pager")
    found, next_at = database.read_now(lambda c: outbox.due(c, "desk", story.NOW + 5))
    assert ([one.notice.id for one in found], next_at) == (["c"], story.NOW + 30)
    found, _ = database.read_now(lambda c: outbox.due(c, "desk", story.NOW + 31))
    assert [one.notice.id for one in found] == ["a", "b", "c"]


def test_notices_of_a_channel_that_is_gone_fail_and_say_so(database: Database) -> None:
    put_notice(database, "a", channel="old-pager")
    put_notice(database, "b")
    count = database.write_now(lambda c: outbox.drop_unknown_channels(c, SETTINGS.channels))
    assert count == 1
    states = {row["id"]: row["state"] for row in story.rows(database, schema.notices)}
    assert states == {"a": "failed", "b": "pending"}


def test_a_channel_to_owners_hears_of_their_jobs_alone_and_gets_no_digest(
    database: Database,
) -> None:
    owners = ChannelSettings(kind=ChannelKind.APPRISE, url_env="X", to_job_owner=True)
    route = RouteSettings(channels=("owners",), digest_seconds=600.0)
    settings = NotifySettings(channels={"owners": owners}, routes=(route,))
    assert (owners.per_minute, owners.per_node_per_minute) == (0, 0)
    story.put_incident(database)
    story.put_job(database)
    story.put_incident(database, "inc-000043", jobs=[])
    ids = database.read_now(lambda c: news.unread(c, settings, story.NOW))
    database.write_now(lambda c: news.write_news(c, ids, Desk(settings=settings), story.NOW))
    (row,) = story.rows(database, schema.notices)
    assert (row["incident"], row["digest_at"]) == ("inc-000042", None)
