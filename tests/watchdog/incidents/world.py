"""Faults, placements and incidents of a fleet in memory, for stories of correlation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from chipmedic.faults.kinds import KINDS
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.correlate import correlate
from chipmedic_watchdog.incidents.picture import (
    FaultFact,
    IncidentChange,
    IncidentFact,
    Picture,
    Placement,
)
from chipmedic_watchdog.incidents.rules import RuleSet, builtin

WARNING = 2
CRITICAL = 3


@dataclass
class World:
    """Faults and incidents between runs, as the store keeps them."""

    at: float = 1_000.0
    faults: dict[int, FaultFact] = field(default_factory=dict)
    where: dict[int, str] = field(default_factory=dict)
    incidents: dict[str, IncidentFact] = field(default_factory=dict)
    placements: list[Placement] = field(default_factory=list)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    settings: IncidentSettings = field(default_factory=IncidentSettings)
    news: list[IncidentChange] = field(default_factory=list)
    rules: RuleSet = field(default_factory=builtin)

    def job(self, job: str, **chips_by_node: set[str]) -> None:
        for node, chips in chips_by_node.items():
            self.placements.append(Placement(job=job, node=node, chips=frozenset(chips)))

    def rise(
        self, node: str, component: str, kind: str, *codes: str, job: str | None = None,
        severity: int | None = None,
    ) -> int:  # fmt: skip
        number = len(self.faults) + 1
        self.faults[number] = FaultFact(
            id=number,
            node=node,
            component=component,
            kind=kind,
            severity=int(KINDS[kind].severity) if severity is None else severity,
            state="open",
            opened_at=self.at,
            began_at=self.at,
            summary=kind,
            codes=codes,
            job=job,
        )
        return number

    def clear(self, *numbers: int) -> None:
        for number in numbers:
            self.faults[number] = replace(self.faults[number], state="cleared", cleared_at=self.at)

    def grow(self, number: int, severity: int) -> None:
        self.faults[number] = replace(self.faults[number], severity=severity)

    def pass_(self, seconds: float) -> World:
        self.at += seconds
        return self

    def _members(self, incident: str) -> tuple[FaultFact, ...]:
        return tuple(self.faults[n] for n, where in self.where.items() if where == incident)

    def look(self) -> list[IncidentChange]:
        oldest = self.at - self.settings.reopen_seconds
        picture = Picture(
            now=self.at,
            faults=tuple(
                f for n, f in self.faults.items()
                if n not in self.where and f.state == "open" and f.severity >= WARNING
            ),
            notes=tuple(
                f for n, f in self.faults.items()
                if n not in self.where and f.state == "open" and f.severity < WARNING
            ),
            incidents=tuple(
                replace(i, members=self._members(i.id))
                for i in self.incidents.values()
                if not i.is_resolved or (i.resolved_at or 0) >= oldest
            ),
            placements=tuple(self.placements),
            labels=self.labels,
            node_count=len(self.labels),
            silent=frozenset(self.silent),
        )  # fmt: skip
        changes = correlate(picture, self.settings, self.rules)
        for change in changes:
            self._keep(change)
        self.news = [change for change in changes if change.is_news]
        return changes

    def _keep(self, change: IncidentChange) -> None:
        name = change.incident or f"inc-{len(self.incidents) + 1}"
        old = self.incidents.get(name)
        self.incidents[name] = IncidentFact(
            id=name,
            state=change.state,
            cause=change.cause,
            severity=change.severity,
            root_fault=change.root_fault,
            title=change.title,
            opened_at=old.opened_at if old else self.at,
            nodes=change.nodes,
            jobs=change.jobs,
            resolved_at=self.at if change.resolve_reason is not None else None,
            recovery_states=old.recovery_states if old else frozenset(),
            reopened_count=(old.reopened_count if old else 0) + change.is_reopened,
        )
        for number in change.attach:
            assert number not in self.where
            self.where[number] = name

    def told(self) -> dict[str, tuple[str, str, str]]:
        """Return (kind, cause, state) of each incident."""
        return {
            i.id: (i.kind_of(self), i.cause, i.state) for i in map(Told, self.incidents.values())
        }


class Told:
    def __init__(self, fact: IncidentFact) -> None:
        self.id, self.cause, self.state, self._root = (
            fact.id, fact.cause, fact.state, fact.root_fault,
        )  # fmt: skip

    def kind_of(self, world: World) -> str:
        assert self._root is not None
        return world.faults[self._root].kind
