"""The order of the turns: no node waits for another's flood, and threads keep their order."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.notify import news, outbox
from chipmedic_watchdog.notify.fair import COSTS, in_turns
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

INFO, WARNING, CRITICAL = 1, 2, 3
SETTINGS = NotifySettings(channels={"desk": ChannelSettings(kind=ChannelKind.STDOUT)})


class Entry(NamedTuple):
    number: int
    incident: str
    severity: int
    node: str


def test_the_first_of_a_node_waits_for_one_of_each_other() -> None:
    flood = [Entry(n, f"sick-{n}", CRITICAL, "sick") for n in range(1000)]
    honest = [Entry(2000 + n, f"well-{n}", CRITICAL, f"well-{n}") for n in range(3)]
    order = in_turns([*flood, *honest])
    assert [entry.node for entry in order[:5]] == ["sick", "well-0", "well-1", "well-2", "sick"]


def test_the_worst_of_a_node_goes_first_and_a_warning_is_not_starved() -> None:
    mine = [Entry(n, f"a-{n}", severity, "a") for n, severity in enumerate([WARNING, CRITICAL])]
    flood = [Entry(9 + n, f"b-{n}", CRITICAL, "b") for n in range(100)]
    order = in_turns([*mine, *flood])
    assert order.index(mine[1]) < order.index(mine[0]) < 8


def test_an_all_clear_goes_with_its_incident() -> None:
    opened, over = (Entry(n, "inc", severity, "a") for n, severity in enumerate([CRITICAL, INFO]))
    other = Entry(5, "other", WARNING, "a")
    assert in_turns([opened, over, other]) == [opened, over, other]


entries = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(list(COSTS)), st.sampled_from("abcd")), max_size=40
).map(
    lambda found: [
        Entry(number, f"{node}-{thread}", severity, node)
        for number, (thread, severity, node) in enumerate(found)
    ]
)


@given(entries)
def test_nothing_is_lost_and_each_incident_keeps_its_order(found: list[Entry]) -> None:
    order = in_turns(found)
    assert sorted(order) == found
    for incident in {entry.incident for entry in found}:
        thread = [entry.number for entry in order if entry.incident == incident]
        assert thread == sorted(thread)


@given(entries, st.integers(0, 60))
def test_a_flood_delays_the_others_by_a_bounded_number(found: list[Entry], flood: int) -> None:
    """However much one sends, before the n-th of a node go as many of it as n cost at most."""
    sick = [Entry(100 + n, f"sick-{n}", CRITICAL, "sick") for n in range(flood)]
    order = in_turns([*sick, *found])
    place: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    worst = {e.incident: max(o.severity for o in found if o.incident == e.incident) for e in found}
    for entry in order:
        if entry.node == "sick":
            place["sick"] += 1
            continue
        spent[entry.node] += COSTS[worst[entry.incident]]  # type: ignore[index]
        assert place["sick"] <= spent[entry.node]


def test_the_outbox_and_the_news_are_read_in_turns(database: Database) -> None:
    for number in range(6):
        story.put_incident(database, f"inc-{number:06d}", nodes=["sick"])
    story.put_incident(database, "inc-000100", nodes=["well"], severity=WARNING)
    now = story.NOW
    ids = database.read_now(lambda c: news.unread(c, SETTINGS, now))
    assert ids.index("inc-000100") == 4
    desk = Desk(settings=SETTINGS)
    database.write_now(lambda c: news.write_news(c, ids, desk, now))
    pending, _ = database.read_now(lambda c: outbox.due(c, "desk", now))
    assert [one.incident for one in pending].index("inc-000100") == 4
    assert {one.node for one in pending} == {"sick", "well"}
