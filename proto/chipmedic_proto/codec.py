"""Model ⇄ messages: the only file that touches the generated code's fields.

Decoding trusts nothing: a value that a later version may send is kept or read as its cautious
meaning (severity as CRITICAL, verdict as UNKNOWN, action as NONE); what no version can mean raises
ValueError.
"""

from __future__ import annotations

import math
from itertools import islice

from chipmedic.model import (
    Action,
    Change,
    Chip,
    Cleared,
    Component,
    Coverage,
    Fault,
    JobStatus,
    Raised,
    Severity,
    Updated,
    Verdict,
)
from chipmedic_proto.v1 import chipmedic_pb2 as pb

TEXT_MAX = 4096
"""Characters kept of any one text field; a hostile or broken sender cannot fill the store."""

_SEVERITY = {
    Severity.INFO: pb.SEVERITY_INFO,
    Severity.WARNING: pb.SEVERITY_WARNING,
    Severity.CRITICAL: pb.SEVERITY_CRITICAL,
}
_SEVERITY_BACK = {value: key for key, value in _SEVERITY.items()}
_VERDICT = {
    Verdict.OK: pb.VERDICT_OK,
    Verdict.FAULT: pb.VERDICT_FAULT,
    Verdict.UNKNOWN: pb.VERDICT_UNKNOWN,
}
_VERDICT_BACK = {value: key for key, value in _VERDICT.items()}

LIST_MAX, LABELS_MAX = 4096, 64
"""Of one job on one node."""


def _time(value: float, what: str) -> float:
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{what}: {value} is no time")
    return value


def _text(value: str) -> str:
    # PostgreSQL refuses the zero character in any text.
    return value[:TEXT_MAX].replace("\0", "\ufffd")


def chip_to_message(chip: Chip, *, is_missing: bool = False) -> pb.Chip:
    """Encode a chip of the inventory."""
    return pb.Chip(
        uid=chip.uid,
        vendor=chip.vendor,
        model=chip.model,
        index=chip.index,
        die=chip.die,
        serial=chip.serial or "",
        pci=chip.pci or "",
        is_missing=is_missing,
    )


def chip_from_message(message: pb.Chip) -> Chip:
    """Decode a chip.

    Raises:
        ValueError: it has no uid.
    """
    if not message.uid:
        raise ValueError("chip: no uid")
    return Chip(
        uid=_text(message.uid),
        vendor=_text(message.vendor),
        model=_text(message.model),
        index=message.index,
        die=message.die,
        serial=_text(message.serial) or None,
        pci=_text(message.pci) or None,
    )


def fault_to_message(fault: Fault) -> pb.Fault:
    """Encode a fault."""
    return pb.Fault(
        component=str(fault.component),
        kind=fault.kind,
        severity=_SEVERITY[fault.severity],
        action=fault.action.value,
        since=fault.since,
        summary=fault.summary,
        source=fault.source,
        codes=fault.codes,
        evidence=fault.evidence,
        count=fault.count,
        job=fault.job or "",
    )


def fault_from_message(message: pb.Fault) -> Fault:
    """Decode a fault.

    Raises:
        ValueError: no component or kind, or a time that is none.
    """
    if not message.kind:
        raise ValueError("fault: no kind")
    try:
        action = Action(message.action)
    except ValueError:
        action = Action.NONE
    return Fault(
        component=Component.parse(_text(message.component)),
        kind=_text(message.kind),
        severity=_SEVERITY_BACK.get(message.severity, Severity.CRITICAL),
        action=action,
        since=_time(message.since, "fault: since"),
        summary=_text(message.summary),
        source=_text(message.source),
        codes=tuple(map(_text, message.codes[:64])),
        evidence=tuple(map(_text, message.evidence[:64])),
        count=message.count or 1,
        job=_text(message.job) or None,
    )


def change_to_message(change: Change, *, seq: int, at: float, boot_id: str) -> pb.Event:
    """Encode one numbered transition."""
    match change:
        case Raised(fault):
            transition, detail = pb.TRANSITION_RAISED, ""
        case Updated(fault):
            transition, detail = pb.TRANSITION_UPDATED, ""
        case Cleared(fault, _, detail):
            transition = pb.TRANSITION_CLEARED
    return pb.Event(
        seq=seq,
        at=at,
        transition=transition,
        fault=fault_to_message(fault),
        detail=detail,
        boot_id=boot_id,
    )


def change_from_message(message: pb.Event) -> Change | None:
    """Decode a transition; None for a gap event or one of a later version.

    Raises:
        ValueError: the fault in it is unusable.
    """
    at = _time(message.at, "event: at")
    match message.transition:
        case pb.TRANSITION_RAISED:
            return Raised(fault_from_message(message.fault))
        case pb.TRANSITION_UPDATED:
            return Updated(fault_from_message(message.fault))
        case pb.TRANSITION_CLEARED:
            return Cleared(fault_from_message(message.fault), at, _text(message.detail))
    return None


def coverage_to_message(coverage: Coverage) -> pb.Coverage:
    """Encode the verdict of one check."""
    return pb.Coverage(
        check=coverage.check,
        at=coverage.at,
        verdict=_VERDICT[coverage.verdict],
        detail=coverage.detail,
    )


def coverage_from_message(message: pb.Coverage) -> Coverage:
    """Decode the verdict of one check.

    Raises:
        ValueError: a time that is none.
    """
    return Coverage(
        _text(message.check),
        _time(message.at, "coverage: at"),
        _VERDICT_BACK.get(message.verdict, Verdict.UNKNOWN),
        _text(message.detail),
    )


def job_to_message(job: JobStatus) -> pb.Job:
    """Encode what a node knows of a job."""
    return pb.Job(
        job=job.job,
        at=job.at,
        chips=job.chips,
        pids=job.pids,
        ranks=job.ranks,
        step=-1 if job.step is None else job.step,
        step_at=job.step_at or 0.0,
        phase=job.phase or "",
        checkpoint_step=-1 if job.checkpoint_step is None else job.checkpoint_step,
        attempt=job.attempt,
        user=job.user or "",
        name=job.name or "",
        labels=job.labels,
    )


def job_from_message(message: pb.Job) -> JobStatus:
    """Decode what a node knows of a job.

    Raises:
        ValueError: no job id, or a time that is none.
    """
    if not message.job:
        raise ValueError("job: no id")
    return JobStatus(
        job=_text(message.job),
        at=_time(message.at, "job: at"),
        chips=tuple(map(_text, message.chips[:LIST_MAX])),
        pids=tuple(message.pids[:LIST_MAX]),
        ranks=tuple(message.ranks[:LIST_MAX]),
        step=None if message.step < 0 else message.step,
        step_at=_time(message.step_at, "job: step_at") or None,
        phase=_text(message.phase) or None,
        checkpoint_step=None if message.checkpoint_step < 0 else message.checkpoint_step,
        attempt=message.attempt,
        user=_text(message.user) or None,
        name=_text(message.name) or None,
        labels={
            _text(key): _text(value) for key, value in islice(message.labels.items(), LABELS_MAX)
        },
    )
