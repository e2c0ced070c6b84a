"""Runs the correlation and the policy over a history, moment by moment. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from chipmedic.model import Severity
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.correlate import correlate
from chipmedic_watchdog.incidents.picture import (
    NODE_UNREACHABLE,
    FaultFact,
    IncidentChange,
    IncidentFact,
    Picture,
)
from chipmedic_watchdog.incidents.picture import Placement as JobPlacement
from chipmedic_watchdog.incidents.rules import RuleSet
from chipmedic_watchdog.recover.case import Case, FaultView, IncidentView, Placement
from chipmedic_watchdog.recover.modes import partitions_of
from chipmedic_watchdog.recover.policy import decide
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.replay.history import History, PastFault, Stretch

WARNING = int(Severity.WARNING)
LOOK_SECONDS = 0.1
"""What comes within so short a time is seen in one look."""
SPREAD_SECONDS = 6.0
"""A node that is judged this soon is silent already: the verdicts of one loss come spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What a run goes by."""

    rules: RuleSet
    incidents: IncidentSettings = field(default_factory=IncidentSettings)
    recover: RecoverSettings = field(default_factory=RecoverSettings)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that are configured."""
        named = {"slurm": self.recover.slurm, "exec": self.recover.exec}
        return tuple(name for name, settings in named.items() if settings is not None)


@dataclass(slots=True, kw_only=True)
class PastIncident:
    """One incident as a run would have made it."""

    fact: IncidentFact
    faults: list[int] = field(default_factory=list)
    notices: int = 0
    """How often people would have been told something new."""
    isolates: set[str] = field(default_factory=set)
    restarts: set[str] = field(default_factory=set)
    mode: str = ""
    why: str = ""


def run(history: History, ruling: Ruling) -> list[PastIncident]:
    """Return the incidents of a period, with what the policy would have decided about each."""
    course = _Course(history, ruling)
    for at in _moments(history, ruling.incidents.settle_seconds):
        course.look(at)
    return list(course.incidents.values())


def _moments(history: History, settle_seconds: float) -> list[float]:
    """Return when a look can find something new."""
    moments: set[float] = set()
    for fault in history.faults:
        for at, _ in fault.severities:
            moments |= {at, at + settle_seconds + 1e-3}
        if fault.fact.cleared_at is not None:
            moments.add(fault.fact.cleared_at)
    looks = {math.ceil(at / LOOK_SECONDS) * LOOK_SECONDS for at in moments}
    return sorted(at for at in looks if at <= history.until)


