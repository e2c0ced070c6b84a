"""What holds of every detector, whatever the scans."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.detector import Detector
from chipmedic.faults.kinds import KINDS
from chipmedic.metric import Metric
from chipmedic.model import (
    EVIDENCE_MAX,
    HOST,
    Action,
    Chip,
    Cleared,
    Component,
    ComponentKind,
    Event,
    Fault,
    Gap,
    GapReason,
    JobStatus,
    Raised,
    Reading,
    Scan,
    Severity,
    Updated,
    chip_component,
    collector_component,
)
from chipmedic_agent.detectors import DetectorSettings, builtin_detectors
from chipmedic_agent.detectors.code_state import CodesState
from detector_story import CONVERTER, through_json
from fuzzing import examples

DETECTORS = builtin_detectors(DetectorSettings())

times = st.one_of(st.floats(min_value=0, max_value=4e9), st.integers(0, 400).map(float))
"""Any time, and times so near that rules about several events hold."""
words = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["pid=1, (GPC 2, TPC 4, SM 1)", "pid=2, (GPC 2, TPC 4, SM 1)"]),
)
components = st.sampled_from(
    [
        HOST,
        chip_component("GPU-1"),
        chip_component("GPU-2"),
        Component(ComponentKind.LINK, "GPU-1/0"),
        Component(ComponentKind.NIC, "mlx5_0/1"),
        Component(ComponentKind.PCI, "0000:3b:00.0"),
        Component(ComponentKind.DISK, "/"),
        collector_component("nvidia"),
        collector_component("rdma"),
    ]
)
codes = st.one_of(
    st.sampled_from(
        [
            "xid:79",
            "xid:48",
            "xid:45",
            "xid:154",
            "xid:94",
            "xid:31",
            "xid:99999",
            "xid:149",
            "ascend:80E01801",
            "ascend:80FA4E00",
            "ascend:81078603",
            "ascend:8C1F860B",
            "ascend:8C1F8609",
            "nvml:999",
            "agent:boot",
            "agent:forget",
            "sxid:20034",
            "kernel:host.oom",
        ]
    ),
    words,
)
readings = st.builds(
    Reading,
    components,
    st.sampled_from(Metric),
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([0.0, 1.0, 2.0, 15.0, 255.0, 65535.0]),
    ),
)
events = st.builds(
    Event,
    component=components,
    code=codes,
    message=words,
    at=times,
    id=st.one_of(st.just(""), words),
    kind=st.one_of(st.none(), st.sampled_from([*KINDS, "info"])),
    severity=st.one_of(st.none(), st.sampled_from(Severity)),
    action=st.one_of(st.none(), st.sampled_from(Action)),
    quiet_seconds=st.sampled_from([None, 20.0, 700.0]),
)
gaps = st.builds(
    Gap,
    components,
    st.one_of(st.none(), st.sampled_from(Metric)),
    st.sampled_from(GapReason),
    words,
)
jobs = st.builds(
    JobStatus,
    job=st.sampled_from(["slurm:1", "local:x", ""]),
    at=times,
    chips=st.lists(words, max_size=2).map(tuple),
    pids=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    step=st.one_of(st.none(), st.integers(0, 50)),
    step_at=st.one_of(st.none(), times),
    phase=st.one_of(st.none(), st.sampled_from(["train", "checkpoint", "done", "", "x"])),
    attempt=st.integers(0, 2),
    labels=st.dictionaries(
        st.sampled_from(["log_at", "gone_ranks", "longest_step_seconds", "behind"]), words
    ),
)
chips = st.builds(
    Chip,
    uid=st.sampled_from(["GPU-1", "GPU-2"]),
    vendor=st.sampled_from(["nvidia", "ascend"]),
    model=words,
    index=st.integers(0, 7),
)
scans = st.builds(
    Scan,
    source=st.sampled_from(["nvidia", "ascend", "kernel_log", "host", "rdma", "jobs", "agent"]),
    at=times,
    chips=st.lists(chips, max_size=2).map(tuple),
    readings=st.lists(readings, max_size=8).map(tuple),
    events=st.lists(events, max_size=4).map(tuple),
    gaps=st.lists(gaps, max_size=3).map(tuple),
    jobs=st.lists(jobs, max_size=2).map(tuple),
)
nights = st.lists(scans, max_size=8)


def test_names_are_unique() -> None:
    names = [detector.name for detector in DETECTORS]
    assert len(set(names)) == len(names)


def test_every_start_can_be_saved() -> None:
    for detector in DETECTORS:
        assert through_json(detector.start()) == detector.start()


@given(night=nights)
@settings(max_examples=examples(80))
def test_any_night_keeps_the_rules(night: list[Scan]) -> None:
    for detector in DETECTORS:
        check_night(detector, night)


def check_night(detector: Detector[Any], night: list[Scan]) -> None:
    """No crash; changes are possible in their order; states survive JSON; inputs stay as they
    were."""
    state = detector.start()
    open_: dict[tuple[Component, str], Fault] = {}
    for scan in night:
        before = CONVERTER.dumps(state)
        next_state, changes = detector.step(state, scan)
        assert CONVERTER.dumps(state) == before
        assert detector.step(through_json(state), scan) == (next_state, changes)
        state = next_state
        for change in changes:
            fault = change.fault
            assert fault.kind in KINDS
            assert fault.summary
            assert len(fault.evidence) <= EVIDENCE_MAX
            match change:
                case Raised():
                    assert fault.key not in open_
                    open_[fault.key] = fault
                case Updated():
                    assert fault.key in open_
                    assert fault.since == open_[fault.key].since
                    open_[fault.key] = fault
                case Cleared():
                    assert open_.pop(fault.key) == fault


@given(night=nights, source=st.sampled_from(["x", "pcie", "kernel_log"]))
@settings(max_examples=examples(40))
def test_a_scan_that_says_nothing_raises_nothing(night: list[Scan], source: str) -> None:
    for detector in DETECTORS:
        state = detector.start()
        for scan in night:
            state, _ = detector.step(state, scan)
        if isinstance(state, CodesState) and state.pending:
            continue  # a rule that waits for its hold is judged by time alone
        _, changes = detector.step(state, Scan(source=source, at=4e9))
        raised = {change.fault.kind for change in changes if isinstance(change, Raised)}
        assert raised <= {"driver.fault"}  # a source that has been stuck is judged by time alone
