"""What a node that we took out looks like, whose doing it is, and how that is undone. Pure.

One merge patch takes a node out: cordon, taint and our annotations together, under the node's
`resourceVersion`, so that a cordon by somebody else in between makes the patch fail instead of
making theirs ours. It is undone as long as the annotation says that it is this very isolation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chipmedic_watchdog.recover.kubernetes.objects import Node

REASON = "chipmedic.dev/isolated-by"
"""Annotation: our reason in full, `chipmedic:<incident> ...`; the mark of what is ours."""
SINCE = "chipmedic.dev/isolated-at"
BEFORE = "chipmedic.dev/before"
"""Annotation: what the node was before, for people; the watchdog's store has it as well."""
ANNOTATIONS = (REASON, SINCE, BEFORE)
TAG = "chipmedic:"
FIELD_MANAGER = "chipmedic"
"""Our name in `managedFields`: who wrote a field."""


def is_ours(node: Node, reason: str) -> bool:
    """Whether it was this very isolation that marked the node last."""
    is_marked = bool(reason) and node.annotations.get(REASON) == reason
    # `kubectl uncordon` and a later `kubectl cordon` leave our annotation where it is.
    return is_marked and node.cordoned_by in ("", FIELD_MANAGER)


def is_held(node: Node, reason: str) -> bool:
    """Whether our isolation holds: a cordon that somebody has taken back is over."""
    return node.is_unschedulable and is_ours(node, reason)


def who_cordoned(node: Node) -> str:
    """Say as well as one can who has taken a node out that is not ours."""
    if node.cordoned_by not in ("", FIELD_MANAGER):
        return node.cordoned_by
    return node.annotations.get(REASON) or "somebody, without a word"


def taking_out(node: Node, reason: str, *, taint: str, now: float) -> dict[str, Any]:
    """Return the patch that takes a node out."""
    marks = {
        REASON: reason,
        SINCE: datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        BEFORE: json.dumps({"unschedulable": node.is_unschedulable}),
    }
    spec: dict[str, Any] = {"unschedulable": True}
    if taint:
        mark = {"key": taint, "value": taint_value(reason), "effect": "NoSchedule"}
        spec["taints"] = [*_foreign_taints(node, taint), mark]
    return {"metadata": {"resourceVersion": node.version, "annotations": marks}, "spec": spec}


def giving_back(node: Node, *, taint: str) -> dict[str, Any]:
    """Return the patch that undoes `taking_out`, and nothing else; null takes a key away."""
    spec: dict[str, Any] = {"unschedulable": None}
    if taint:
        spec["taints"] = _foreign_taints(node, taint) or None
    return {
        "metadata": {
            "resourceVersion": node.version,
            "annotations": dict.fromkeys(ANNOTATIONS),
        },
        "spec": spec,
    }


def left_over(node: Node, *, taint: str) -> dict[str, Any] | None:
    """Return the patch that takes our marks off a node somebody uncordoned; None: there are none.

    Their uncordon ends our repair; a taint of ours would go on to keep work off.
    """
    marked = [key for key in ANNOTATIONS if key in node.annotations]
    foreign = _foreign_taints(node, taint) if taint else list(node.taints)
    if not marked and len(foreign) == len(node.taints):
        return None
    return {
        "metadata": {"resourceVersion": node.version, "annotations": dict.fromkeys(marked)},
        "spec": {"taints": foreign or None},
    }


def condition(kind: str, reason: str, *, is_out: bool, now: float) -> dict[str, str]:
    """Return the node condition that says whether we hold the node out."""
    at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": kind,
        "status": "True" if is_out else "False",
        "reason": "IsolatedByChipmedic" if is_out else "NotIsolated",
        "message": reason if is_out else "given back by chipmedic",
        "lastTransitionTime": at,
        "lastHeartbeatTime": at,
    }


def taint_value(reason: str) -> str:
    """Return the incident of a reason in the letters that the value of a taint may have."""
    word = reason.split()[0].removeprefix(TAG) if reason.split() else ""
    return re.sub(r"[^-A-Za-z0-9_.]", "-", word)[:63].strip("-_.")


def _foreign_taints(node: Node, taint: str) -> list[Mapping[str, Any]]:
    return [found for found in node.taints if found.get("key") != taint]
