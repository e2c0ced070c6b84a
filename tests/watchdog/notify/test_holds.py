"""Silences, maintenance and expected absence: who is not told, and who is in the end."""

from __future__ import annotations

from typing import Any

import pytest

from chipmedic.recoverer import NodeView
from chipmedic_watchdog.notify import news, silences
from chipmedic_watchdog.notify.holds import Word
from chipmedic_watchdog.notify.news import Desk, Outcome
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

SETTINGS = NotifySettings(channels={"desk": ChannelSettings(kind=ChannelKind.STDOUT)})
DESK = Desk(settings=SETTINGS)
NOW = story.NOW


def look(database: Database, now: float = NOW, desk: Desk = DESK) -> Outcome:
    ids = database.read_now(
        lambda c: news.unread(c, SETTINGS, now) + news.newly_silenced(c, desk, now)
    )
    return database.write_now(lambda c: news.write_news(c, ids, desk, now))


def told(database: Database) -> list[str]:
    rows = story.rows(database, schema.notices)
    return [row["occasion"] for row in sorted(rows, key=lambda row: row["created_at"])]


def held(database: Database) -> list[str]:
    return [row["held_by"] for row in story.rows(database, schema.notice_holds)]


def silence(database: Database, *matchers: str, **values: Any) -> str:
    whole = {"starts_at": NOW - 10, "ends_at": NOW + 600, "who": "mei", "why": "fan swap",
             "now": NOW - 10} | values  # fmt: skip
    kind = whole.pop("kind", "silence")
    return database.write_now(lambda c: silences.add(c, kind, matchers, **whole))


def set_incident(database: Database, **values: Any) -> None:
    story.change(database, schema.incidents, schema.incidents.c.id == "inc-000042", **values)


def test_a_silenced_incident_opens_and_nobody_is_told_until_the_silence_ends(
    database: Database,
) -> None:
    identity = silence(database, 'node="gpu-017"')
    story.put_incident(database)
    story.put_fault(database)
    assert look(database).written == 0
    assert held(database) == [identity]
    assert look(database, NOW + 300).written == 0
    assert look(database, NOW + 601).written == 1
    assert told(database) == ["opened"]
    assert held(database) == []
    assert look(database, NOW + 700).written == 0


def test_a_silence_of_one_node_hides_no_rack(database: Database) -> None:
    silence(database, 'node="gpu-017"')
    story.put_incident(database, nodes=["gpu-017", "gpu-018"])
    story.put_fault(database)
    assert look(database).written == 1


def test_what_came_and_went_in_silence_is_never_told(database: Database) -> None:
    silence(database, 'node="gpu-017"')
    story.put_incident(database)
    look(database)
    set_incident(database, state="resolved", resolved_at=NOW + 60, revision=2)
    look(database, NOW + 61)
    assert held(database) == []
    look(database, NOW + 700)
    assert told(database) == []


def test_the_end_of_what_people_know_is_told_in_silence_too(database: Database) -> None:
    story.put_incident(database)
    look(database)
    silence(database, 'kind=~"memory.*"')
    look(database, NOW + 5)
    assert len(held(database)) == 1
    set_incident(database, state="resolved", resolved_at=NOW + 60, revision=2)
    look(database, NOW + 61)
    assert told(database) == ["opened", "resolved"]
    assert held(database) == []


def test_what_is_open_still_when_the_silence_ends_is_told_again(database: Database) -> None:
    story.put_incident(database)
    look(database)
    identity = silence(database, 'kind=~"memory.*"')
    look(database, NOW + 5)
    database.write_now(lambda c: silences.end(c, identity, who="lin", now=NOW + 20))
    look(database, NOW + 21)
    assert told(database) == ["opened", "still"]
    title = story.rows(database, schema.notices)[-1]["title"]
    assert title.startswith("CRITICAL, still open after the silence: ")


def test_a_maintenance_window_begins_when_it_says(database: Database) -> None:
    silence(database, 'node="gpu-017"', kind="maintenance", starts_at=NOW + 100, ends_at=NOW + 200)
    story.put_incident(database)
    assert look(database).written == 1
    set_incident(database, revision=2, root_fault=7)
    assert look(database, NOW + 110).written == 0
    assert len(held(database)) == 1
    assert look(database, NOW + 201).written == 1
    assert told(database) == ["opened", "updated"]


