"""The fault book: one fault per (component, kind), held by whoever sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_story import a_fault
from chipmedic.model import (
    EVIDENCE_MAX,
    Action,
    Change,
    Cleared,
    Raised,
    Severity,
    Updated,
)
from chipmedic_agent.fault_book import REPEAT_SECONDS, FaultBook

FAULT = a_fault(kind="chip.lost")


def told(changes: list[Change]) -> str:
    return " ".join(type(change).__name__.lower() for change in changes)


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        # Who says what, one word per second: R raise, U update, C clear; a and b are detectors.
        ("aR", "raised"),
        ("aR aC", "raised cleared"),
        ("aR bR aC", "raised"),
        ("aR bR aC bC", "raised cleared"),
        ("aR bR bC aC", "raised cleared"),
        ("aR bC", "raised"),
        ("aC", ""),
        ("aR aC aC", "raised cleared"),
        ("aR aC aR", "raised cleared raised"),
        ("aR aR aR", "raised"),
        ("aU", "raised"),
        ("aR aU aU aC", "raised cleared"),
    ],
)
def test_story(story: str, expected: str) -> None:
    book = FaultBook()
    changes: list[Change] = []
    for at, (detector, verb) in enumerate(story.split()):
        change: Change = {"R": Raised(FAULT), "U": Updated(FAULT), "C": Cleared(FAULT, at)}[verb]
        changes += book.apply(detector, [change], float(at))
    assert told(changes) == expected


def test_a_second_witness_adds_its_code_and_is_told_at_once() -> None:
    book = FaultBook()
    book.apply("log", [Raised(a_fault(codes=("xid:48",), evidence=("log line",)))], 1.0)
    (change,) = book.apply(
        "nvml", [Raised(a_fault(codes=("nvml:48",), evidence=("from NVML",)))], 2.0
    )
    assert isinstance(change, Updated)
    assert change.fault.codes == ("xid:48", "nvml:48")
    assert change.fault.evidence == ("log line", "from NVML")
    assert change.fault.count == 2


def test_the_worse_severity_brings_its_own_action_and_summary() -> None:
    book = FaultBook()
    mild = a_fault(severity=Severity.WARNING, action=Action.REPLACE_CHIP)
    book.apply("a", [Raised(mild)], 1.0)
    worse = a_fault(severity=Severity.CRITICAL, action=Action.RESET_CHIP)
    (change,) = book.apply("b", [Raised(worse)], 2.0)
    assert (change.fault.severity, change.fault.action) == (Severity.CRITICAL, Action.RESET_CHIP)


def test_the_last_word_of_the_only_holder_counts_and_of_two_the_worse() -> None:
    """The driver asked for a reset, and now for less: nobody may reset the chip any more."""
    book = FaultBook()
    worse = a_fault(severity=Severity.CRITICAL, action=Action.RESET_CHIP)
    mild = a_fault(severity=Severity.WARNING, action=Action.RESTART_JOB)
    book.apply("a", [Raised(worse)], 1.0)
    (change,) = book.apply("a", [Updated(mild)], 2.0)
    assert isinstance(change, Updated)
    told = change.fault
    assert (told.severity, told.action) == (mild.severity, mild.action)
    book.apply("b", [Raised(worse)], 3.0)
    book.apply("a", [Updated(mild)], 4.0)
    (fault,) = book.open()
    assert (fault.severity, fault.action) == (worse.severity, worse.action)


def test_repeats_are_told_every_thirty_seconds_and_counted() -> None:
    book = FaultBook()
    times = []
    for second in range(100):
        fault = a_fault(count=second + 1)
        changes = book.apply("a", [Updated(fault)], float(second))
        changes += book.repeats_due(float(second))
        times += [(second, change.fault.count) for change in changes]
    assert times == [(0, 1), (30, 31), (60, 61), (90, 91)]


def test_a_repeat_is_told_in_the_end_though_nothing_follows() -> None:
    book = FaultBook()
    book.apply("a", [Raised(FAULT)], 0.0)
    assert book.apply("a", [Raised(FAULT)], 1.0) == []
    assert book.repeats_due(REPEAT_SECONDS - 1) == []
    (change,) = book.repeats_due(REPEAT_SECONDS)
    assert change.fault.count == 2
    assert book.repeats_due(10 * REPEAT_SECONDS) == []


def test_a_clock_that_was_set_back_holds_no_repeat_back_for_ever() -> None:
    book = FaultBook()
    book.apply("a", [Raised(FAULT)], 1e9)
    book.apply("a", [Raised(FAULT)], 1e9 + 1)
    assert told(book.repeats_due(5.0)) == "updated"


def test_evidence_keeps_the_first_and_the_newest_lines() -> None:
    book = FaultBook()
    for number in range(40):
        book.apply("a", [Updated(a_fault(evidence=(f"line {number}",)))], 0.0)
    (fault,) = book.open()
    assert len(fault.evidence) == EVIDENCE_MAX
    assert fault.evidence[0] == "line 0"
    assert fault.evidence[-1] == "line 39"


def test_counts_of_a_holder_that_let_go_are_kept() -> None:
    book = FaultBook()
    book.apply("a", [Raised(a_fault(count=3))], 0.0)
    book.apply("b", [Raised(a_fault(count=2))], 0.0)
    book.apply("a", [Cleared(a_fault(count=3), 1.0)], 1.0)
    book.apply("b", [Updated(a_fault(count=4))], 2.0)
    assert book.open()[0].count == 7


# -- orphans: faults whose detector lost its memory


def orphaned(severity: Severity) -> FaultBook:
    book = FaultBook()
    book.apply("old", [Raised(a_fault(severity=severity))], 0.0)
    book.disown_all_but(["new"], 10.0)
    return book


def test_an_orphaned_warning_ends_when_its_check_looks_and_sees_nothing() -> None:
    book = orphaned(Severity.WARNING)
    assert book.expire_orphans(500.0, lambda _: True) == []
    assert book.expire_orphans(700.0, lambda _: False) == [], "a blind check proves nothing"
    assert told(book.expire_orphans(700.0, lambda _: True)) == "cleared"


def test_an_orphaned_critical_fault_waits_for_a_boot() -> None:
    book = orphaned(Severity.CRITICAL)
    assert book.expire_orphans(1e9, lambda _: True) == []
    assert told(book.rebooted(1e9)) == "cleared"


def test_a_detector_that_sees_an_orphan_again_adopts_and_clears_it() -> None:
    book = orphaned(Severity.CRITICAL)
    assert told(book.apply("new", [Raised(a_fault())], 20.0)) == ""
    assert told(book.apply("new", [Cleared(a_fault(), 30.0)], 30.0)) == "cleared"


# -- properties

CHANGES = st.tuples(st.sampled_from("abc"), st.sampled_from("RUC"), st.sampled_from([0, 1, 2]))


@given(st.lists(CHANGES, max_size=60))
def test_what_was_told_adds_up_to_what_is_open(steps: list[tuple[str, str, int]]) -> None:
    book = FaultBook()
    open_at_watchdog: set[tuple[object, str]] = set()
    holds: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    for at, (detector, verb, chip) in enumerate(steps):
        fault = a_fault(f"chip:NPU-{chip}")
        change: Change = {"R": Raised(fault), "U": Updated(fault), "C": Cleared(fault, at)}[verb]
        for one in book.apply(detector, [change], float(at)):
            match one:
                case Raised(raised):
                    assert raised.key not in open_at_watchdog
                    open_at_watchdog.add(raised.key)
                case Updated(seen):
                    assert seen.key in open_at_watchdog
                case Cleared(gone, _, _):
                    open_at_watchdog.remove(gone.key)
        holds[chip] = holds[chip] - {detector} if verb == "C" else holds[chip] | {detector}
    assert open_at_watchdog == {fault.key for fault in book.open()}
    assert len(book.open()) == sum(1 for holders in holds.values() if holders)
    again = FaultBook(book.entries())
    assert again.open() == book.open()
