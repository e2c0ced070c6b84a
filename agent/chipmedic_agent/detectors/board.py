"""The open faults of one detector during one step, and what changed in them.

A detector's state holds its open faults by `key_of`; a step opens a `Board` on them, reports and
clears, and takes `board.open` into its next state. The board is the only place that makes changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from chipmedic.model import (
    EVIDENCE_MAX,
    Action,
    Change,
    Cleared,
    Component,
    Fault,
    Raised,
    Scan,
    Updated,
)

BOOT = "agent:boot"
"""Event of the agent: this host has booted since the last scan that the detectors saw."""
FORGET = "agent:forget"
"""Event of the agent on a component that an operator took out of the inventory."""

_ACTION_RANK = {action: rank for rank, action in enumerate(Action)}
_EVIDENCE_FIRST = EVIDENCE_MAX // 2


def key_of(component: Component, kind: str) -> str:
    """Return the key of a fault in a state: text, so that a state can be saved as JSON."""
    return f"{component} {kind}"


def is_boot(scan: Scan) -> bool:
    """Say whether this scan tells of a boot."""
    return any(event.code == BOOT for event in scan.events)


def forgotten(scan: Scan) -> set[Component]:
    """Return the components that an operator has taken out of the inventory."""
    return {event.component for event in scan.events if event.code == FORGET}


def stronger(one: Action, other: Action) -> Action:
    """Return the action that asks for more."""
    return max(one, other, key=_ACTION_RANK.__getitem__)


def merged_evidence(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    """Join evidence without repeats: the first lines tell the cause, the newest the present."""
    lines = tuple(dict.fromkeys((*old, *new)))
    if len(lines) <= EVIDENCE_MAX:
        return lines
    return lines[:_EVIDENCE_FIRST] + lines[_EVIDENCE_FIRST - EVIDENCE_MAX :]


class Board:
    """Collects the changes of one step."""

    def __init__(self, open_: Mapping[str, Fault]) -> None:
        self.open = dict(open_)
        self.changes: list[Change] = []

    def is_open(self, component: Component, kind: str) -> bool:
        """Say whether the fault is open now."""
        return key_of(component, kind) in self.open

    def report(self, fault: Fault) -> None:
        """Raise a fault; one that is open already is seen again: worse of both, counts added."""
        key = key_of(fault.component, fault.kind)
        known = self.open.get(key)
        if known is None:
            self.open[key] = fault
            self.changes.append(Raised(fault))
            return
        is_worse = fault.severity >= known.severity
        self._update(
            key,
            replace(
                known,
                severity=max(known.severity, fault.severity),
                action=stronger(known.action, fault.action),
                summary=fault.summary if is_worse else known.summary,
                codes=tuple(dict.fromkeys((*known.codes, *fault.codes))),
                evidence=merged_evidence(known.evidence, fault.evidence),
                count=known.count + fault.count,
            ),
        )

    def hold(self, fault: Fault) -> None:
        """Raise a fault that lasts; one that is open changes only with severity or action."""
        key = key_of(fault.component, fault.kind)
        known = self.open.get(key)
        if known is None:
            self.report(fault)
        elif (known.severity, known.action) != (fault.severity, fault.action):
            evidence = merged_evidence(known.evidence, fault.evidence)
            self._update(
                key, replace(fault, since=known.since, count=known.count, evidence=evidence)
            )

    def attach(self, key: str, *, code: str, evidence: str, action: Action = Action.NONE) -> None:
        """Add a companion's code and words to an open fault without counting a sighting."""
        known = self.open[key]
        fault = replace(
            known,
            action=stronger(known.action, action),
            codes=tuple(dict.fromkeys((*known.codes, code))),
            evidence=merged_evidence(known.evidence, (evidence,)),
        )
        if fault != known:
            self._update(key, fault)

    def _update(self, key: str, fault: Fault) -> None:
        self.open[key] = fault
        self.changes.append(Updated(fault))

    def clear(self, key: str, at: float, reason: str = "") -> None:
        """Clear a fault if it is open."""
        fault = self.open.pop(key, None)
        if fault is not None:
            self.changes.append(Cleared(fault, at, reason))

    def clear_components(self, components: Iterable[Component], at: float, reason: str) -> None:
        """Clear every fault of these components and of the links of a chip among them."""
        for component in set(components):
            for key, fault in list(self.open.items()):
                if fault.component == component:
                    self.clear(key, at, reason)

    def clear_all(self, at: float, reason: str) -> None:
        """Clear everything that is open."""
        for key in list(self.open):
            self.clear(key, at, reason)
