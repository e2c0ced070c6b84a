"""A job that was started again on a node which it was told to leave.

The contract is exit status 93 (`chipmedic.launch`). A wrapper, a container entry or a scheduler
that takes it for any other failure starts the job again on the sick node, and nobody would know why
it fails there a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmedic.faults.kinds import KINDS
from chipmedic.model import Change, Component, ComponentKind, Fault, JobStatus, Scan
from chipmedic_agent.detectors.board import Board, key_of
from chipmedic_agent.detectors.settings import DetectorSettings

KIND = "job.returned"
LABEL = "returned"
"""Of a `JobStatus`: its processes that began after launchers were kept out; see `JobTracker`."""


@dataclass(frozen=True, slots=True)
class ReturnedState:
    """State of `Returned`."""

    open: Mapping[str, Fault] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """Jobs that came back."""

    name: str

    def start(self) -> ReturnedState:
        """See `Detector.start`."""
        return ReturnedState()

    def step(self, state: ReturnedState, scan: Scan) -> tuple[ReturnedState, list[Change]]:
        """See `Detector.step`."""
        if scan.source != "jobs" or (not scan.jobs and scan.gaps):
            return state, []
        board = Board(state.open)
        back = {status.job: status for status in scan.jobs if status.labels.get(LABEL)}
        for status in back.values():
            board.hold(_fault(status, scan))
        held = {key_of(_component(job), KIND) for job in back}
        for key in state.open.keys() - held:
            board.clear(key, scan.at, "it has left, or may be here again")
        return ReturnedState(board.open), board.changes


def _fault(status: JobStatus, scan: Scan) -> Fault:
    return Fault(
        component=_component(status.job),
        kind=KIND,
        severity=KINDS[KIND].severity,
        action=KINDS[KIND].action,
        since=scan.at,
        summary=f"{status.job} was started again on this node, which it was told to leave",
        source=scan.source,
        evidence=(f"processes that began since: {status.labels[LABEL]}",),
        job=status.job,
    )


def _component(job: str) -> Component:
    return Component(ComponentKind.JOB, job)


def returned_detectors(settings: DetectorSettings) -> list[Returned]:
    """Return the detector of jobs that came back."""
    del settings
    return [Returned(name="returned")]
