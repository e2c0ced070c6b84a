"""A rule that breaks costs its own scan: seen by a person, survived by the node."""

from __future__ import annotations

import pytest

from agent_story import Heat, a_chip, component
from chipmedic.metric import Metric
from chipmedic.model import HOST, Change, Cleared, Event, Raised, Reading, Scan, Updated
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.rule_wall import QUIET_SECONDS


class Brittle:
    """Breaks on one word."""

    name = "brittle"

    def start(self) -> int:
        return 0

    def step(self, state: int, scan: Scan) -> tuple[int, list[Change]]:
        if any(event.message == "poison" for event in scan.events):
            raise TypeError("a defect")
        return state + 1, []


def line(message: str, at: float) -> Scan:
    event = Event(component=HOST, code="kernel:x", message=message, at=at)
    return Scan(source="kernel_log", at=at, events=(event,))


def test_a_poisonous_line_is_told_once_and_the_others_judge(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = Pipeline([Brittle(), Heat()], boot_id="b")
    (raised,), _ = pipeline.consume(line("poison", 1.0), "b/7")
    assert isinstance(raised, Raised)
    fault = raised.fault
    assert (fault.kind, str(fault.component)) == ("collector.failed", "collector:rule/brittle")
    assert "TypeError: a defect" in fault.summary
    assert fault.evidence == ("poison",)
    assert pipeline.cursors["kernel_log"] == "b/7", "the line is passed and never judged again"
    assert pipeline.wall.defects == {"brittle": 1}
    assert caplog.text.count("Traceback") == 1

    chip = a_chip("A")
    hot = Reading(component("A"), Metric.TEMPERATURE, 95.0)
    changes, _ = pipeline.consume(Scan(source="acme", at=2.0, chips=(chip,), readings=(hot,)))
    assert [change.fault.kind for change in changes] == ["thermal.critical"]

    changes, _ = pipeline.consume(line("poison", 3.0))
    assert all(isinstance(change, Updated) for change in changes)
    assert caplog.text.count("Traceback") == 1, "the same defect is not logged again"


def test_it_ends_when_the_rule_has_worked_for_a_while() -> None:
    pipeline = Pipeline([Brittle()], boot_id="b")
    pipeline.consume(line("poison", 1.0))
    assert pipeline.consume(line("fine", 2.0))[0] == []
    (cleared,), _ = pipeline.consume(line("fine", 1.0 + QUIET_SECONDS))
    assert isinstance(cleared, Cleared)
    assert not pipeline.book.open()