class _Course:
    def __init__(self, history: History, ruling: Ruling) -> None:
        self._history = history
        self._ruling = ruling
        self._past = {fault.fact.id: fault for fault in history.faults}
        counted = [fault.fact for fault in history.faults if _counts(fault, ruling.rules)]
        self._waiting = deque(sorted(counted, key=lambda fact: fact.opened_at))
        self._loose: dict[int, PastFault] = {}
        self._isolated: set[str] = set()
        self._restarted: dict[str, float] = {}
        self._unreachable = sorted(
            (f.fact.opened_at, f.fact.cleared_at or history.until, f.fact.node)
            for f in history.faults
            if f.fact.kind == NODE_UNREACHABLE
        )
        self._stretches: dict[tuple[str, str], list[Stretch]] = {}
        for stretch in history.placements:
            for key in (("node", stretch[2].node), ("job", stretch[2].job)):
                self._stretches.setdefault(key, []).append(stretch)
        self.incidents: dict[str, PastIncident] = {}
        self._active: dict[str, PastIncident] = {}

    def look(self, at: float) -> None:
        """Do what the watchdog does when it looks."""
        self._open(at)
        picture = self._picture(at)
        for change in correlate(picture, self._ruling.incidents, self._ruling.rules):
            name = self._keep(change, at)
            if change.state != "resolved":
                self._decide(self.incidents[name], picture, at)

    def _open(self, at: float) -> None:
        while self._waiting and self._waiting[0].opened_at <= at:
            number = self._waiting.popleft().id
            self._loose[number] = self._past[number]
        ended = [n for n, f in self._loose.items() if (f.fact.cleared_at or at + 1) <= at]
        for number in ended:  # nobody would have been told of it
            del self._loose[number]
        oldest = at - self._ruling.incidents.reopen_seconds
        over = [
            name
            for name, incident in self._active.items()
            if incident.fact.resolved_at is not None and incident.fact.resolved_at < oldest
        ]
        for name in over:
            del self._active[name]

    def _picture(self, at: float) -> Picture:
        fresh = [fault.at(at) for fault in self._loose.values()]
        oldest = at - self._ruling.rules.note_seconds
        return Picture(
            now=at,
            faults=tuple(fact for fact in fresh if fact.severity >= WARNING),
            notes=tuple(f for f in fresh if f.severity < WARNING and f.opened_at >= oldest),
            incidents=tuple(self._fact(i, at) for i in self._active.values()),
            placements=self._placements(fresh, at) if fresh else (),
            labels=self._history.labels,
            node_count=len(self._history.labels),
            silent=self._silent(at) if fresh else frozenset(),
        )

    def _placements(self, fresh: list[FaultFact], at: float) -> tuple[JobPlacement, ...]:
        """Return the placements of the nodes and jobs that the faults are about."""
        facts = [*fresh, *(self._past[n].fact for i in self._active.values() for n in i.faults)]
        keys = {("node", fact.node) for fact in facts} | {("job", fact.job or "") for fact in facts}
        found = {
            id(placement): placement
            for key in keys
            for start, end, placement in self._stretches.get(key, ())
            if start <= at <= end
        }
        return tuple(found.values())

    def _fact(self, incident: PastIncident, at: float) -> IncidentFact:
        fact = incident.fact
        return IncidentFact(
            id=fact.id,
            state=fact.state,
            cause=fact.cause,
            severity=fact.severity,
            root_fault=fact.root_fault,
            title=fact.title,
            opened_at=fact.opened_at,
            nodes=fact.nodes,
            jobs=fact.jobs,
            resolved_at=fact.resolved_at,
            reopened_count=fact.reopened_count,
            members=tuple(self._past[number].at(at) for number in incident.faults),
        )

    def _silent(self, at: float) -> frozenset[str]:
        oldest = at - self._ruling.rules.silence_seconds
        first = bisect_left(self._unreachable, oldest, key=lambda silence: silence[0])
        last = bisect_right(self._unreachable, at + SPREAD_SECONDS, key=lambda silence: silence[0])
        near = self._unreachable[first:last]
        return frozenset(node for _, ended_at, node in near if ended_at > at)

    def _keep(self, change: IncidentChange, at: float) -> str:
        name = change.incident or f"#{len(self.incidents) + 1}"
        old = self.incidents.get(name)
        fact = IncidentFact(
            id=name,
            state=change.state,
            cause=change.cause,
            severity=change.severity,
            root_fault=change.root_fault,
            title=change.title,
            opened_at=old.fact.opened_at if old else at,
            nodes=change.nodes,
            jobs=change.jobs,
            resolved_at=at if change.resolve_reason is not None else None,
            reopened_count=(old.fact.reopened_count if old else 0) + change.is_reopened,
        )
        incident = old or PastIncident(fact=fact)
        incident.fact = fact
        incident.faults.extend(change.attach)
        incident.notices += change.is_news
        self.incidents[name] = self._active[name] = incident
        for number in change.attach:
            self._loose.pop(number, None)
        return name

    def _decide(self, incident: PastIncident, picture: Picture, at: float) -> None:
        decision = decide(self._case(incident, picture, at), self._ruling.recover, self._adapters())
        self._isolated |= set(decision.nodes)
        self._restarted |= dict.fromkeys(decision.jobs, at)
        incident.isolates |= set(decision.nodes)
        incident.restarts |= set(decision.jobs)
        if decision.nodes or decision.jobs or not (incident.isolates or incident.restarts):
            incident.mode, incident.why = decision.mode.value, decision.why.value

    def _adapters(self) -> Collection[str]:
        return self._ruling.adapters or ("slurm", "exec")

    def _case(self, incident: PastIncident, picture: Picture, at: float) -> Case:
        fact = incident.fact
        faults = [self._past[number] for number in incident.faults]
        nodes = {fault.fact.node for fault in faults}
        placements = [p for p in picture.placements if p.job in fact.jobs]
        return Case(
            incident=_incident_view(fact, self._past),
            faults=tuple(
                _fault_view(fault.at(at), fault) for fault in faults if not fault.at(at).is_cleared
            ),
            placements=tuple(
                Placement(job=p.job, node=p.node, received_at=at, is_present=True)
                for p in placements
                if p.node in nodes
            ),
            placed_jobs=frozenset(p.job for p in placements),
            isolated=frozenset(self._isolated),
            partitions={n: partitions_of(self._history.labels.get(n, {})) for n in fact.nodes},
            restarted_at={j: self._restarted[j] for j in fact.jobs if j in self._restarted},
        )


def _counts(fault: PastFault, rules: RuleSet) -> bool:
    """Whether a fault can ever be in an incident."""
    is_note = all(severity < WARNING for _, severity in fault.severities)
    return not is_note or fault.fact.kind in rules.note_kinds


def _incident_view(fact: IncidentFact, past: dict[int, PastFault]) -> IncidentView:
    root = past[fact.root_fault or 0].fact
    return IncidentView(
        id=fact.id,
        kind=root.kind,
        severity=Severity(fact.severity),
        state=fact.state,
        nodes=fact.nodes,
        jobs=fact.jobs,
        cause=fact.cause,
        reopened_count=fact.reopened_count,
    )


def _fault_view(fact: FaultFact, fault: PastFault) -> FaultView:
    return FaultView(
        id=fact.id,
        node=fact.node,
        component=fact.component,
        kind=fact.kind,
        severity=Severity(fact.severity),
        action=fault.action,
        opened_at=fact.opened_at,
        codes=fact.codes,
        job=fact.job,
    )
