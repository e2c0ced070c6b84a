"""Faults → incidents: a pure function over a picture of the cluster.

Promises: every open fault of severity warning and above is in exactly one incident soon; the same
picture gives the same answer; INFO opens nothing. What belongs together is decided by the rules of
`rules.py` in this order: the same fault come back, silence of a group, one chip, one code on
several chips of a job, one job with its root, one condition on one node, a consequence on one node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents import rules
from chipmedic_watchdog.incidents.case import Case
from chipmedic_watchdog.incidents.picture import (
    NODE_UNREACHABLE,
    FaultFact,
    IncidentChange,
    Picture,
)
from chipmedic_watchdog.incidents.rules import CRITICAL, Rule
from chipmedic_watchdog.incidents.silence import group_silence


def correlate(picture: Picture, settings: IncidentSettings) -> list[IncidentChange]:
    """Return what is to change, incidents of the store first, new ones after them."""
    work = _Work(picture, settings)
    work.place(picture.faults)
    changes = [case.change(picture) for case in work.cases]
    return [change for change in changes if change is not None]


class _Work:
    def __init__(self, picture: Picture, settings: IncidentSettings) -> None:
        self._picture = picture
        self._settings = settings
        self.cases = [Case.of(incident) for incident in picture.incidents if incident.members]
        self._by_node: dict[str, list[Case]] = {}
        self._by_job: dict[str, list[Case]] = {}
        for case in self.cases:
            for member in case.members:
                self._index(case, member)

    def place(self, faults: Iterable[FaultFact]) -> None:
        """Give every fault its incident, or let it wait for a better explanation."""
        left = [fault for fault in faults if not self._join_former(fault)]
        silent = [fault for fault in left if fault.kind == NODE_UNREACHABLE]
        alone = group_silence(silent, self.cases, self._picture, self._settings)
        others = [fault for fault in left if fault.kind != NODE_UNREACHABLE]
        for fault in sorted([*others, *alone], key=_order):
            self._place_one(fault)

    def _place_one(self, fault: FaultFact) -> None:
        for case in self._near(fault):
            rule = self._rule(fault, case)
            if rule is not None:
                case.join(fault, rule.id)
                self._index(case, fault)
                return
        age_seconds = self._picture.now - fault.opened_at
        if fault.severity < CRITICAL and age_seconds < self._settings.settle_seconds:
            return
        case = Case()
        case.join(fault, rules.SINGLE.id)
        self.cases.append(case)
        self._index(case, fault)

    def _join_former(self, fault: FaultFact) -> bool:
        """Reopen the incident of a fault that has come back."""
        for case in self._by_node.get(fault.node, ()):
            origin = case.origin
            if origin is None or not origin.is_resolved or origin.resolved_at is None:
                continue
            is_soon = self._picture.now - origin.resolved_at <= self._settings.reopen_seconds
            if is_soon and any(_is_same(fault, member) for member in case.members):
                case.join(fault, case.cause)
                return True
        return False

    def _near(self, fault: FaultFact) -> Iterator[Case]:
        """Yield the open cases that share a node or a job with the fault, oldest first.

        For a job that stands, what failed last before it goes first.
        """
        found = {id(case): case for case in self._by_node.get(fault.node, ()) if case.is_open}
        for job in self._picture.jobs_of(fault):
            found |= {id(case): case for case in self._by_job.get(job, ()) if case.is_open}
        is_hang = fault.kind.startswith("job.")
        yield from sorted(
            found.values(),
            key=lambda case: (_distance(case, fault) if is_hang else 0.0, case.opened_at),
        )

    def _rule(self, fault: FaultFact, case: Case) -> Rule | None:
        """Return the first rule by which a fault belongs to a case."""
        for rule, fits in (
            (rules.CHIP, _is_same_chip),
            (rules.SOFTWARE, self._is_same_code),
            (rules.JOB, _is_same_job),
            (rules.JOB_ROOT, self._is_root),
            (rules.NODE_KIND, _is_same_kind),
            (rules.CONSEQUENCE, _is_consequence),
        ):
            window_seconds = rule.window_seconds
            if rule is rules.SOFTWARE:
                window_seconds = self._settings.software_window_seconds
            for member in case.members:
                is_near = abs(fault.opened_at - member.opened_at) <= window_seconds
                if is_near and fits(fault, member):
                    return rule
        return None

    def _is_same_code(self, fault: FaultFact, member: FaultFact) -> bool:
        return (
            fault.chip is not None
            and member.chip is not None
            and (fault.node, fault.chip) != (member.node, member.chip)
            and not fault.kind.startswith(rules.PHYSICAL)
            and bool(set(fault.codes) & set(member.codes))
            and bool(self._picture.jobs_of(fault) & self._picture.jobs_of(member))
        )

    def _is_root(self, fault: FaultFact, member: FaultFact) -> bool:
        """Whether one of the two is a job that stands still and the other explains it."""
        return self._explains(fault, member) or self._explains(member, fault)

    def _explains(self, root: FaultFact, hang: FaultFact) -> bool:
        if not hang.kind.startswith("job.") or hang.job is None or root.kind.startswith("job."):
            return False
        # A job that moves again needs no cause, and what was over before it stood is none.
        if not root.meets(hang):
            return False
        # A job that was moved off a failed chip and hangs later, hangs for a reason of its own.
        if hang.job not in self._picture.jobs_of(root):
            return False
        if root.severity >= CRITICAL:
            return root.kind.startswith(rules.CAN_STOP_A_JOB)
        distance = abs(root.opened_at - hang.opened_at)
        return (
            root.kind.startswith(rules.CAN_STOP_A_JOB_AS_WARNING)
            and distance <= rules.WARNING_ROOT_WINDOW_SECONDS
        )

    def _index(self, case: Case, fault: FaultFact) -> None:
        cases = self._by_node.setdefault(fault.node, [])
        if case not in cases:
            cases.append(case)
        for job in self._picture.jobs_of(fault):
            cases = self._by_job.setdefault(job, [])
            if case not in cases:
                cases.append(case)


def _distance(case: Case, fault: FaultFact) -> float:
    return min(abs(fault.began_at - member.began_at) for member in case.members)


def _order(fault: FaultFact) -> tuple[int, int, float, int]:
    # What is nearest to the cause opens the incident, so that its consequences find it.
    rank, place = rules.precedence(fault.kind)
    return rank, place, fault.opened_at, fault.id


def _is_same(fault: FaultFact, member: FaultFact) -> bool:
    same_place = (fault.node, fault.component) == (member.node, member.component)
    return (same_place and fault.kind == member.kind) or _is_same_chip(fault, member)


def _is_same_chip(fault: FaultFact, member: FaultFact) -> bool:
    return fault.chip is not None and (fault.node, fault.chip) == (member.node, member.chip)


def _is_same_job(fault: FaultFact, member: FaultFact) -> bool:
    return (
        fault.kind.startswith("job.")
        and member.kind.startswith("job.")
        and fault.job is not None
        and fault.job == member.job
    )


def _is_same_kind(fault: FaultFact, member: FaultFact) -> bool:
    is_part = not fault.kind.startswith(("job.", "app."))
    return is_part and (fault.node, fault.kind) == (member.node, member.kind)


def _is_consequence(fault: FaultFact, member: FaultFact) -> bool:
    if fault.node != member.node:
        return False
    return _follows(fault, member) or _follows(member, fault)


def _follows(later: FaultFact, cause: FaultFact) -> bool:
    return (
        later.kind.startswith(rules.CONSEQUENCES)
        and cause.severity >= CRITICAL
        and not cause.kind.startswith(("job.", "app."))
    )
