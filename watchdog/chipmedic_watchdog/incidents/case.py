"""One incident while the correlation works on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from chipmedic_watchdog.incidents.picture import (
    NODE_UNREACHABLE,
    FaultFact,
    IncidentChange,
    IncidentFact,
    Picture,
)
from chipmedic_watchdog.incidents.predicates import SilenceFleet, SilenceGroup
from chipmedic_watchdog.incidents.rules import TITLE, Rule, RuleSet

BLOCKING_RECOVERIES = frozenset({"planned", "running", "verifying"})
"""While a recovery is in one of these states its incident is not over."""
TITLE_MAX = 200
RETURNS_TOLD = 3
"""From so many returns of a fault on, the title says how many there were."""


@dataclass(slots=True, kw_only=True, eq=False)
class Case:
    """Members gather here; `change` says what came of it."""

    rules: RuleSet
    origin: IncidentFact | None = None
    cause: str
    members: list[FaultFact] = field(default_factory=list)
    attached: list[int] = field(default_factory=list)
    is_reopened: bool = False
    opened_at: float = math.inf
    """When it was opened, or its first fault was."""

    @classmethod
    def of(cls, incident: IncidentFact, rules: RuleSet) -> Case:
        """Take an incident of the store."""
        return cls(
            rules=rules,
            origin=incident,
            cause=incident.cause,
            members=list(incident.members),
            opened_at=incident.opened_at,
        )

    @classmethod
    def new(cls, rules: RuleSet, cause: str | None = None) -> Case:
        """Begin one, by itself as long as no rule names another cause."""
        return cls(rules=rules, cause=cause or rules.single.id)

    @property
    def rule(self) -> Rule | None:
        """The rule that is its cause; None: a rule that is gone."""
        return self.rules.of(self.cause)

    @property
    def is_open(self) -> bool:
        """Whether faults may join it by the rules."""
        return self.origin is None or not self.origin.is_resolved or self.is_reopened

    @property
    def root(self) -> FaultFact:
        """The member that is nearest to the cause.

        One that is over stays the root until a fault joins: its end alone is no news.
        """
        told = self.origin.root_fault if self.origin is not None else None
        candidates = [
            member
            for member in self.members
            if not member.is_cleared or (member.id == told and not self.attached)
        ]
        return min(candidates or self.members, key=self._nearness)

    @property
    def is_silence(self) -> bool:
        """Whether it is about nodes that went silent, and jobs that miss them."""
        return bool(self.silent_members) and all(
            member.kind == NODE_UNREACHABLE or member.kind.startswith("job.")
            for member in self.members
        )

    @property
    def silent_members(self) -> list[FaultFact]:
        """The silences among its members."""
        return [member for member in self.members if member.kind == NODE_UNREACHABLE]

    def join(self, fault: FaultFact, cause: str) -> None:
        """Take a fault in, for the reason that a rule names."""
        self.members.append(fault)
        self.attached.append(fault.id)
        if self.origin is None:
            self.opened_at = min(self.opened_at, fault.opened_at)
        self.cause = self.rules.heavier(self.cause, cause)
        if self.origin is not None and self.origin.is_resolved:
            self.is_reopened = True

    def change(self, picture: Picture) -> IncidentChange | None:
        """Return what is to be written, or None where nothing changed."""
        origin = self.origin
        if origin is not None and origin.is_resolved and not self.is_reopened:
            return None
        root = self.root
        nodes = {member.node for member in self.members} | set(origin.nodes if origin else ())
        jobs = set(origin.jobs if origin else ())
        for member in self.members if self.attached else ():
            jobs |= picture.jobs_of(member)
        state, resolve_reason = self._state()
        severity = max(
            *(member.severity for member in self.members),
            0 if origin is None else origin.severity,
            0 if self.rule is None else self.rule.severity,
        )
        is_news = (
            origin is None
            or self.is_reopened
            or resolve_reason is not None
            or severity > origin.severity
            or root.id != origin.root_fault
            or self.cause != origin.cause
        )
        if origin is not None and not (is_news or self.attached) and state == origin.state:
            return None
        return IncidentChange(
            incident=None if origin is None else origin.id,
            attach=tuple(self.attached),
            state=state,
            severity=severity,
            kind=root.kind,
            cause=self.cause,
            title=self._title(picture),
            root_fault=root.id,
            nodes=tuple(sorted(nodes)),
            jobs=tuple(sorted(jobs)),
            fault_at=min(member.began_at for member in self.members),
            is_news=is_news,
            is_reopened=self.is_reopened,
            resolve_reason=resolve_reason,
        )

    def _state(self) -> tuple[str, str | None]:
        """Return the state, and why it is over when it has just ended."""
        origin = self.origin
        if origin is None or self.is_reopened:
            return "open", None
        recoveries = origin.recovery_states
        if all(m.is_cleared for m in self.members) and not recoveries & BLOCKING_RECOVERIES:
            return "resolved", "every fault of it has cleared"
        if "verifying" in recoveries:
            return "verifying", None
        if recoveries & BLOCKING_RECOVERIES:
            return "recovering", None
        return ("acknowledged" if origin.is_acknowledged else "open"), None

    def _title(self, picture: Picture) -> str:
        """Fill in the title of its rule; how often it came back is said from the third time on."""
        count = 0 if self.origin is None else self.origin.reopened_count + self.is_reopened
        suffix = f"; returned for the {ordinal(count)} time" if count >= RETURNS_TOLD else ""
        title = self._words(picture)
        if title is None and self.origin is not None:
            title = self.origin.title.partition("; returned for the ")[0]
        return (title or "")[: TITLE_MAX - len(suffix)] + suffix

    def _words(self, picture: Picture) -> str | None:
        """Return the title; None where it needs labels that nobody has read this time."""
        root, rule = self.root, self.rule
        template = TITLE if rule is None else rule.row.title
        common = common_labels(self, picture) if "{where}" in template else {}
        if "{where}" in template and not common and self.origin is not None:
            return None
        nodes = {member.node for member in self.members if not member.is_cleared}
        if rule is not None and isinstance(rule.predicate, SilenceGroup | SilenceFleet):
            nodes = self._silent(picture, common)
        return template.format(
            node=root.node,
            summary=root.summary or root.kind,
            kind=root.kind,
            code=root.codes[0] if root.codes else root.kind,
            chips=len({(m.node, m.chip) for m in self.members if m.chip}),
            nodes=len(nodes or {root.node}),
            where=", ".join(f"{name} {value}" for name, value in common.items()) or "one group",
        )

    def _silent(self, picture: Picture, common: dict[str, str]) -> set[str]:
        """Return the silent nodes, judged or not.

        The verdicts of one lost switch come spread over a second: the first notice counts all.
        """
        return {member.node for member in self.silent_members} | {
            node
            for node in picture.silent
            if common.items() <= picture.labels.get(node, {}).items()
        }

    def _nearness(self, fault: FaultFact) -> tuple[int, int, int, float, int]:
        rank, place = self.rules.precedence(fault.kind)
        return rank, -fault.severity, place, fault.began_at, fault.id


def common_labels(case: Case, picture: Picture) -> dict[str, str]:
    """Return the labels that all nodes of a case share, as far as they are known."""
    is_silence = case.rule is not None and isinstance(case.rule.predicate, SilenceGroup)
    shared: set[tuple[str, str]] | None = None
    for node in {member.node for member in (case.silent_members if is_silence else case.members)}:
        own = set(picture.labels.get(node, {}).items())
        shared = own if shared is None else shared & own
    return dict(sorted(shared or ()))


def ordinal(number: int) -> str:
    """Return 3rd for 3."""
    teens = number % 100 in (11, 12, 13)
    return f"{number}" + ("th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th"))
