"""Digests and limits: many notices as one, none of them lost, the urgent ones at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.notifier import Notice
from chipmedic_watchdog.notify import digest, news, outbox
from chipmedic_watchdog.notify.courier import Courier
from chipmedic_watchdog.notify.limits import portion
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.outbox import Pending
from chipmedic_watchdog.notify.routes import RouteSettings
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from waiting import PATIENCE_SECONDS
from watchdog.notify import story

STDOUT = ChannelSettings(kind=ChannelKind.STDOUT)
SETTINGS = NotifySettings(
    channels={"chat": STDOUT},
    routes=(RouteSettings(channels=("chat",), digest_seconds=1800),),
)
DESK = Desk(settings=SETTINGS)
NOW = story.NOW


def look(database: Database, now: float) -> None:
    ids = database.read_now(lambda c: news.unread(c, SETTINGS, now))
    database.write_now(lambda c: news.write_news(c, ids, DESK, now))


def due(database: Database, now: float) -> list[Notice]:
    pending, _ = database.read_now(lambda c: outbox.due(c, "chat", now))
    return [one.notice for one in pending]


def gather(database: Database, now: float, settings: NotifySettings = SETTINGS) -> None:
    database.write_now(lambda c: digest.gather(c, "chat", settings, now))


def test_warnings_are_gathered_so_long_after_the_first(database: Database) -> None:
    for number in range(3):
        story.put_incident(database, f"inc-{number:06d}", severity=2)
        look(database, NOW + number * 60)
    resolved = {"state": "resolved", "resolved_at": NOW + 200, "revision": 2}
    story.change(database, schema.incidents, schema.incidents.c.id == "inc-000001", **resolved)
    look(database, NOW + 201)
    assert due(database, NOW + 600) == []
    assert database.read_now(lambda c: digest.next_at(c, "chat")) == NOW + 1800
    gather(database, NOW + 1800)
    (notice,) = due(database, NOW + 1800)
    assert notice.title == "4 notices about 3 incidents, 1 of them over"
    assert "as the route of these incidents says" in notice.body
    assert [line[:9] for line in notice.body.splitlines() if line.startswith("- ")] == [
        "- WARNING",
        "- WARNING",
        "- Resolve",
    ]
    assert len(notice.data["notices"]) == 4
    rows = story.rows(database, schema.notices)
    assert {row["receipt"] for row in rows if row["state"] == "gathered"} == {notice.id}
    assert database.read_now(lambda c: digest.next_at(c, "chat")) is None


def test_one_alone_is_told_as_it_is(database: Database) -> None:
    story.put_incident(database, severity=2)
    look(database, NOW)
    gather(database, NOW + 1800)
    (notice,) = due(database, NOW + 1800)
    assert notice.title.startswith("WARNING: ")


def test_a_question_waits_for_no_digest(database: Database) -> None:
    story.put_incident(database, severity=2)
    story.put_recovery(database, mode="propose", state="proposed")
    look(database, NOW)
    assert [notice.data["occasion"] for notice in due(database, NOW)] == ["proposed"]


def test_a_long_digest_says_how_many_more(database: Database) -> None:
    for number in range(60):
        story.put_incident(database, f"inc-{number:06d}", severity=2)
    look(database, NOW)
    gather(database, NOW + 1800)
    (notice,) = due(database, NOW + 1800)
    assert "... and 20 more" in notice.body
    assert f"chipmedic notices --digest {notice.id}" in notice.body


def pending(number: int, severity: str = "critical", occasion: str = "opened") -> Pending:
    notice = Notice(
        id=f"n{number}",
        incident=f"inc-{number:06d}",
        severity=severity,
        is_resolved=False,
        title="",
        body="",
        data={"occasion": occasion},
    )
    return Pending(notice=notice, attempts=0, created_at=number, next_attempt_at=0)


def ids(part: Sequence[Pending]) -> list[str]:
    return [one.notice.id for one in part]


@pytest.mark.parametrize(
    ("count", "sent", "maximum", "now", "over"),
    [
        (5, 0, 0, 5, 0),
        (5, 0, 5, 5, 0),
        (5, 0, 4, 3, 2),
        (5, 3, 4, 0, 5),
        (5, 4, 4, 0, 5),
        (1, 3, 4, 1, 0),
        (1, 4, 4, 0, 1),
    ],
)
def test_how_much_goes_now(count: int, sent: int, maximum: int, now: int, over: int) -> None:
    waiting = [pending(number) for number in range(count)]
    part = portion(waiting, [100.0] * sent, maximum, 110.0)
    assert (len(part.now), len(part.over)) == (now, over)
    if over:
        assert part.room_at == (110.0 if maximum > sent else 160.0)


def test_the_worst_go_first_and_questions_always() -> None:
    waiting = [pending(1, "warning"), pending(2), pending(3, "warning", "held"), pending(4)]
    part = portion(waiting, [], 3, 0.0)
    assert (ids(part.now), ids(part.over)) == (["n3", "n2"], ["n4", "n1"])
    assert ids(portion(waiting, [0.0] * 9, 3, 1.0).now) == ["n3"]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["info", "warning", "critical"]),
                       st.sampled_from(["opened", "held"])), max_size=30),
    st.lists(st.floats(0, 200), max_size=30),
    st.integers(0, 10),
)  # fmt: skip
def test_nothing_is_dropped_and_order_within_an_incident_holds(
    given_: list[tuple[int, str, str]], sent: list[float], maximum: int
) -> None:
    waiting = [pending(number, severity, occasion) for number, severity, occasion in given_]
    part = portion(waiting, sent, maximum, 200.0)
    assert sorted(ids(part.now) + ids(part.over)) == sorted(ids(waiting))
    if maximum:
        routine = [one for one in part.now if one.notice.data["occasion"] == "opened"]
        recent = [at for at in sent if 200.0 - at < 60]
        assert len(routine) <= max(maximum - len(recent), 0)


async def test_a_storm_is_a_few_pages_and_one_digest_and_nothing_is_lost(
    database: Database, tmp_path: Path
) -> None:
    """200 nodes fail each for itself: 20 notices in the first minute tell of all of them."""
    settings = NotifySettings(
        channels={
            "chat": ChannelSettings(
                kind=ChannelKind.COMMAND,
                argv=("/bin/sh", "-c", f"cat >> {tmp_path}/got"),
                maximum_per_minute=20,
            )
        }
    )
    from chipmedic_watchdog.notify.channels import make

    now = time.time()
    for number in range(200):
        story.put_incident(database, f"inc-{number:06d}", opened_at=now - 5, fault_at=now - 5)
    desk = Desk(settings=settings)
    found = database.read_now(lambda c: news.unread(c, settings, now))
    assert database.write_now(lambda c: news.write_news(c, found, desk, now)).written == 200
    courier = Courier(database, make("chat", settings.channels["chat"]), settings)
    task = asyncio.create_task(courier.run())
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        states = [row["state"] for row in story.rows(database, schema.notices)]
        if "pending" not in states:
            break
    task.cancel()
    assert (states.count("delivered"), states.count("gathered")) == (20, 181)
    text = (tmp_path / "got").read_text()
    assert "181 notices about 181 incidents, 0 of them over" in text
    assert "nothing was left out" in text
