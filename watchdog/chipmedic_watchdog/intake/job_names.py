"""The names under which jobs go into the store, where an agent cannot know them.

An agent knows a Kubernetes job by the uid of its pod. The job that people know is what owns the
pods, and its pods are its ranks: their reports become one, before anything else sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from chipmedic.model import Fault, JobStatus
from chipmedic_watchdog.intake.arrival import Body
from chipmedic_watchdog.intake.message import Batch, ReceivedSnapshot

TOLD_AS = "told_as"
"""Label of a job's report: the names that its agent has for it, with blanks between."""
JOINED = ("rank_steps", "gone_ranks", "behind", "processes", "partitions")
"""Labels of which every pod tells a part."""


Part = TypeVar("Part", int, str)


class JobNames(Protocol):
    """What finds out the names."""

    async def body(self, node: str, body: Body) -> Body:
        """Return what an agent said with its jobs by their names; waits a moment for a new one."""
        ...


class AsTold:
    """The names that the agents give are the jobs' own."""

    async def body(self, node: str, body: Body) -> Body:
        """Return it as it is."""
        del node
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class JobName:
    """The job that a pod belongs to."""

    job: str
    name: str
    """As its users wrote it."""
    pod: str


def renamed(
    statuses: Iterable[JobStatus],
    names: Mapping[str, JobName],
    before: Mapping[str, JobStatus],
) -> tuple[JobStatus, ...]:
    """Return the reports of a node with the pods of one job as one.

    `before` is what the node last said of its pods: what has not changed is not said again.
    """
    said = {status.job: status for status in statuses}
    latest = {**before, **said}
    touched = {names[told].job for told in said if told in names}
    plain = [status for told, status in said.items() if told not in names]
    whole = [
        _merged([(n, s) for told, s in latest.items() if (n := names.get(told)) and n.job == job])
        for job in sorted(touched)
    ]
    return (*plain, *whole)


def all_renamed(told: Iterable[str], names: Mapping[str, JobName]) -> frozenset[str]:
    """Return the names of all jobs of a node."""
    return frozenset(names[job].job if job in names else job for job in told)


def of_faults(body: Body, names: Mapping[str, JobName]) -> Body:
    """Return events or a snapshot with the jobs that its faults name."""
    match body:
        case Batch():
            events = tuple(
                replace(event, fault=_fault(event.fault, names)) if event.fault else event
                for event in body.events
            )
            return replace(body, events=events)
        case ReceivedSnapshot():
            return replace(body, open=tuple(_fault(fault, names) for fault in body.open))
        case _:
            return body


def _fault(fault: Fault, names: Mapping[str, JobName]) -> Fault:
    known = names.get(fault.job or "")
    return fault if known is None else replace(fault, job=known.job)


def _merged(pods: Sequence[tuple[JobName, JobStatus]]) -> JobStatus:
    """Return one report of the pods of one job on a node: the furthest of them, with all parts.

    A pod that has ended says nothing of a job that another one carries on.
    """
    pods = [pair for pair in pods if pair[1].pids] or pods
    said = [status for _, status in pods]
    furthest = max(said, key=lambda status: _order(status.step))
    labels = {name: text for status in said for name, text in status.labels.items()}
    labels |= _joined(said)
    if ends := [float(end) for s in said if (end := s.labels.get("ended_at"))]:
        labels["ended_at"] = f"{max(ends):.3f}"
    names = sorted(pods, key=lambda pair: pair[0].pod)
    labels["pods"] = ", ".join(name.pod for name, _ in names)
    labels[TOLD_AS] = " ".join(status.job for _, status in names)
    checkpoints = [s.checkpoint_step for s in said if s.checkpoint_step is not None]
    return replace(
        furthest,
        job=pods[0][0].job,
        name=pods[0][0].name,
        at=max(status.at for status in said),
        chips=_union(status.chips for status in said),
        pids=_union(status.pids for status in said),
        ranks=_union(status.ranks for status in said),
        checkpoint_step=max(checkpoints, default=None),
        attempt=max(status.attempt for status in said),
        labels=labels,
    )


def _joined(said: Sequence[JobStatus]) -> dict[str, str]:
    found = {}
    for label in JOINED:
        parts = [status.labels[label] for status in said if status.labels.get(label)]
        if parts:
            found[label] = (" " if label == "rank_steps" else ", ").join(parts)
    return found


def _order(step: int | None) -> int:
    return -1 if step is None else step


def _union(parts: Iterable[tuple[Part, ...]]) -> tuple[Part, ...]:
    return tuple(sorted({one for part in parts for one in part}))
