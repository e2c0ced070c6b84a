"""A job that comes back to a node which it was told to leave is told; one that stays away not."""

from __future__ import annotations

import pytest

from chipmedic.model import Gap, GapReason, JobStatus, Scan, Severity, collector_component
from detector_story import detector, first, run, words

BACK = {"returned": "pid 4711"}


def looks(*labels: dict[str, str] | None) -> list[Scan]:
    """One look at the job each two seconds; None: it is not there."""
    return [
        Scan(
            source="jobs",
            at=2.0 * number,
            jobs=()
            if each is None
            else (JobStatus(job="torchrun:a", at=2.0 * number, pids=(4711,), labels=each),),
        )
        for number, each in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("labels", "story"),
    [
        ([{}, {}, {}], ""),
        ([{}, None, {}], ""),  # it left and is let in again
        ([{}, BACK, BACK], "raised@2"),
        ([{}, BACK, {}], "raised@2 cleared@4"),
        ([BACK, None], "raised@0 cleared@2"),
    ],
)
def test_story(labels: list[dict[str, str] | None], story: str) -> None:
    assert words(run(detector("returned"), looks(*labels))) == story


def test_a_look_that_failed_ends_nothing() -> None:
    gap = Gap(collector_component("jobs"), None, GapReason.TIMED_OUT, "no answer")
    blind = Scan(source="jobs", at=2.0, gaps=(gap,))
    assert words(run(detector("returned"), [*looks(BACK), blind])) == "raised@0"


def test_it_names_the_processes_and_asks_for_no_hardware() -> None:
    fault = first(run(detector("returned"), looks(BACK)))
    assert fault.severity is Severity.CRITICAL
    assert fault.action.value == "check_app"
    assert fault.evidence == ("processes that began since: pid 4711",)
    assert fault.job == "torchrun:a"
