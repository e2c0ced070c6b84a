"""The faults that codes open, and those that rules make of several."""

from __future__ import annotations

from dataclasses import replace

from chipmedic.faults.catalog import CatalogRow
from chipmedic.faults.escalation import Outcome
from chipmedic.faults.kinds import KINDS
from chipmedic.model import HOST, Action, Component, Event, Fault, Scan, Severity
from chipmedic_agent.detectors.board import key_of
from chipmedic_agent.detectors.escalations import Escalation, Pending


def fault_of(
    event: Event, row: CatalogRow, kind: str, severity: Severity, action: Action, source: str
) -> Fault:
    """Return the fault that one event opens."""
    named = row.name if row.is_known else f"unknown code {event.code}: {event.message[:200]}"
    if event.device is not None and event.component == HOST:
        named = f"{event.device}: {named}"
    return Fault(
        component=event.component,
        kind=kind,
        severity=severity,
        action=action,
        since=event.at,
        summary=f"{named} ({event.code})" if row.is_known else named,
        source=source,
        codes=(event.code,),
        evidence=(event.message,),
    )


def gravest_of_each_kind(found: list[Escalation], own_kind: str) -> list[Escalation]:
    """Return the gravest escalation of each part and kind; several rules may hold at once."""
    gravest: dict[str, Escalation] = {}
    for escalation in found:
        kind = escalation.outcome.kind or own_kind
        key = key_of(escalation.component, kind)
        if kind not in KINDS:
            continue  # the line itself says that it is no fault
        if key not in gravest or _weight(escalation) > _weight(gravest[key]):
            gravest[key] = escalation
    return list(gravest.values())


def _weight(escalation: Escalation) -> tuple[int, int]:
    severity, action = escalation.outcome.severity, escalation.outcome.action
    actions = list(Action)
    return (int(severity or Severity.INFO), actions.index(action or Action.NONE))


def escalated(escalation: Escalation, code: str, pending: Pending, at: float) -> Fault:
    """Return the fault that a rule opens for the words that waited for it."""
    fault = outcome_fault(
        escalation.component, escalation.outcome, at, pending.source, kind=pending.kind
    )
    return replace(
        fault,
        summary=f"{fault.summary} ({code}, {escalation.times} times)",
        codes=(code,),
        evidence=(pending.message,),
    )


def outcome_fault(
    component: Component, outcome: Outcome, at: float, source: str, *, kind: str = ""
) -> Fault:
    """Return the fault of a rule; `kind` is the code's own, where the rule names none."""
    kind = outcome.kind or kind
    defaults = KINDS[kind]
    return Fault(
        component=component,
        kind=kind,
        severity=defaults.severity if outcome.severity is None else outcome.severity,
        action=defaults.action if outcome.action is None else outcome.action,
        since=at,
        summary=f"{component} {outcome.words}",
        source=source,
    )


def rebooted(event: Event, scan: Scan) -> Fault:
    """Return the short fault that tells of a boot."""
    return Fault(
        component=HOST,
        kind="node.rebooted",
        severity=Severity.INFO,
        action=Action.NONE,
        since=event.at,
        summary="the host has booted",
        source=scan.source,
        evidence=(event.message,),
    )
