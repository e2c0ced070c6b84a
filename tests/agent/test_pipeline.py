"""The pipeline: a scan in, changes out, and nothing forgotten in between."""

from __future__ import annotations

from typing import Any

from agent_story import Heat, a_chip, a_fault, component, raised, records
from chipmedic.detector import Detector
from chipmedic.metric import Metric
from chipmedic.model import (
    Change,
    ChipProcess,
    Cleared,
    Component,
    Event,
    Gap,
    GapReason,
    JobStatus,
    Raised,
    Reading,
    Scan,
)
from chipmedic_agent.disk import Opened
from chipmedic_agent.pipeline import Pipeline

A = a_chip("A", 0, "0000:1a:00.0")


def a_pipeline(boot_id: str = "boot-1", *detectors: Detector[Any]) -> Pipeline:
    return Pipeline(detectors or [Heat()], boot_id=boot_id)


def heat(celsius: float, at: float, uid: str = "A") -> Scan:
    reading = Reading(component(uid), Metric.TEMPERATURE, celsius)
    return Scan(source="acme", at=at, chips=(A,), readings=(reading,), is_inventory=True)


def restarted(
    pipeline: Pipeline, boot_id: str = "boot-1", now: float = 50.0
) -> tuple[Pipeline, list[Change]]:
    again = a_pipeline(boot_id)
    return again, again.restore(Opened(state=pipeline.remember()), (), now)


def test_a_fault_is_raised_and_cleared() -> None:
    pipeline = a_pipeline()
    (change,), _ = pipeline.consume(heat(95, 1.0))
    assert isinstance(change, Raised)
    assert pipeline.is_open_for("acme")
    (change,), _ = pipeline.consume(heat(40, 2.0))
    assert isinstance(change, Cleared)
    assert not pipeline.is_open_for("acme")


def test_a_restart_neither_forgets_nor_repeats() -> None:
    pipeline = a_pipeline()
    pipeline.consume(heat(95, 1.0))
    again, told = restarted(pipeline)
    assert told == []
    assert again.consume(heat(95, 51.0)) == ([], False)
    assert again.book.open() == pipeline.book.open()
    assert again.inventory.known() == pipeline.inventory.known() or again.inventory.has_source(
        "acme"
    )
    (change,), _ = again.consume(heat(40, 52.0))
    assert isinstance(change, Cleared)


def test_a_quiet_scan_needs_no_saving() -> None:
    pipeline = a_pipeline()
    pipeline.consume(heat(40, 1.0))
    assert pipeline.consume(heat(40, 2.0)) == ([], False)
    assert pipeline.consume(heat(40, 3.0), "cursor-2") == ([], True)
    assert pipeline.consume(heat(40, 4.0), "cursor-2") == ([], False)


class Listener:
    """Keeps the codes that it sees."""

    name = "listener"

    def __init__(self) -> None:
        self.codes: list[str] = []

    def start(self) -> int:
        return 0

    def step(self, state: int, scan: Scan) -> tuple[int, list[Change]]:
        self.codes += [f"{event.code} {event.component}" for event in scan.events]
        return state, []


class Counter(Listener):
    """Counts the scans that reach it, by source."""

    def step(self, state: int, scan: Scan) -> tuple[int, list[Change]]:
        self.codes.append(f"{scan.source}@{scan.at:g}")
        return state, []


def test_empty_scans_reach_the_detectors_as_a_clock_and_as_an_end() -> None:
    counter = Counter()
    pipeline = a_pipeline("boot-1", counter)
    trouble = Gap(component("A"), None, GapReason.FAILED)
    for at in range(5):
        pipeline.consume(Scan(source="log", at=float(at)))
    pipeline.consume(Scan(source="log", at=4.2, gaps=(trouble,)))
    pipeline.consume(Scan(source="log", at=4.4))
    pipeline.consume(Scan(source="log", at=4.6))
    pipeline.consume(Scan(source="other", at=4.8))
    pipeline.consume(Scan(source="log", at=1.0))
    assert counter.codes == [
        *("log@0", "log@2", "log@4"),  # the clock
        *("log@4.2", "log@4.4"),  # a trouble and its end
        "other@4.8",  # the first of a source
        "log@1",  # the clock was set back
    ]


