"""Nodes and pods are read as far as they are told; what is none is refused, whatever it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.recover.kubernetes import isolation
from chipmedic_watchdog.recover.kubernetes.answers import refused
from chipmedic_watchdog.recover.kubernetes.objects import Node, Pod, read_node, read_pod, read_time

KEYS = st.sampled_from([
    "metadata", "spec", "status", "name", "uid", "namespace", "labels", "annotations", "conditions",
    "type", "reason", "taints", "ownerReferences", "controller", "apiVersion", "kind", "phase",
    "deletionTimestamp", "managedFields", "fieldsV1", "f:spec", "containerStatuses", "state",
    "waiting", "message",
])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(["Ready", "x", "PodScheduled"])
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


def pod(**parts: Any) -> dict[str, Any]:
    metadata = {"namespace": "t", "name": "p", "uid": "u"} | parts.pop("metadata", {})
    return {"metadata": metadata, **parts}


@pytest.mark.parametrize("read", [read_node, read_pod])
@given(raw=JSON)
def test_any_answer_is_an_object_or_none(read: Callable[[object], Node | Pod], raw: object) -> None:
    try:
        found = read(raw)
    except ValueError:
        return
    assert found.name
    if isinstance(found, Node):
        assert not (found.is_down and found.ready == "True")
        assert found.is_down or found.answers or found.ready not in ("False", "Unknown")
    else:
        assert found.deleted_at is None or math.isfinite(found.deleted_at)
        assert not (found.runs and found.is_over)
        assert found.namespace, "a pod without one cannot be named to the server"
        assert found.uid, "nor be told from its successor"


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    try:
        at = read_time(text)
    except ValueError:
        return
    assert math.isfinite(at)


@given(st.integers(100, 599), st.text(max_size=80), st.text(max_size=8))
def test_any_refusal_can_be_told(status: int, body: str, wait: str) -> None:
    told = refused("it", status, body, {"retry-after": wait})
    assert str(told).startswith(f"it: {status} ")
    assert 0 <= told.wait_seconds < 100_000


@given(st.text(max_size=120))
def test_any_reason_makes_the_value_of_a_taint(reason: str) -> None:
    value = isolation.taint_value(reason)
    assert len(value) <= 63
    assert all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in value)
    assert value[:1].isalnum() or value == ""
    assert value[-1:].isalnum() or value == ""


def test_what_is_left_out_is_empty() -> None:
    node = read_node({"metadata": {"name": "n1"}})
    assert (node.is_unschedulable, node.ready, node.taints, node.answers) == (False, "", (), False)
    found = read_pod(pod())
    assert (found.phase, found.node, found.owner, found.deleted_at) == ("Unknown", "", None, None)


def test_an_owner_is_the_controller_and_no_other() -> None:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"},
        {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "2", "controller": True},
    ]
    owner = read_pod(pod(metadata={"ownerReferences": references})).owner
    assert owner is not None
    assert (owner.group, owner.version, owner.kind, owner.uid) == ("batch", "v1", "Job", "2")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({}, ""),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, ""),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                             "message": "0/3 nodes"}]},
            "Unschedulable: 0/3 nodes",
        ),
        ({"containerStatuses": [{"state": {"running": {}}}]}, ""),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "ImagePullBackOff",
        ),
    ],
)  # fmt: skip
def test_what_a_pod_waits_for(status: dict[str, Any], words: str) -> None:
    assert read_pod(pod(status=status)).waits_for == words
