"""The wire: what is sent is what arrives, and what nobody can mean never crashes the receiver."""

from __future__ import annotations

import math

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.faults.kinds import KINDS
from chipmedic.model import (
    Action,
    Change,
    Chip,
    Cleared,
    Component,
    ComponentKind,
    Coverage,
    Fault,
    JobStatus,
    Raised,
    Severity,
    Updated,
    Verdict,
)
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
NAME = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=30)
TIME = st.floats(min_value=0.001, max_value=4e9)
COUNT = st.integers(min_value=0, max_value=2**31 - 1)

COMPONENTS = st.builds(Component, st.sampled_from(ComponentKind), NAME)
FAULTS = st.builds(
    Fault,
    component=COMPONENTS,
    kind=st.sampled_from(sorted(KINDS)),
    severity=st.sampled_from(Severity),
    action=st.sampled_from(Action),
    since=TIME,
    summary=TEXT,
    source=NAME,
    codes=st.lists(NAME, max_size=4).map(tuple),
    evidence=st.lists(TEXT, max_size=4).map(tuple),
    count=st.integers(min_value=1, max_value=2**31 - 1),
    job=st.none() | NAME,
)
CHIPS = st.builds(
    Chip,
    uid=NAME,
    vendor=NAME,
    model=TEXT,
    index=COUNT,
    die=COUNT,
    serial=st.none() | NAME,
    pci=st.none() | NAME,
)
JOBS = st.builds(
    JobStatus,
    job=NAME,
    at=TIME,
    chips=st.lists(NAME, max_size=3).map(tuple),
    pids=st.lists(COUNT, max_size=3).map(tuple),
    ranks=st.lists(COUNT, max_size=3).map(tuple),
    step=st.none() | COUNT,
    step_at=st.none() | TIME,
    phase=st.none() | NAME,
    checkpoint_step=st.none() | COUNT,
    attempt=COUNT,
    user=st.none() | NAME,
    name=st.none() | NAME,
    labels=st.dictionaries(NAME, TEXT, max_size=3),
)


@given(FAULTS)
def test_a_fault_arrives_as_it_was_sent(fault: Fault) -> None:
    assert codec.fault_from_message(codec.fault_to_message(fault)) == fault


@given(CHIPS)
def test_a_chip_arrives_as_it_was_sent(chip: Chip) -> None:
    assert codec.chip_from_message(codec.chip_to_message(chip)) == chip


@given(JOBS)
def test_a_job_arrives_as_it_was_sent(job: JobStatus) -> None:
    assert codec.job_from_message(codec.job_to_message(job)) == job


@given(NAME, TIME, st.sampled_from(Verdict), TEXT)
def test_a_verdict_arrives_as_it_was_sent(
    check: str, at: float, verdict: Verdict, detail: str
) -> None:
    coverage = Coverage(check, at, verdict, detail)
    assert codec.coverage_from_message(codec.coverage_to_message(coverage)) == coverage


@given(FAULTS, TIME, st.sampled_from([Raised, Updated]))
def test_a_transition_arrives_as_it_was_sent(
    fault: Fault, at: float, kind: type[Raised] | type[Updated]
) -> None:
    for change in (kind(fault), Cleared(fault, at, "rebooted")):
        message = codec.change_to_message(change, seq=7, at=at, boot_id="b")
        back: Change | None = codec.change_from_message(message)
        assert back == change


def test_what_a_later_version_says_is_read_with_caution() -> None:
    later = pb.Fault(component="host", kind="host.new", action="pray", since=1.0)
    later.severity = 9  # type: ignore[assignment]
    fault = codec.fault_from_message(later)
    assert (fault.severity, fault.action, fault.kind) == (
        Severity.CRITICAL,
        Action.NONE,
        "host.new",
    )
    assert codec.coverage_from_message(pb.Coverage(check="x")).verdict is Verdict.UNKNOWN
    assert codec.change_from_message(pb.Event(transition=9)) is None  # type: ignore[arg-type]


def test_a_null_character_never_reaches_the_store() -> None:
    fault = codec.fault_from_message(pb.Fault(component="host", kind="host.oom", summary="a\0b"))
    assert "\0" not in fault.summary


@pytest.mark.parametrize(
    "message",
    [
        pb.Fault(component="host", since=1.0),
        pb.Fault(component="nonsense:x", kind="host.oom", since=1.0),
        pb.Fault(component="host", kind="host.oom", since=float("nan")),
        pb.Fault(component="host", kind="host.oom", since=float("inf")),
        pb.Fault(component="host", kind="host.oom", since=-1.0),
    ],
)
def test_what_no_version_can_mean_is_a_value_error(message: pb.Fault) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.fault_from_message(message)


SENT = st.builds(
    codec.change_to_message, st.builds(Raised, FAULTS), seq=COUNT, at=TIME, boot_id=NAME
)


@given(st.binary(max_size=300) | SENT.map(pb.Event.SerializeToString), st.data())
def test_any_input_is_an_error_or_what_can_be_sent_on(data: bytes, draw: st.DataObject) -> None:
    """One byte of it is wrong: what is still read of it means the same when it is sent again."""
    damaged = bytearray(data)
    if damaged:
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        event = pb.Event.FromString(bytes(damaged))
        change = codec.change_from_message(event)
    except (DecodeError, ValueError):
        return
    if change is None:
        return
    assert 0 <= change.fault.since < math.inf
    again = codec.change_to_message(change, seq=event.seq, at=event.at, boot_id=event.boot_id)
    assert codec.change_from_message(again) == change
