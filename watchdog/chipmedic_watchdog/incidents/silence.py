"""Silence of many nodes: one cause, found in what the nodes have in common. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.case import Case, common_labels
from chipmedic_watchdog.incidents.picture import FaultFact, Picture
from chipmedic_watchdog.incidents.rules import FLEET, GROUP

COVER_RATIO = 0.8
"""A group that holds this share of the silent nodes explains them."""

Label = tuple[str, str]


def group_silence(
    faults: Sequence[FaultFact], cases: list[Case], picture: Picture, settings: IncidentSettings
) -> list[FaultFact]:
    """Put silent nodes with something in common into one case; returns the faults left over.

    Nodes that are silent and not yet judged count too: the verdicts of one lost switch come spread
    over a second, and the first of them must not become an incident of its own.
    """
    left = list(faults)
    recent = [case for case in cases if _is_recent(case, picture.now, settings)]
    left = _join_groups(left, recent, picture, settings)
    sizes = _count(picture.labels, picture, settings) if left else Counter[Label]()
    while left:
        fresh = {fault.node for fault in left}
        silent = fresh | picture.silent | _nodes(recent)
        label = _explanation(silent, fresh, sizes, picture, settings)
        if label is not None:
            inside = [f for f in left if picture.labels.get(f.node, {}).get(label[0]) == label[1]]
            cause = GROUP.id
        elif _is_fleet(len(silent), picture, settings):
            inside, cause = left, FLEET.id
        else:
            break
        case = _base(inside, recent, picture, label)
        if case not in cases:
            cases.append(case)
            recent.append(case)
        for fault in inside:
            case.join(fault, cause)
        placed = {fault.id for fault in inside}
        left = [fault for fault in left if fault.id not in placed]
    return left


def _join_groups(
    faults: list[FaultFact], recent: list[Case], picture: Picture, settings: IncidentSettings
) -> list[FaultFact]:
    """Let late nodes join the group that is known already."""
    left = []
    shared = [common_labels(case, picture) for case in recent]
    for fault in faults:
        own = picture.labels.get(fault.node, {})
        for case, labels in zip(recent, shared, strict=True):
            is_inside = any(own.get(n) == labels[n] for n in settings.group_labels if n in labels)
            if case.cause == FLEET.id or (case.cause == GROUP.id and is_inside):
                case.join(fault, case.cause)
                break
        else:
            left.append(fault)
    return left


def _explanation(
    silent: set[str],
    fresh: set[str],
    sizes: Counter[Label],
    picture: Picture,
    settings: IncidentSettings,
) -> Label | None:
    """Return the label that explains the silence best, or None."""
    counts = _count(silent, picture, settings)
    candidates = [
        label
        for label, count in counts.items()
        if (count >= settings.group_nodes or _is_share(count, sizes[label], settings))
        and any(picture.labels.get(node, {}).get(label[0]) == label[1] for node in fresh)
    ]
    if not candidates:
        return None
    # The group that holds most of the silence; of equals the smaller one, for it says more.
    best = min(candidates, key=lambda label: (-counts[label], sizes[label], label))
    covers = counts[best] >= COVER_RATIO * len(silent)
    if not covers and _is_fleet(len(silent), picture, settings):
        return None
    return best


def _count(nodes: Iterable[str], picture: Picture, settings: IncidentSettings) -> Counter[Label]:
    counts = Counter[Label]()
    for node in nodes:
        labels = picture.labels.get(node, {})
        counts.update((n, labels[n]) for n in settings.group_labels if n in labels)
    return counts


def _is_share(count: int, size: int, settings: IncidentSettings) -> bool:
    return count >= 2 and count >= settings.group_ratio * size


def _is_fleet(count: int, picture: Picture, settings: IncidentSettings) -> bool:
    if count >= settings.fleet_nodes:
        return True
    return count >= 3 and count >= settings.fleet_ratio * picture.node_count


def _is_recent(case: Case, now: float, settings: IncidentSettings) -> bool:
    if not case.is_open or not case.members or not case.is_silence:
        return False
    newest = max(member.opened_at for member in case.members)
    return now - newest <= settings.group_window_seconds


def _nodes(cases: list[Case]) -> set[str]:
    return {m.node for case in cases for m in case.members if not m.is_cleared}


def _base(
    inside: list[FaultFact], recent: list[Case], picture: Picture, label: Label | None
) -> Case:
    """Return the case that the nodes join: the oldest single one among them, or a new one."""
    for case in sorted(recent, key=lambda case: case.opened_at):
        of_group = label is None or all(
            picture.labels.get(m.node, {}).get(label[0]) == label[1] for m in case.members
        )
        if of_group:
            return case
    return Case(members=[], cause=GROUP.id if inside and label else FLEET.id)
