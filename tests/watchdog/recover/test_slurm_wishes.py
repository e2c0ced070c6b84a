"""What a job's comment allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.recover.slurm.wishes import Wishes, read_wishes


@pytest.mark.parametrize(
    ("comment", "wishes"),
    [
        ("", Wishes()),
        ("(null)", Wishes()),
        ("chipmedic:in_place", Wishes(in_place=True)),
        ("run 7 chipmedic:in_place,shrink=4 of mei", Wishes(in_place=True, shrink_to=4)),
        ("chipmedic:shrink=2 chipmedic:shrink=3", Wishes(shrink_to=3)),
        ("chipmedic:shrink=0", Wishes()),
        ("chipmedic:shrink=-1,shrink=many,shrink=", Wishes()),
        ("chipmedic:inplace", Wishes()),
        ("in_place", Wishes()),
        ("not-chipmedic:in_place", Wishes()),
    ],
)
def test_wishes(comment: str, wishes: Wishes) -> None:
    assert read_wishes(comment) == wishes


WORDS = st.sampled_from(
    ["chipmedic:", "in_place", "shrink=", ",", " ", "0", "4", "-1", "99999999999"]
)


@given(st.text() | st.lists(WORDS, max_size=10).map("".join))
def test_nothing_is_allowed_that_is_not_said(comment: str) -> None:
    wishes = read_wishes(comment)
    assert not wishes.in_place or "in_place" in comment
    assert wishes.shrink_to is None or wishes.shrink_to > 0
    if "chipmedic:" not in comment:
        assert wishes == Wishes()
    assert read_wishes(f"{comment} run 7") == wishes
