"""What two runs over one history make differently: incidents matched by the faults they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chipmedic.model import Severity
from chipmedic_watchdog.replay.course import PastIncident


@dataclass(frozen=True, slots=True)
class Difference:
    """Incidents of the two runs that are about the same faults and not the same."""

    now: tuple[PastIncident, ...]
    new: tuple[PastIncident, ...]

    @property
    def at(self) -> float:
        """When the first of them was opened."""
        return min(incident.fact.opened_at for incident in (*self.now, *self.new))

    @property
    def is_action(self) -> bool:
        """Whether other nodes would be isolated or other jobs restarted."""
        return _actions(self.now) != _actions(self.new)


def compare(now: Sequence[PastIncident], new: Sequence[PastIncident]) -> list[Difference]:
    """Return the differences, oldest first."""
    groups: dict[int, int] = {}

    def root(fault: int) -> int:
        while groups.setdefault(fault, fault) != fault:
            groups[fault] = groups[groups[fault]]
            fault = groups[fault]
        return fault

    for incident in (*now, *new):
        for fault in incident.faults:
            groups[root(fault)] = root(incident.faults[0])
    sides: dict[int, tuple[list[PastIncident], list[PastIncident]]] = {}
    for side, incidents in enumerate((now, new)):
        for incident in incidents:
            sides.setdefault(root(incident.faults[0]), ([], []))[side].append(incident)
    found = [
        Difference(tuple(first), tuple(second))
        for first, second in sides.values()
        if set(map(_signature, first)) != set(map(_signature, second))
    ]
    return sorted(found, key=lambda difference: difference.at)


def as_json(incident: PastIncident) -> dict[str, Any]:
    """Return one incident for programs."""
    fact = incident.fact
    return {
        "opened_at": fact.opened_at,
        "resolved_at": fact.resolved_at,
        "severity": Severity(fact.severity).name.lower(),
        "cause": fact.cause,
        "title": fact.title,
        "nodes": list(fact.nodes),
        "jobs": list(fact.jobs),
        "faults": sorted(incident.faults),
        "notices": incident.notices,
        "isolates": sorted(incident.isolates),
        "restarts": sorted(incident.restarts),
        "mode": incident.mode,
        "why": incident.why,
    }


def _signature(incident: PastIncident) -> tuple[object, ...]:
    """Return what must be the same; another version of a rule alone is no difference."""
    fact = incident.fact
    return (
        frozenset(incident.faults),
        fact.cause.partition("/")[0],
        fact.severity,
        incident.notices,
        frozenset(incident.isolates),
        frozenset(incident.restarts),
        incident.mode,
        incident.why,
    )


def _actions(incidents: Sequence[PastIncident]) -> tuple[set[tuple[str, str]], ...]:
    return (
        {(i.mode, node) for i in incidents for node in i.isolates},
        {(i.mode, job) for i in incidents for job in i.restarts},
    )
