"""Which silences count as one pause of the network."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.intake.pauses import GAP_SECONDS, TAIL_SECONDS, Pause, pauses

NOW = 1000.0


def test_many_that_were_last_heard_in_one_second_are_a_pause() -> None:
    moments = [997.0 + n / 100 for n in range(100)]
    assert pauses((), moments, 1000, NOW) == (Pause(997.0, 997.99, NOW + TAIL_SECONDS),)


def test_few_or_far_apart_are_none() -> None:
    assert pauses((), [997.0 + n / 100 for n in range(99)], 1000, NOW) == ()
    assert pauses((), [900.0 + n for n in range(100)], 1000, NOW) == ()
    assert pauses((), [997.0, 997.1], 4, NOW) == (), "of a small fleet, two are no crowd"
    assert pauses((), [997.0, 997.1, 997.2], 4, NOW) != ()


def test_one_that_is_later_than_most_belongs_to_them_without_a_gap() -> None:
    crowd = [998.0 + n / 100 for n in range(20)]
    (late,) = pauses((), [*crowd, 997.6], 100, NOW)
    assert (late.first, late.covers(997.6)) == (997.6, True)
    (apart,) = pauses((), [*crowd, 997.4], 100, NOW)
    assert (apart.first, apart.covers(997.4)) == (998.0, False)


def test_a_pause_that_goes_on_is_the_same_and_lasts_longer() -> None:
    before = pauses((), [997.0, 997.1, 997.2], 4, NOW)
    (pause,) = pauses(before, [997.1, 997.2, 997.4, 997.5], 4, NOW + 1)
    assert pause == Pause(997.0, 997.5, NOW + 1 + TAIL_SECONDS)
    assert pauses((pause,), [997.1], 4, pause.until - 0.1) == (pause,), "one is heard late"
    assert pauses((pause,), [997.1], 4, pause.until) == ()


def test_two_pauses_are_told_apart() -> None:
    first, second = pauses((), [990.0, 990.1, 990.2, 997.0, 997.1, 997.2], 4, NOW)
    assert (first.covers(990.2), first.covers(995.0), second.covers(995.0)) == (True, False, False)
    assert (first.covers(997.0), second.covers(997.0)) == (False, True)


@given(st.lists(st.floats(900, 1000), max_size=60), st.integers(1, 200), st.integers(0, 3))
def test_who_is_in_a_crowd_is_covered_and_nobody_alone(
    moments: list[float], nodes: int, looks: int
) -> None:
    found: tuple[Pause, ...] = ()
    for number in range(looks + 1):
        found = pauses(found, moments, nodes, NOW + number / 10)
    many = max(3, nodes / 10)
    for moment in moments:
        near = [other for other in moments if abs(other - moment) <= GAP_SECONDS]
        is_covered = any(pause.covers(moment) for pause in found)
        assert is_covered or len(near) < many
        assert not is_covered or len(near) > 1
