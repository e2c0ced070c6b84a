"""Unknown is never ok."""

from __future__ import annotations

import pytest

from agent_story import a_chip, component
from chipmedic.metric import Metric
from chipmedic.model import (
    Event,
    Gap,
    GapReason,
    Reading,
    Scan,
    Verdict,
    collector_component,
)
from chipmedic_agent.coverage import judge, look_at

A, B = component("A"), component("B")
WARM = Reading(A, Metric.TEMPERATURE, 40.0)
HERE = Reading(A, Metric.PRESENT, 1.0)
GONE = Reading(B, Metric.PRESENT, 0.0)
DARK = Gap(B, None, GapReason.FAILED, "no handle")
BLOCKED = Gap(collector_component("acme"), None, GapReason.TIMED_OUT, "no answer in 10 s")
LINE = Event(component=A, code="xid:13", message="a line", at=0.0)


def scan(**parts: object) -> Scan:
    return Scan(source="acme", at=100.0, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "is_open", "verdict"),
    [
        (scan(), False, Verdict.OK),  # a log without a new line was looked at
        (scan(readings=(WARM,)), False, Verdict.OK),
        (scan(readings=(WARM,)), True, Verdict.FAULT),
        (scan(gaps=(BLOCKED,)), False, Verdict.UNKNOWN),
        (scan(gaps=(BLOCKED,)), True, Verdict.UNKNOWN),
        (scan(readings=(WARM,), gaps=(DARK,)), False, Verdict.UNKNOWN),
        (scan(readings=(WARM,), gaps=(DARK,)), True, Verdict.FAULT),
        (scan(chips=(a_chip("B"),), gaps=(DARK,)), False, Verdict.UNKNOWN),
        (scan(events=(LINE,), gaps=(BLOCKED,)), False, Verdict.UNKNOWN),
        (scan(gaps=(Gap(B, None, GapReason.UNSUPPORTED),)), False, Verdict.OK),
        (scan(gaps=(Gap(B, Metric.POWER, GapReason.DENIED),)), False, Verdict.UNKNOWN),
        (scan(readings=(WARM,), gaps=(Gap(B, Metric.POWER, GapReason.DENIED),)), False, Verdict.OK),
        (
            scan(readings=(HERE,), gaps=(Gap(A, Metric.POWER, GapReason.DENIED),)),
            False,
            Verdict.UNKNOWN,
        ),
        (scan(readings=(HERE,)), False, Verdict.OK),
        (scan(readings=(GONE,), gaps=(DARK,)), True, Verdict.FAULT),
    ],
)
def test_verdict(what: Scan, is_open: bool, verdict: Verdict) -> None:
    coverage = judge("acme", look_at(what), now=101.0, period_seconds=5.0, is_open=is_open)
    assert coverage.verdict is verdict
    assert coverage.detail or verdict is not Verdict.UNKNOWN


def test_a_frozen_check_is_unknown_after_three_periods() -> None:
    look = look_at(scan(readings=(WARM,)))
    assert judge("a", look, now=115.0, period_seconds=5.0, is_open=True).verdict is Verdict.FAULT
    late = judge("a", look, now=115.1, period_seconds=5.0, is_open=True)
    assert (late.verdict, late.detail) == (Verdict.UNKNOWN, "last looked 15 s ago")
