"""Sums over jobs and spans of time: whatever happened, they agree with one another exactly."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chipmedic_watchdog.ledger.account import account
from chipmedic_watchdog.ledger.history import History
from chipmedic_watchdog.ledger.phases import LOST, Phase
from chipmedic_watchdog.ledger.sums import (
    FORGOTTEN,
    UNEXPLAINED,
    Cause,
    Whole,
    add_causes,
    by_cause,
)
from chipmedic_watchdog.ledger.window import cut
from ledger_histories import HISTORIES
from ledger_story import again, history, incident, restart, row, told

KINDS = {"a": "chip.lost", "b": "link.down"}


@given(st.lists(HISTORIES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_causes_add_up_to_the_lost_time_and_jobs_to_the_wall_time(made: list[History]) -> None:
    whole, causes, wall_seconds = Whole(), {}, 0.0
    for one in filter(None, map(account, made)):
        whole.add(one.seconds())
        add_causes(causes, by_cause(one, KINDS))
        wall_seconds += one.wall_seconds
    assert whole.wall_seconds == wall_seconds, "to the last bit"
    assert sum(cause.lost_seconds for cause in causes.values()) == whole.lost_seconds
    for phase in LOST:
        assert sum(cause.seconds[phase] for cause in causes.values()) == whole.seconds[phase]
    assert causes.keys() <= {*KINDS.values(), UNEXPLAINED, FORGOTTEN}


@given(HISTORIES, st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_cut_account_adds_up_as_the_whole_does(given_history: History, share: float) -> None:
    one = account(given_history)
    assume(one is not None)
    assert one is not None
    since = one.began_at + share * one.wall_seconds
    inside = cut(one, since)
    if inside is None:
        assert since >= one.end_at - 0.001
        return
    spent = inside.seconds()
    assert min(spent.values()) >= 0
    assert sum(spent.values()) == inside.wall_seconds <= one.wall_seconds
    assert all(spent[phase] <= one.seconds()[phase] + 0.001 for phase in Phase)
    edges = [inside.began_at, *(i.end_at for i in inside.intervals)]
    assert all(i.start_at == at for i, at in zip(inside.intervals, edges, strict=False))
    assert edges[-1] == inside.end_at


def test_a_cut_falls_where_it_is_put() -> None:
    chip = incident("a", 101, resolved_at=130)
    rows = (
        row(0, 0, mark="start"), row(100, 100, checkpoint_seconds=10.0), again(112, 91, 1),
        row(121, 100, 1), row(131, 110, 1),
    )  # fmt: skip
    whole = account(history(*rows, now=131, incidents=[chip], acts=[restart("a", 104, 110)]))
    assert whole is not None
    inside = cut(whole, 50)
    assert told(inside).startswith("productive@50-100 detect@100-101(a) decide@101-104(a)")
    assert inside is not None
    assert inside.seconds()[Phase.CHECKPOINT] == 5, "pauses are spread over their stretch"
    assert told(cut(whole, 115)) == "recompute@115-121(a) productive@121-131"
    assert cut(whole, 131) is None
    assert cut(whole, -5) is whole
    assert all(one.end_at == two.start_at for one, two in pairwise(inside.intervals))


@pytest.mark.parametrize(("kinds", "name"), [({"a": "chip.lost"}, "chip.lost"), ({}, FORGOTTEN)])
def test_each_wait_counts_once_under_its_cause(kinds: dict[str, str], name: str) -> None:
    rows = (
        row(0, 0, mark="start"), row(100, 100), again(112, 91, 1), row(121, 100, 1),
        row(131, 110, 1), again(200, 111, 2), row(210, 120, 2),
    )  # fmt: skip
    one = account(history(*rows, now=210, incidents=[incident("a", 101, resolved_at=130)],
                          acts=[restart("a", 104, 110)]))  # fmt: skip
    assert one is not None
    found = by_cause(one, kinds)
    assert {cause: (had.interruptions, had.lost_seconds) for cause, had in found.items()} == {
        name: (1, 21.0), UNEXPLAINED: (1, 69.0),
    }  # fmt: skip
    twice = Cause()
    for _ in range(2):
        twice.add(found[name])
    assert (twice.interruptions, twice.lost_seconds) == (2, 42.0)
