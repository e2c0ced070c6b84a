"""Where the time of a job went: the stories, and what must hold for every one of them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic_watchdog.intake.progress import Mark
from chipmedic_watchdog.ledger.account import account
from chipmedic_watchdog.ledger.history import History
from chipmedic_watchdog.ledger.phases import Phase
from ledger_histories import HISTORIES
from ledger_story import again, history, incident, isolate, restart, row, told

STEADY = (row(0, 0, mark=Mark.START), row(100, 100))
FAILED = (*STEADY, again(112, 91, 1), row(121, 100, 1), row(131, 110, 1))
"""Step 100 at 100 s; a new start is at step 91 at 112 s, at 100 again at 121 s."""
CHIP = incident("chip", 101, resolved_at=130)
ACTS = (isolate("chip", "n1", 102, 103), restart("chip", 104, 110))


def test_all_five_stages_of_a_loss_follow_one_another() -> None:
    made = account(history(*FAILED, now=131, incidents=[CHIP], acts=ACTS))
    assert told(made) == (
        "productive@0-100 detect@100-101(chip) decide@101-102(chip) isolate@102-104(chip) "
        "restart@104-112(chip) recompute@112-121(chip) productive@121-131"
    )
    assert made is not None
    assert [i.detail for i in made.lost] == ["", "", "n1", "", "steps 91 to 100"]
    assert made.effective_ratio == 110 / 131
    assert (made.starts, made.highest_step, made.is_over) == (2, 110, False)


@pytest.mark.parametrize(
    ("incidents", "acts", "story"),
    [
        pytest.param([], [], "unexplained@100-112 recompute@112-121", id="nobody knows why"),
        pytest.param(
            [CHIP], [], "detect@100-101(chip) decide@101-112(chip) recompute@112-121(chip)",
            id="a person acts, until it steps again it is decision",
        ),
        pytest.param(
            [incident("hang", 105)], [restart("hang", 106, 107)],
            "detect@100-105(hang) decide@105-106(hang) restart@106-112(hang) "
            "recompute@112-121(hang)",
            id="a restart without an isolation",
        ),
        pytest.param(
            [incident("warned", 50)], [isolate("warned", "n1", 60, 61), restart("warned", 98, 99.5),
                                        restart("warned", 99, 110)],
            "detect@100-100(warned) decide@100-100(warned) restart@100-112(warned) "
            "recompute@112-121(warned)",
            id="known before the job stood still: nothing to detect, nothing to decide",
        ),
        pytest.param(
            [incident("light", 20, severity=2)], [],
            "unexplained@100-112 recompute@112-121", id="an old warning explains no standstill",
        ),
        pytest.param(
            [incident("over", 10, resolved_at=99)], [],
            "unexplained@100-112 recompute@112-121", id="what was resolved before explains nothing",
        ),
        pytest.param(
            [incident("other", 101), CHIP], [restart("other", 102, 103, job="slurm:8"), *ACTS],
            "detect@100-101(chip) decide@101-102(chip) isolate@102-104(chip) "
            "restart@104-112(chip) recompute@112-121(chip)",
            id="the incident that restarted this job explains, not its neighbour",
        ),
        pytest.param(
            [incident("again", 40, 103)], [restart("again", 104, 105)],
            "detect@100-103(again) decide@103-104(again) restart@104-112(again) "
            "recompute@112-121(again)",
            id="an incident that was opened again counts from its newest fault",
        ),
        pytest.param(
            [incident("one", 101), incident("two", 106)],
            [restart("one", 102, 105), isolate("two", "n2", 107, 108), restart("two", 108, 111)],
            "detect@100-101(one) decide@101-102(one) restart@102-106(one) decide@106-107(two) "
            "isolate@107-108(two) restart@108-112(two) recompute@112-121(two)",
            id="the first restart failed on a second bad node",
        ),
    ],
)  # fmt: skip
def test_what_explains_a_wait(incidents: list, acts: list, story: str) -> None:
    made = account(history(*FAILED, now=131, incidents=incidents, acts=acts))
    assert told(made) == f"productive@0-100 {story} productive@121-131"


def test_a_second_start_is_seen_before_its_first_step() -> None:
    rows = (*STEADY, again(105, None, 1), row(112, 91, 1), row(131, 110, 1))
    assert told(account(history(*rows, now=131))) == (
        "productive@0-100 unexplained@100-105 restart@105-112 recompute@112-121 productive@121-131"
    )
    by_hand = account(history(*rows, now=131, incidents=[CHIP]))
    assert "decide@101-105(chip) restart@105-112(chip)" in told(by_hand)


def test_the_first_start_has_no_step_for_a_while() -> None:
    rows = (row(0, None, phase="init", mark=Mark.START), row(40, 1), row(100, 61))
    made = account(history(*rows, now=101))
    assert told(made) == "start@0-40 productive@40-100 productive@100-101+"
    assert made is not None
    assert made.effective_ratio == 61 / 101


def test_a_start_that_fails_before_its_first_step_is_no_start() -> None:
    rows = (row(0, None, mark=Mark.START), again(20, None, 1), row(30, 1, 1), row(60, 31, 1))
    made = account(
        history(*rows, now=60, incidents=[incident("a", 9)], acts=[restart("a", 12, 15)])
    )
    assert told(made) == (
        "start@0-9 detect@9-9(a) decide@9-12(a) restart@12-30(a) productive@30-60"
    )


def test_a_job_that_tells_no_step_is_unknown_not_ineffective() -> None:
    made = account(history(row(0, None, mark=Mark.START), now=500))
    assert made is not None
    assert made.effective_ratio is None
    assert account(history(now=500)) is None


def test_pauses_are_no_loss_wherever_they_fell() -> None:
    rows = (
        row(0, 0, mark=Mark.START),
        row(100, 80, checkpoint_seconds=15.0, other_seconds=5.0),
        row(103, 80, phase="checkpoint", checkpoint_seconds=15.0, other_seconds=5.0),
        row(113, 80, checkpoint_seconds=25.0, other_seconds=5.0),
    )
    made = account(history(*rows, now=113))
    assert told(made) == "productive@0-100 productive@100-103 checkpoint@103-113"
    assert made is not None
    spent = made.seconds()
    assert (spent[Phase.PRODUCTIVE], spent[Phase.CHECKPOINT], spent[Phase.OTHER]) == (83, 25, 5)
    assert made.lost == ()


def test_a_stall_without_a_restart_costs_all_but_the_steps_after_it() -> None:
    rows = (*STEADY, row(160, 110, mark=Mark.STALL), row(170, 120))
    assert told(account(history(*rows, now=170))) == (
        "productive@0-100 unexplained@100-150 productive@150-160 productive@160-170"
    )
    hung = account(history(*rows, now=170, incidents=[incident("hang", 130)]))
    assert "detect@100-130(hang) decide@130-150(hang) productive@150-160" in told(hung)


def test_a_second_failure_during_the_recomputation() -> None:
    rows = (*STEADY, again(110, 81, 1), row(120, 91, 1), again(130, 81, 2), row(160, 111, 2))
    made = account(history(*rows, now=160, incidents=[CHIP], acts=[restart("chip", 102, 103)]))
    assert told(made) == (
        "productive@0-100 detect@100-101(chip) decide@101-102(chip) restart@102-110(chip) "
        "recompute@110-120(chip) detect@120-120(chip) decide@120-130(chip) "
        "recompute@130-149(chip) productive@149-160"
    )


@pytest.mark.parametrize(
    ("now", "incidents", "acts", "tail"),
    [
        pytest.param(110, [], [], "productive@100-110+", id="the next report is under way"),
        pytest.param(119, [], [], "unexplained@100-119+", id="silent for too long"),
        pytest.param(102, [CHIP], [], "productive@100-102+", id="an incident, but it may step"),
        pytest.param(
            108, [CHIP], [], "detect@100-101(chip) decide@101-108+(chip)", id="it does not step"
        ),
        pytest.param(
            103.5, [CHIP], [isolate("chip", "n1", 102, None)], "productive@100-103.5+",
            id="isolated; it may still step",
        ),
        pytest.param(
            108, [CHIP], [isolate("chip", "n1", 102, None)],
            "detect@100-101(chip) decide@101-102(chip) isolate@102-108+(chip)", id="isolating",
        ),
        pytest.param(
            105, [CHIP], [isolate("chip", "n1", 102, 103), restart("chip", 104, None)],
            "detect@100-101(chip) decide@101-102(chip) isolate@102-104(chip) "
            "restart@104-105+(chip)",
            id="restarting",
        ),
    ],
)  # fmt: skip
def test_the_present_is_judged_with_care(now: float, incidents, acts, tail: str) -> None:
    made = account(history(*STEADY, now=now, incidents=incidents, acts=acts))
    assert told(made) == f"productive@0-100 {tail}"


def test_the_present_of_a_recomputation_and_of_a_pause() -> None:
    rows = (*STEADY, again(112, 91, 1), row(115, 94, 1))
    assert told(account(history(*rows, now=117))).endswith("recompute@112-117+")
    saving = (*STEADY, row(101, 100, phase="checkpoint"))
    assert told(account(history(*saving, now=200))).endswith("checkpoint@101-200+")
    stuck = history(*saving, now=200, incidents=[incident("disk", 180)])
    assert told(account(stuck)).endswith("detect@101-180(disk) decide@180-200+(disk)")


@pytest.mark.parametrize("is_told", [True, False])
def test_a_job_that_is_over_loses_nothing_more(is_told: bool) -> None:
    rows = (*STEADY, row(101, 100, phase="done" if is_told else "train"))
    made = account(history(*rows, now=90_000, is_over=not is_told))
    assert made is not None
    assert (made.end_at, made.is_over, made.lost) == (101, True, ())


# Whatever happened: the account has no hole, no overlap and no second too many.


@given(HISTORIES)
@settings(max_examples=200, deadline=None)
def test_every_account_adds_up_exactly(given_history: History) -> None:
    made = account(given_history)
    if made is None:
        assert all(row.at > given_history.now for row in given_history.rows)
        return
    edges = [made.began_at, *(i.end_at for i in made.intervals)]
    assert [i.start_at for i in made.intervals] == edges[:-1], "a hole or an overlap"
    assert edges[-1] == made.end_at
    assert all(i.seconds >= 0 for i in made.intervals)
    spent = made.seconds()
    assert min(spent.values()) >= 0
    assert sum(spent.values()) == made.wall_seconds, "to the last bit, in any order"
    assert math.fsum(reversed(spent.values())) == made.wall_seconds
    assert not any(i.is_open for i in made.intervals[:-1])
    known = {incident.id for incident in given_history.incidents}
    assert {i.incident for i in made.intervals} <= {None, *known}


@given(HISTORIES, st.floats(0.001, 5_000))
@settings(max_examples=100, deadline=None)
def test_time_that_passes_changes_only_the_end(given_history: History, later: float) -> None:
    """What lies before the last row does not depend on when it is asked, if nothing new came."""
    given_history = replace(given_history, acts=(), incidents=())
    first = account(given_history)
    rows = tuple(row for row in given_history.rows if row.at <= given_history.now)
    second = account(replace(given_history, rows=rows, now=given_history.now + later))
    if first is None or second is None:
        assert first is second
        return
    closed = [i for i in first.intervals if not i.is_open]
    for before, after in zip(closed, second.intervals, strict=False):
        if before != after:
            # A last stage may grow into the present: recomputation does.
            assert (before.phase, before.start_at) == (after.phase, after.start_at)
    for one, two in pairwise(second.intervals):
        assert one.end_at == two.start_at
