"""The clock of schedules."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from chipmedic_collectors.steady_clock import SteadyClock


def test_it_goes_on_when_the_clock_is_set_back_and_jumps_when_it_is_set_forward() -> None:
    clock = SteadyClock()
    seen = [clock.seconds(now) for now in (100.0, 110.0, 50.0, 60.0, 1000.0)]
    assert seen == [100.0, 110.0, 110.0, 120.0, 1060.0]


@given(st.lists(st.floats(0, 2e9), min_size=1))
def test_it_never_goes_back(times: list[float]) -> None:
    clock = SteadyClock()
    seen = [clock.seconds(now) for now in times]
    assert all(later >= earlier - 1e-3 for earlier, later in itertools.pairwise(seen))
