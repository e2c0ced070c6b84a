"""Which watchdog an agent tries, and when."""

from __future__ import annotations

from collections import Counter

import pytest

from chipmedic_agent.targets import DELAY_MAX_SECONDS, Targets

ADDRESSES = ("a:7443", "b:7443", "c:7443")


def targets(node: str = "n-1", addresses: tuple[str, ...] = ADDRESSES) -> Targets:
    """With dice that always show the most."""
    return Targets(addresses, node, lambda _, high: high)


def test_nodes_spread_and_those_of_a_dead_watchdog_spread_over_the_others() -> None:
    nodes = [f"n-{n}" for n in range(3000)]
    first = Counter(targets(node).first for node in nodes)
    assert all(900 < count < 1100 for count in first.values())
    orphans = [node for node in nodes if targets(node).first == "a:7443"]
    second = Counter(targets(node, ADDRESSES[1:]).first for node in orphans)
    assert all(0.4 < count / len(orphans) < 0.6 for count in second.values())
    assert targets("n-7", ADDRESSES[::-1]).first == targets("n-7").first, "whatever the file says"


def test_another_one_is_tried_at_once_when_one_does_not_answer() -> None:
    mine = targets()
    tried = []
    for _ in ADDRESSES:
        address, wait = mine.choose(100.0)
        assert wait == 0.0
        tried.append(address)
        mine.note_lost(address, 100.0)
    assert sorted(tried) == sorted(ADDRESSES)
    address, wait = mine.choose(100.0)
    assert (address, wait) == (tried[0], 1.0)


def test_one_that_is_there_again_is_preferred_again() -> None:
    mine = targets()
    own, _ = mine.choose(100.0)
    mine.note_lost(own, 100.0)
    other, _ = mine.choose(100.0)
    assert other != own
    assert mine.choose(102.0) == (own, 0.0)


def test_the_backoff_of_each_grows_by_itself_up_to_a_bound() -> None:
    mine = targets(addresses=("a:7443",))
    now, waits = 100.0, []
    for _ in range(12):
        mine.note_lost("a:7443", now)
        waits.append(mine.choose(now)[1])
        now += waits[-1]
    assert waits[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == DELAY_MAX_SECONDS


def test_a_good_stream_ends_the_backoff() -> None:
    mine = targets(addresses=("a:7443",))
    for _ in range(5):
        mine.note_lost("a:7443", 100.0)
    mine.note_lost("a:7443", 200.0, was_welcome=True, was_steady=True)
    assert mine.choose(200.0)[1] == 0.5


def test_who_sends_us_away_is_left_alone_for_that_time_and_no_other() -> None:
    mine = targets(addresses=("a:7443", "b:7443"))
    own, _ = mine.choose(100.0)
    mine.note_lost(own, 100.0, asked_seconds=60.0)
    other, wait = mine.choose(100.0)
    assert other != own
    assert wait == 0.0
    mine.note_lost(other, 100.0)  # not there: what the first asked for still counts
    for now in (100.0, 130.0, 159.0):
        address, wait = mine.choose(now)
        assert address == other
        mine.note_lost(other, now)
    assert mine.choose(172.0) == (own, 0.0)


def test_thousands_that_lose_one_watchdog_do_not_come_to_another_in_one_moment() -> None:
    mine = targets()
    own, _ = mine.choose(100.0)
    mine.note_lost(own, 100.0, was_welcome=True, was_steady=True)
    address, wait = mine.choose(100.0)
    assert address != own
    assert wait == 0.5


def test_a_stream_that_we_ended_begins_anew_at_once_but_not_for_ever() -> None:
    mine = targets(addresses=("a:7443",))
    mine.note_lost("a:7443", 100.0, is_ours=True)
    assert mine.choose(100.0) == ("a:7443", 0.0)
    mine.note_lost("a:7443", 100.0, is_ours=True)
    assert mine.choose(100.0)[1] > 0


def test_without_an_address_there_is_no_choice() -> None:
    with pytest.raises(LookupError):
        targets(addresses=()).choose(0.0)
