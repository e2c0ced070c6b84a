"""How the reports of a job's nodes become few rows that lose nothing of the truth."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic_watchdog.intake.progress import Mark, pause_of, resume
from chipmedic_watchdog.ledger.account import account
from chipmedic_watchdog.ledger.phases import Phase
from ledger_story import Listener, told

DAY_SECONDS = 86_400.0


def kept(listener: Listener) -> list[tuple[float, int | None, str]]:
    return [(r.at, r.step, r.mark.value) for r in listener.rows.values()]


def train(listener: Listener, start: float, seconds: float, first: int, **more: object) -> int:
    """Five steps a second, heard of every second; returns the last step."""
    step = first
    for second in range(1, int(seconds) + 1):
        step = first + 5 * second
        listener.hear(start + second, step, **more)  # type: ignore[arg-type]
    return step


def test_a_job_of_a_month_that_steps_steadily_is_two_rows() -> None:
    listener = Listener()
    listener.hear(0, 1)
    step = 1
    for minute in range(1, 30 * 24 * 60):
        step += 300
        at = minute * 60.0
        listener.hear(at, step)
        if minute % 10 == 0:  # a checkpoint of 9 s
            listener.hear(at + 1, step, phase="checkpoint")
            listener.hear(at + 10, step, checkpoint=step)
    assert len(listener.rows) <= 3
    made = account(listener.history(now=at))
    assert made is not None
    assert made.lost == ()
    assert made.seconds()[Phase.CHECKPOINT] == 9 * (30 * 24 * 60 // 10 - 1)


def test_steps_are_written_once_a_second_and_forgotten_by_none() -> None:
    listener = Listener()
    for n in range(51):
        listener.hear(n / 10, n)
    assert listener.writes <= 7
    listener.hear(5.05, 51)
    listener.hear(20.0, 40, attempt=1)
    assert kept(listener)[-2:] == [(5.05, 51, ""), (20.0, 40, "start")], (
        "the last step before a restart is not lost to thinning"
    )


def test_a_row_is_as_old_as_its_step_not_as_the_report() -> None:
    listener = Listener()
    listener.hear(10.0, 5, moved_at=9.5, skew_seconds=3600.0)
    listener.hear(33.0, 7, moved_at=11.0, skew_seconds=3600.0)
    assert kept(listener) == [(9.5, 5, "start"), (11.0, 7, "")]


def test_a_stall_keeps_both_its_ends() -> None:
    listener = Listener()
    listener.hear(0, 0)
    step = train(listener, 0, 100, 0)
    train(listener, 160, 50, step)
    assert kept(listener) == [(0, 0, "start"), (100, 500, ""), (161, 505, "stall"), (210, 750, "")]
    assert told(account(listener.history(now=210))) == (
        "productive@0-100 unexplained@100-160 productive@160-161 productive@161-210"
    )


def test_a_job_that_became_slow_is_slow_and_does_not_stall_for_ever() -> None:
    listener = Listener()
    listener.hear(0, 0)
    step = train(listener, 0, 100, 0)
    for n in range(1, 51):
        listener.hear(100 + 20 * n, step + n)  # 100 times slower
    assert len(listener.rows) <= 5
    made = account(listener.history(now=1100))
    assert made is not None
    assert made.seconds()[Phase.UNEXPLAINED] <= 20


@pytest.mark.parametrize(
    ("attempt", "step"),
    [
        pytest.param(1, 401, id="the launcher counts its starts"),
        pytest.param(0, 401, id="it does not"),
        pytest.param(1, 900, id="further than before"),
    ],
)
def test_a_new_start_is_known(attempt: int, step: int) -> None:
    listener = Listener()
    listener.hear(0, 0)
    train(listener, 0, 100, 0)
    listener.hear(120, step, attempt=attempt)
    assert [r.mark for r in listener.rows.values()] == [Mark.START, Mark.NONE, Mark.START]


def test_a_launcher_that_counts_from_zero_again() -> None:
    listener = Listener()
    listener.hear(0, 100, attempt=2)
    listener.hear(60, 90, attempt=0)
    listener.hear(61, 91, attempt=0)
    assert kept(listener) == [(0, 100, "start"), (60, 90, "start"), (61, 91, "")]


def test_who_lags_behind_or_speaks_of_the_start_before_changes_nothing() -> None:
    listener = Listener()
    listener.hear(10, 100, node="n1")
    assert listener.hear(10.2, 98, node="n2") is None, "its barrier is about to open"
    listener.hear(30, 60, node="n1", attempt=1)
    assert listener.hear(31, 100, node="n2", moved_at=10.1, attempt=0) is None
    assert listener.hear(50, 100, node="n2", moved_at=10.1, attempt=0) is None, "it repeats"
    late = listener.hear(51, 100, node="n2", moved_at=10.1, attempt=1)
    assert late is None, "a step that was made before the present start began is none of it"
    assert kept(listener) == [(10, 100, "start"), (30, 60, "start")]


def test_one_node_saves_while_the_others_wait_in_the_next_step() -> None:
    listener = Listener()
    listener.hear(0, 1)
    listener.hear(10, 50, node="n1", phase="checkpoint")
    listener.hear(10.5, 51, node="n2", phase="train")
    listener.hear(17, 50, node="n1", phase="train", moved_at=10)
    listener.hear(18, 55, node="n2", phase="train")
    made = account(listener.history(now=18))
    assert made is not None
    assert made.seconds()[Phase.CHECKPOINT] == 7.0


def test_a_node_that_never_says_its_pause_is_over() -> None:
    listener = Listener()
    listener.hear(0, 1)
    listener.hear(10, 50, node="n1", phase="evaluate")
    listener.hear(20, 51, node="n2")
    listener.hear(30, 60, node="n2")
    assert listener.hear(31, 50, node="n1", phase="evaluate") is None
    assert listener.track is not None
    assert listener.track.newest.phase == "train"


def test_overtaking_the_highest_step_is_a_row() -> None:
    listener = Listener()
    listener.hear(0, 0)
    train(listener, 0, 100, 0)
    listener.hear(120, 403, attempt=1)
    train(listener, 120, 1000, 403, attempt=1)
    assert kept(listener)[2:] == [
        (120, 403, "start"), (139, 498, ""), (140, 503, "overtake"), (1120, 5403, ""),
    ]  # fmt: skip
    made = account(listener.history(now=1120))
    assert made is not None
    assert abs(made.seconds()[Phase.RECOMPUTE] - 19.4) < 0.01


def test_a_checkpoint_that_becomes_safe_is_no_step() -> None:
    listener = Listener()
    listener.hear(0, 0)
    train(listener, 0, 100, 0)
    listener.hear(130, 500, moved_at=100, checkpoint=450)
    (last,) = list(listener.rows.values())[1:]
    assert (last.at, last.step, last.checkpoint_step) == (100, 500, 450)


def test_a_job_is_seen_before_its_first_step() -> None:
    listener = Listener()
    listener.hear(0, None, phase="init")
    assert listener.hear(5, None, phase="init") is None
    listener.hear(30, 1)
    listener.hear(60, None, phase="init", attempt=1)
    listener.hear(90, 1, attempt=1)
    assert kept(listener) == [(0, None, "start"), (30, 1, ""), (60, None, "start"), (90, 1, "")]


@pytest.mark.parametrize(
    ("phase", "pause"),
    [
        ("train", None), ("step", None), (None, None), ("done", None), ("checkpoint", "checkpoint"),
        ("save_state", "checkpoint"), ("evaluate", "other"), ("warmup", "other"),
    ],
)  # fmt: skip
def test_which_phases_are_pauses(phase: str | None, pause: str | None) -> None:
    assert pause_of(phase) == pause


REPORTS = st.lists(
    st.tuples(
        st.floats(0.01, 40),  # after the report before
        st.none() | st.integers(0, 200),
        st.sampled_from([None, "train", "checkpoint", "evaluate", "init", "done"]),
        st.sampled_from(["n1", "n2", "n3"]),
        st.integers(0, 2),
        st.floats(-60, 60),  # how long ago the step was made; clocks are wrong
    ),
    max_size=40,
)


@given(REPORTS)
@settings(max_examples=200, deadline=None)
def test_whatever_is_reported_rows_stay_in_order(reports) -> None:
    listener, at = Listener(), 1000.0
    for after, step, phase, node, attempt, ago in reports:
        at += after
        listener.hear(at, step, phase=phase, node=node, attempt=attempt, moved_at=at - ago)
        rows = list(listener.rows.values())
        times = [row.at for row in rows]
        assert times == sorted(times), "a row is never put before one that stays"
        assert times[-1] <= at
        assert rows[0].mark is Mark.START
        assert listener.track is not None
        assert listener.track.kept == rows[-1], "what is remembered is what is in the store"
        for before, after_ in pairwise(rows):
            if after_.mark is not Mark.START and before.step is not None:
                assert after_.step is not None
                assert after_.step >= before.step
            assert after_.checkpoint_seconds >= before.checkpoint_seconds
            assert after_.other_seconds >= before.other_seconds


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_the_few_rows_say_what_all_reports_would_have_said(seed: int) -> None:
    """A job with restarts and pauses, heard of every second; the truth is counted beside it."""
    rng = random.Random(seed)
    listener, at, step, highest, attempt = Listener(), 0.0, 0, 0, 0
    truth = dict.fromkeys(("again", "lost", "checkpoint"), 0.0)
    listener.hear(at, step)
    for _ in range(rng.randint(1, 6)):
        for _ in range(rng.randint(60, 400)):
            at += 1
            step += 4
            truth["again"] += step <= highest
            listener.hear(at, step, attempt=attempt)
            if step > highest and rng.random() < 0.02:
                listener.hear(at + 0.1, step, phase="checkpoint", attempt=attempt)
                at += 7.1
                truth["checkpoint"] += 7.0
                listener.hear(at, step, attempt=attempt)
        highest = max(highest, step)
        wait = rng.uniform(6, 300)
        at, step, attempt = at + wait, max(0, step - rng.randint(4, 200)), attempt + 1
        truth["lost"] += wait
        listener.hear(at, step, attempt=attempt)
    made = account(listener.history(now=at))
    assert made is not None
    spent = made.seconds()
    assert len(listener.rows) <= 5 * (attempt + 1)
    assert abs(spent[Phase.UNEXPLAINED] - truth["lost"]) < 0.1
    assert abs(spent[Phase.RECOMPUTE] - truth["again"]) < 2.0 * (attempt + 1)
    assert abs(spent[Phase.CHECKPOINT] - truth["checkpoint"]) < 0.5


@given(st.sets(st.integers(1, 299), max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_watchdog_that_was_restarted_tells_the_same(restarts: set[int]) -> None:
    """Nothing but rows is left of a track; each restart of the watchdog may cost one row more."""
    listener = Listener()
    listener.hear(0, 0)
    at, step, attempt = 0.0, 0, 0
    for second in range(1, 300):
        at, step = at + 1, step + 5
        if second == 150:  # a failure: 30 s without a step, 20 s to be computed again
            at, step, attempt = at + 29, step - 105, 1
        listener.hear(at, step, attempt=attempt)
        if second in restarts:
            last = max(listener.rows.values(), key=lambda row: row.at)
            known = [row.step for row in listener.rows.values() if row.step is not None]
            listener.track = resume(last, max(known))
    made = account(listener.history(now=at))
    assert made is not None
    spent = made.seconds()
    assert len(listener.rows) <= 6 + 2 * len(restarts)
    assert abs(spent[Phase.UNEXPLAINED] - 30) < 2.1
    assert abs(spent[Phase.RECOMPUTE] - 20) < 2.1
