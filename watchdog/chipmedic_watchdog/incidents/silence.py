"""Silence of many nodes: one cause, found in what the nodes have in common. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from chipmedic_watchdog.incidents.case import Case, common_labels
from chipmedic_watchdog.incidents.picture import FaultFact, Picture
from chipmedic_watchdog.incidents.rules import RuleSet

COVER_RATIO = 0.8
"""A group that holds this share of the silent nodes explains them."""

Label = tuple[str, str]


def group_silence(
    faults: Sequence[FaultFact], cases: list[Case], picture: Picture, rules: RuleSet
) -> list[FaultFact]:
    """Put silent nodes with something in common into one case; returns the faults left over.

    Nodes that are silent and not yet judged count too: the verdicts of one lost switch come spread
    over a second, and the first of them must not become an incident of its own.
    """
    recent = [case for case in cases if _is_recent(case, picture.now, rules)]
    left = _join_groups(list(faults), recent, picture, rules)
    sizes = _count(picture.labels, picture, rules) if left else Counter[Label]()
    while left:
        fresh = {fault.node for fault in left}
        silent = fresh | picture.silent | _nodes(recent)
        label = _explanation(silent, fresh, sizes, picture, rules)
        if label is not None and rules.group is not None:
            inside = [f for f in left if picture.labels.get(f.node, {}).get(label[0]) == label[1]]
            cause = rules.group[0].id
        elif rules.fleet is not None and _is_fleet(len(silent), picture, rules):
            inside, cause = left, rules.fleet[0].id
        else:
            break
        case = _base(recent, picture, label) or Case.new(rules, cause)
        if case not in cases:
            cases.append(case)
            recent.append(case)
        for fault in inside:
            case.join(fault, cause)
        placed = {fault.id for fault in inside}
        left = [fault for fault in left if fault.id not in placed]
    return left


def _join_groups(
    faults: list[FaultFact], recent: list[Case], picture: Picture, rules: RuleSet
) -> list[FaultFact]:
    """Let late nodes join the group that is known already."""
    left = []
    known = [(case, _labels_of(case, picture, rules)) for case in recent]
    for fault in faults:
        own = picture.labels.get(fault.node, {})
        for case, labels in known:
            if labels is not None and (not labels or labels.items() & own.items()):
                case.join(fault, case.cause)
                break
        else:
            left.append(fault)
    return left


def _labels_of(case: Case, picture: Picture, rules: RuleSet) -> dict[str, str] | None:
    """Return what a late node must share with a case; nothing for a fleet, None: it takes none."""
    if rules.fleet is not None and case.rule is rules.fleet[0]:
        return {}
    if rules.group is None or case.rule is not rules.group[0]:
        return None
    common = common_labels(case, picture)
    shared = {name: common[name] for name in rules.group[1].labels if name in common}
    return shared or None


def _explanation(
    silent: set[str],
    fresh: set[str],
    sizes: Counter[Label],
    picture: Picture,
    rules: RuleSet,
) -> Label | None:
    """Return the label that explains the silence best, or None."""
    if rules.group is None:
        return None
    group = rules.group[1]
    counts = _count(silent, picture, rules)
    candidates = [
        label
        for label, count in counts.items()
        if (count >= group.nodes or (count >= 2 and count >= group.ratio * sizes[label]))
        and any(picture.labels.get(node, {}).get(label[0]) == label[1] for node in fresh)
    ]
    if not candidates:
        return None
    # The group that holds most of the silence; of equals the smaller one, for it says more.
    best = min(candidates, key=lambda label: (-counts[label], sizes[label], label))
    covers = counts[best] >= COVER_RATIO * len(silent)
    if not covers and _is_fleet(len(silent), picture, rules):
        return None
    return best


def _count(nodes: Iterable[str], picture: Picture, rules: RuleSet) -> Counter[Label]:
    counts = Counter[Label]()
    known = [picture.labels[node] for node in nodes if node in picture.labels]
    # Name by name: of ten thousand nodes this takes a few milliseconds.
    for name in () if rules.group is None else rules.group[1].labels:
        values = Counter(labels[name] for labels in known if name in labels)
        counts.update({(name, value): count for value, count in values.items()})
    return counts


def _is_fleet(count: int, picture: Picture, rules: RuleSet) -> bool:
    if rules.fleet is None:
        return False
    fleet = rules.fleet[1]
    return count >= fleet.nodes or (count >= 3 and count >= fleet.ratio * picture.node_count)


def _is_recent(case: Case, now: float, rules: RuleSet) -> bool:
    if not case.is_open or not case.is_silence:
        return False
    newest = max(member.opened_at for member in case.silent_members)
    return now - newest <= rules.silence_seconds


def _nodes(cases: list[Case]) -> set[str]:
    return {m.node for case in cases for m in case.silent_members if not m.is_cleared}


def _base(recent: list[Case], picture: Picture, label: Label | None) -> Case | None:
    """Return the case that the nodes join: the oldest one that the label explains whole."""
    for case in sorted(recent, key=lambda case: case.opened_at):
        if label is None or all(
            picture.labels.get(m.node, {}).get(label[0]) == label[1] for m in case.silent_members
        ):
            return case
    return None
