"""Occurrences against the rules of `chipmedic.faults.escalation`: which mean more than they say.

Pure: occurrences in, escalations out. Nothing escalates before its hold is over, the time in which
the same code from another chip would show that it is one program's doing and not one chip's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chipmedic.faults.escalation import EscalationRules, Outcome, Repeat, Together
from chipmedic.model import Component
from chipmedic_agent.detectors.occurrences import (
    SEVERAL_UNITS,
    Occurrence,
    key_of_code,
)

POLL_SECONDS = 60.0
"""How far apart one and the same moment may be seen on two chips that a tool asks in turn."""

Occurrences = Mapping[str, tuple[Occurrence, ...]]
"""By `<component> <code>`, the newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The newest word of a code that awaits its judgement."""

    due_at: float
    message: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """A rule that holds: the fault that it opens, and on which part."""

    component: Component
    outcome: Outcome
    times: int


def hold_seconds(rules: EscalationRules, *, is_lasting: bool) -> float:
    """Return how long after an occurrence another chip may still say the same.

    What a source states for as long as it is true is what a polled tool lists.
    """
    return rules.software_seconds + (POLL_SECONDS if is_lasting else 0.0)


def is_ruled(rules: EscalationRules, code: str) -> bool:
    """Say whether a rule counts or pairs this code."""
    return any(code in rule.codes for rule in rules.repeat) or any(
        code in rule.trigger | rule.with_codes for rule in rules.together
    )


def escalations(
    rules: EscalationRules, occurrences: Occurrences, component: Component, code: str, at: float
) -> list[Escalation]:
    """Return what the occurrences of one code on one part, held until `at`, mean by the rules."""
    found = [
        Escalation(component=component, outcome=rule.outcome, times=times)
        for rule in rules.repeat
        if code in rule.codes and (times := _times(rules, rule, occurrences, component, code, at))
    ]
    for rule in rules.together:
        if code in rule.trigger | rule.with_codes:
            found += _pairs(rules, rule, occurrences, component, code)
    return found


def split_key(key: str) -> tuple[Component, str]:
    """Return component and code of a key of `key_of_code`."""
    component, _, code = key.rpartition(" ")
    return Component.parse(component), code


def _times(
    rules: EscalationRules,
    rule: Repeat,
    occurrences: Occurrences,
    component: Component,
    code: str,
    at: float,
) -> int:
    """Return how often the rule counts, 0 for too few."""
    codes = rule.codes if rule.together else frozenset({code})
    recent = [
        occurrence
        for other in sorted(codes)
        for occurrence in occurrences.get(key_of_code(component, other), ())
        if hold_seconds(rules, is_lasting=occurrence.is_lasting) <= at - occurrence.begin
        and at - occurrence.begin < rule.window_seconds
        and not is_software(rules, occurrences, component, other, occurrence)
    ]
    groups = [recent]
    if rule.same == "unit":
        units = {o.unit for o in recent} - {"", SEVERAL_UNITS}
        groups = [[o for o in recent if o.unit == unit] for unit in units]
    times = max((_count(rule, group) for group in groups), default=0)
    return times if times >= rule.times else 0


def _count(rule: Repeat, group: list[Occurrence]) -> int:
    if rule.different == "program":
        return len({occurrence.program for occurrence in group} - {""})
    return len(group)


def _pairs(
    rules: EscalationRules,
    rule: Together,
    occurrences: Occurrences,
    component: Component,
    code: str,
) -> Iterator[Escalation]:
    """Yield the part to blame for each pair that the newest occurrence of a code completes."""
    mine = occurrences.get(key_of_code(component, code), ())
    if not mine:
        return
    is_trigger = code in rule.trigger
    partners = rule.with_codes if is_trigger else rule.trigger
    for key, several in occurrences.items():
        other, other_code = split_key(key)
        if other_code not in partners:
            continue
        near = [
            o
            for o in several
            if (o.at, not is_trigger) <= (mine[0].at, is_trigger)  # else the other completes it
            and _apart(o, mine[0]) <= rule.within_seconds
        ]
        if not near:
            continue
        if is_trigger == rule.blames_trigger:
            blamed, blamed_code, seen = component, code, mine[0]
        else:
            blamed, blamed_code, seen = other, other_code, near[0]
        if not is_software(rules, occurrences, blamed, blamed_code, seen):
            yield Escalation(component=blamed, outcome=rule.outcome, times=1 + len(near))


def is_software(
    rules: EscalationRules,
    occurrences: Occurrences,
    component: Component,
    code: str,
    occurrence: Occurrence,
) -> bool:
    """Say whether another part of this node said the same at the same time."""
    for key, several in occurrences.items():
        if not key.endswith(f" {code}") or key == key_of_code(component, code):
            continue
        for other in several:
            near = max(
                hold_seconds(rules, is_lasting=occurrence.is_lasting),
                hold_seconds(rules, is_lasting=other.is_lasting),
            )
            if _apart(other, occurrence) <= near:
                return True
    return False


def _apart(one: Occurrence, other: Occurrence) -> float:
    """Return how far apart two occurrences are, by the nearest of their beginnings and ends."""
    return min(abs(a - b) for a in (one.begin, one.at) for b in (other.begin, other.at))
