"""Faults → incidents: a pure function over a picture of the cluster.

Promises: every open fault of severity warning and above is in exactly one incident soon; the same
picture gives the same answer; INFO opens nothing, unless it is half of a pair. What belongs
together is decided in this order: the same fault come back, silence of a group, then the rules in
the order of their file.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.case import Case
from chipmedic_watchdog.incidents.picture import (
    NODE_UNREACHABLE,
    FaultFact,
    IncidentChange,
    Picture,
)
from chipmedic_watchdog.incidents.predicates import CRITICAL, Predicate, seeks
from chipmedic_watchdog.incidents.rules import Rule, RuleSet
from chipmedic_watchdog.incidents.silence import group_silence

Key = tuple[str, Hashable]
"""Name of a rule, and what two faults must share for it."""


def correlate(picture: Picture, settings: IncidentSettings, rules: RuleSet) -> list[IncidentChange]:
    """Return what is to change, incidents of the store first, new ones after them."""
    work = _Work(picture, settings, rules)
    if picture.faults or picture.notes:
        work.place()
    changes = [case.change(picture) for case in work.cases]
    return [change for change in changes if change is not None]


class _Work:
    def __init__(self, picture: Picture, settings: IncidentSettings, rules: RuleSet) -> None:
        self._picture = picture
        self._settings = settings
        self._rules = rules
        self.cases = [Case.of(found, rules) for found in picture.incidents if found.members]
        self._index: dict[Key, dict[int, tuple[Case, list[FaultFact]]]] = {}
        """By key: the cases, each with those of its members that have the key."""
        self._by_node: dict[str, list[Case]] = {}
        """The cases of one node alone, of the first `_sorted_count` of all."""
        self._sorted_count = 0

    def place(self) -> None:
        """Give every fault its incident, or let it wait for a better explanation."""
        former = self._resolved_by_node()
        left = [fault for fault in self._picture.faults if not self._reopen(fault, former)]
        silent = [fault for fault in left if fault.kind == NODE_UNREACHABLE]
        alone = group_silence(silent, self.cases, self._picture, self._rules)
        for case in self.cases:
            if case.is_open:
                for member in case.members:
                    self._note(case, member)
        others = [fault for fault in left if fault.kind != NODE_UNREACHABLE]
        for fault in sorted([*others, *alone], key=self._order):
            self._place_one(fault)
        self._pair_notes()

    def _place_one(self, fault: FaultFact) -> None:
        if self._join(fault, self._rules.joining):
            return
        age_seconds = self._picture.now - fault.opened_at
        if fault.severity < CRITICAL and age_seconds < self._settings.settle_seconds:
            return
        flood = self._flood(fault)
        if flood is not None:
            self._take(*flood)
            return
        case = Case.new(self._rules)
        self._take(case, fault, self._rules.single)
        self.cases.append(case)

    def _flood(self, fault: FaultFact) -> tuple[Case, FaultFact, Rule] | None:
        """Return the one incident of a node that has opened too many, new where there is none."""
        if self._rules.flood is None:
            return None
        rule, flood = self._rules.flood
        begun_at = fault.opened_at - rule.row.window_seconds
        mine = [c for c in self._of_node(fault.node) if c.is_open and c.opened_at >= begun_at]
        if len(mine) < flood.incidents:
            return None
        case = next((case for case in mine if case.rule is rule), None)
        if case is None:
            case = Case.new(self._rules, rule.id)
            self.cases.append(case)
        return case, fault, rule

    def _of_node(self, node: str) -> list[Case]:
        """Return the cases whose members are all of this node."""
        for case in self.cases[self._sorted_count :]:
            nodes = {member.node for member in case.members}
            if len(nodes) == 1:
                self._by_node.setdefault(nodes.pop(), []).append(case)
        self._sorted_count = len(self.cases)
        return self._by_node.get(node, [])

    def _join(self, fault: FaultFact, rules: Iterable[tuple[Rule, Predicate]]) -> bool:
        """Put a fault into the oldest case that the first fitting rule names."""
        for rule, predicate in rules:
            case = self._oldest(fault, rule, predicate)
            if case is not None:
                self._take(case, fault, rule)
                return True
        return False

    def _fits(self, rule: Rule, predicate: Predicate, fault: FaultFact, other: FaultFact) -> bool:
        is_near = abs(fault.opened_at - other.opened_at) <= rule.row.window_seconds
        return is_near and predicate.fits(fault, other, self._picture)

    def _take(self, case: Case, fault: FaultFact, rule: Rule) -> None:
        case.join(fault, rule.id)
        self._note(case, fault)

    def _oldest(self, fault: FaultFact, rule: Rule, predicate: Predicate) -> Case | None:
        """Return the oldest open case with a member that a rule joins to the fault.

        For a job that stands, the one that failed last before it.
        """
        found: list[Case] = []
        for key in seeks(predicate, fault, self._picture):
            for case, members in self._index.get((rule.row.name, key), {}).values():
                # The newest first: of a case of thousands it fits as a rule.
                if any(self._fits(rule, predicate, fault, m) for m in reversed(members)):
                    found.append(case)
        if fault.kind.startswith("job."):
            return min(found, key=lambda c: (_distance(c, fault), c.opened_at), default=None)
        return min(found, key=lambda case: case.opened_at, default=None)

    def _note(self, case: Case, fault: FaultFact) -> None:
        """Let later faults find this one."""
        for rule, predicate in self._rules.joining:
            for key in predicate.keys(fault, self._picture):
                cases = self._index.setdefault((rule.row.name, key), {})
                cases.setdefault(id(case), (case, []))[1].append(fault)

    def _pair_notes(self) -> None:
        """Let mere notes join what they confirm, or open an incident two by two."""
        pairs = self._rules.pairs
        waiting: list[FaultFact] = []
        for note in sorted(self._picture.notes, key=self._order):
            if self._join(note, pairs):
                continue
            partner = self._partner(note, waiting)
            if partner is None:
                waiting.append(note)
                continue
            rule, other = partner
            waiting.remove(other)
            case = Case.new(self._rules, rule.id)
            self._take(case, other, rule)
            self._take(case, note, rule)
            self.cases.append(case)

    def _partner(
        self, note: FaultFact, waiting: Iterable[FaultFact]
    ) -> tuple[Rule, FaultFact] | None:
        for rule, pair in self._rules.pairs:
            keys = set(pair.seeks(note, self._picture))
            for other in waiting:
                has_key = not keys.isdisjoint(pair.keys(other, self._picture))
                if has_key and self._fits(rule, pair, note, other):
                    return rule, other
        return None

    def _order(self, fault: FaultFact) -> tuple[int, int, float, int]:
        # What is nearest to the cause opens the incident, so that its consequences find it.
        rank, place = self._rules.precedence(fault.kind)
        return rank, place, fault.opened_at, fault.id

    def _resolved_by_node(self) -> dict[str, list[Case]]:
        found: dict[str, list[Case]] = {}
        for case in self.cases:
            if case.origin is not None and case.origin.is_resolved:
                for node in {member.node for member in case.members}:
                    found.setdefault(node, []).append(case)
        return found

    def _reopen(self, fault: FaultFact, former: dict[str, list[Case]]) -> bool:
        """Reopen the incident of a fault that has come back."""
        for case in former.get(fault.node, ()):
            origin = case.origin
            if origin is None or origin.resolved_at is None:
                continue
            is_soon = self._picture.now - origin.resolved_at <= self._settings.reopen_seconds
            if is_soon and any(_is_same(fault, member) for member in case.members):
                case.join(fault, case.cause)
                return True
        return False


def _distance(case: Case, fault: FaultFact) -> float:
    return min(abs(fault.began_at - member.began_at) for member in case.members)


def _is_same(fault: FaultFact, member: FaultFact) -> bool:
    same_place = (fault.node, fault.component) == (member.node, member.component)
    same_chip = fault.chip is not None and (fault.node, fault.chip) == (member.node, member.chip)
    return (same_place and fault.kind == member.kind) or same_chip