@pytest.mark.parametrize(
    ("matchers", "values", "words"),
    [
        ([], {}, "1 to 20"),
        (["nonsense"], {}, "is no matcher"),
        (['node=~".*"'], {}, "must not fit the empty text"),
        (['node!="n1"'], {}, "must not fit the empty text"),
        (['node="n1"'], {"ends_at": NOW - 60}, "has passed already"),
        (['node="n1"'], {"ends_at": NOW + 400 * 86_400}, "more than a year"),
        (['node="n1"'], {"kind": "peace"}, "not one of"),
    ],
)
def test_a_silence_that_is_none_is_refused(
    database: Database, matchers: list[str], values: dict[str, Any], words: str
) -> None:
    with pytest.raises(silences.SilenceRefused, match=words):
        silence(database, *matchers, **values)


def test_a_silence_ends_once(database: Database) -> None:
    identity = silence(database, 'node="n1"')
    database.write_now(lambda c: silences.end(c, identity, who="lin", now=NOW))
    for name, words in ((identity, "ended already"), ("sil-000099", "no silence")):
        with pytest.raises(silences.SilenceRefused, match=words):
            database.write_now(lambda c, name=name: silences.end(c, name, who="lin", now=NOW))


def word(expected: str, *nodes: str, asked_at: float = NOW) -> Word:
    view = {"is_available": False, "is_down": True, "why": "down*", "expected": expected}
    return Word(asked_at=asked_at, views={n: NodeView(node=n, **view) for n in nodes})  # type: ignore[arg-type]


def absence(database: Database, kind: str = "node.unreachable", **values: Any) -> None:
    whole = {"kind": kind, "jobs": [], "opened_at": NOW} | values
    story.put_incident(database, **whole)
    story.put_fault(database, kind=kind, component="host", codes=[], evidence=[])


@pytest.mark.parametrize("kind", ["node.unreachable", "node.rebooted"])
def test_a_node_that_an_admin_took_out_raises_no_page(database: Database, kind: str) -> None:
    absence(database, kind)
    desk = Desk(settings=SETTINGS, has_scheduler=True)
    first = look(database, NOW + 0.5, desk)
    assert first == Outcome(is_waiting=True, asks_scheduler=True)
    heard = Desk(settings=SETTINGS, has_scheduler=True,
                 word=word("drained*: fans [mei]", "gpu-017", asked_at=NOW + 0.5))  # fmt: skip
    assert look(database, NOW + 0.8, heard).written == 0
    (row,) = story.rows(database, schema.notice_holds)
    assert (row["held_by"], row["why"]) == ("scheduler", "drained*: fans [mei]")
    # The drain is lifted and the node is away still.
    back = Desk(settings=SETTINGS, has_scheduler=True,
                word=word("", "gpu-017", asked_at=NOW + 40))  # fmt: skip
    assert look(database, NOW + 41, back).written == 1
    assert told(database) == ["opened"]


@pytest.mark.parametrize(
    "heard",
    [
        Word(),
        word("", "gpu-017", asked_at=NOW + 0.4),
        word("maint", "gpu-018", asked_at=NOW + 0.4),
        word("maint", "gpu-017", asked_at=NOW - 3600),
    ],
    ids=["no answer", "should be there", "another node", "an old word"],
)
def test_else_people_are_told_in_time(database: Database, heard: Word) -> None:
    absence(database)
    desk = Desk(settings=SETTINGS, has_scheduler=True, word=heard)
    assert look(database, NOW + 3.1, desk).written == 1


def test_a_chip_fault_of_a_drained_node_is_told(database: Database) -> None:
    absence(database)
    story.put_fault(database)
    heard = word("drained", "gpu-017", asked_at=NOW + 0.1)
    desk = Desk(settings=SETTINGS, has_scheduler=True, word=heard)
    assert look(database, NOW + 0.5, desk).written == 1


def test_without_a_scheduler_nothing_waits(database: Database) -> None:
    absence(database)
    assert look(database, NOW + 0.4).written == 1