def test_detectors_hear_of_a_boot_once_and_not_at_the_first_start() -> None:
    first = Listener()
    pipeline = a_pipeline("boot-1", first)
    pipeline.restore(Opened(state=None), (), 0.0)
    assert first.codes == []
    for boot, expected in (("boot-1", []), ("boot-2", ["agent:boot host"])):
        later = Listener()
        a_pipeline(boot, later).restore(Opened(state=pipeline.remember()), (), 1.0)
        assert later.codes == expected


def test_a_fault_whose_detector_is_gone_ends_with_the_next_boot() -> None:
    pipeline = a_pipeline()
    pipeline.consume(heat(95, 1.0))
    state = pipeline.remember()
    other = Pipeline([Heat(name="other")], boot_id="boot-1")
    assert other.restore(Opened(state=state), (), 2.0) == []
    assert len(other.book.open()) == 1
    rebooted = Pipeline([Heat(name="other")], boot_id="boot-2")
    (change,) = rebooted.restore(Opened(state=other.remember()), (), 3.0)
    assert isinstance(change, Cleared)
    assert change.reason == "rebooted"


def test_events_without_a_state_are_replayed_into_the_book() -> None:
    pipeline = a_pipeline()
    replay = tuple(records([raised(1), raised(2), Cleared(a_fault("chip:NPU-1"), 3.0)]))
    assert pipeline.restore(Opened(state=None, replay=replay), (), 9.0) == []
    assert [fault.component.name for fault in pipeline.book.open()] == ["NPU-2"]


def test_a_replaced_chip_takes_its_faults_along() -> None:
    pipeline = a_pipeline()
    pipeline.consume(heat(95, 1.0))
    newcomer = a_chip("B", 0, "0000:1a:00.0")
    (change,), _ = pipeline.consume(
        Scan(source="acme", at=2.0, chips=(newcomer,), is_inventory=True)
    )
    assert isinstance(change, Cleared)
    assert change.reason == "its place is taken by B"


def test_detectors_hear_of_a_forgotten_chip() -> None:
    listener = Listener()
    pipeline = a_pipeline("boot-1", Heat(), listener)
    pipeline.consume(heat(95, 1.0))
    (change,) = pipeline.forget(["A"], 2.0)
    assert isinstance(change, Cleared)
    assert listener.codes == ["agent:forget chip:A"]


def test_new_thresholds_keep_the_states() -> None:
    pipeline = a_pipeline()
    pipeline.consume(heat(95, 1.0))
    pipeline.retune([Heat(limit_celsius=99.0)])
    (change,), _ = pipeline.consume(heat(95, 2.0))
    assert isinstance(change, Cleared)


def test_an_event_at_a_pci_address_reaches_the_chip() -> None:
    listener = Listener()
    pipeline = a_pipeline("boot-1", listener)
    pipeline.consume(heat(40, 1.0))
    event = Event(component=Component.parse("pci:0000:1a:00"), code="x:1", message="m", at=2.0)
    pipeline.consume(Scan(source="kernel_log", at=2.0, events=(event,)))
    assert listener.codes == ["x:1 chip:A"]


def test_processes_count_for_a_minute_after_they_were_named() -> None:
    pipeline = a_pipeline()
    process = ChipProcess("A", 4711)
    pipeline.consume(Scan(source="acme", at=1.0, processes=(process,)))
    pipeline.consume(Scan(source="acme", at=6.0))
    assert pipeline.processes(30.0) == [process]
    assert pipeline.processes(90.0) == []


def test_jobs_are_those_of_the_source_jobs() -> None:
    pipeline = a_pipeline()
    job = JobStatus(job="slurm:7", at=1.0)
    pipeline.consume(Scan(source="jobs", at=1.0, jobs=(job,)))
    pipeline.consume(heat(40, 2.0))
    assert pipeline.jobs == (job,)
