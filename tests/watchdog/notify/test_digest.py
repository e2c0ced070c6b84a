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
from chipmedic_watchdog.notify.limits import GATHER_SECONDS, Maximum, Sent, portion
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
    assert "of them are about node" not in notice.body
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
    assert "60 of them are about node gpu-017." in notice.body
    assert f"chipmedic notices --digest {notice.id}" in notice.body


def pending(
    number: int, severity: str = "critical", occasion: str = "opened", node: str = "n1"
) -> Pending:
    notice = Notice(
        id=f"n{number}",
        incident=f"inc-{number:06d}",
        severity=severity,
        is_resolved=False,
        title="",
        body="",
        data={"occasion": occasion},
    )
    return Pending(notice=notice, attempts=0, created_at=number, next_attempt_at=0, node=node)


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
    part = portion(waiting, [Sent(100.0, "n9")] * sent, Maximum(in_all=maximum), 110.0)
    assert (len(part.now), len(part.over)) == (now, over)
    if over:
        assert part.room_at == (110.0 if maximum > sent else 160.0)


def test_questions_go_always_and_the_others_in_the_order_given() -> None:
    waiting = [pending(2), pending(4), pending(1, "warning"), pending(3, "warning", "held")]
    most = Maximum(in_all=3)
    part = portion(waiting, [], most, 0.0)
    assert (ids(part.now), ids(part.over)) == (["n3", "n2"], ["n4", "n1"])
    assert ids(portion(waiting, [Sent(0.0, "n9")] * 9, most, 1.0).now) == ["n3"]


def test_no_node_gets_more_than_its_share() -> None:
    flood = [pending(number, node="sick") for number in range(9)]
    waiting = [*flood[:4], pending(20, node="well"), *flood[4:]]
    most = Maximum(of_one_node=3)
    part = portion(waiting, [Sent(80.0, "sick"), Sent(20.0, "sick")], most, 100.0)
    assert ids(part.now) == ["n0", "n1", "n20"]  # what it sent before the last minute is forgotten
    assert ids(part.over) == [f"n{number}" for number in range(2, 9)]
    assert part.room_at == 100.0 + GATHER_SECONDS


def test_the_digests_of_a_flood_come_once_in_a_minute() -> None:
    flood = [pending(number, node="sick") for number in range(9)]
    sent = [Sent(70.0, ""), *[Sent(80.0, "sick")] * 3]
    part = portion(flood, sent, Maximum(of_one_node=3), 100.0)
    assert (part.now, part.room_at) == ((), 130.0)


def test_a_question_of_a_node_over_its_share_goes_at_once() -> None:
    waiting = [pending(1, node="sick"), pending(2, occasion="proposed", node="sick")]
    part = portion(waiting, [Sent(90.0, "sick")], Maximum(of_one_node=1), 100.0)
    assert (ids(part.now), ids(part.over)) == (["n2"], ["n1"])


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["info", "warning", "critical"]),
                       st.sampled_from(["opened", "held"]), st.sampled_from("abc")), max_size=30),
    st.lists(st.tuples(st.floats(0, 200), st.sampled_from("abc")), max_size=30),
    st.integers(0, 10),
    st.integers(0, 5),
)  # fmt: skip
def test_nothing_is_dropped_and_the_limits_hold(
    given_: list[tuple[int, str, str, str]],
    sent: list[tuple[float, str]],
    maximum: int,
    of_one_node: int,
) -> None:
    waiting = [pending(number, severity, what, node) for number, severity, what, node in given_]
    past = [Sent(at, node) for at, node in sent]
    most = Maximum(in_all=maximum, of_one_node=of_one_node)
    part = portion(waiting, past, most, 200.0)
    assert sorted(ids(part.now) + ids(part.over)) == sorted(ids(waiting))
    routine = [one for one in part.now if one.occasion == "opened"]
    recent = [one for one in past if 200.0 - one.at < 60]
    if maximum:
        assert len(routine) <= max(maximum - len(recent), 0)
    for node in "abc" if of_one_node else "":
        before = sum(1 for one in recent if one.node == node)
        now = sum(1 for one in routine if one.node == node)
        assert now <= max(of_one_node - before, 0)


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
        story.put_incident(database, f"inc-{number:06d}", opened_at=now - 5, fault_at=now - 5,
                           nodes=[f"gpu-{number:03d}"])  # fmt: skip
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
