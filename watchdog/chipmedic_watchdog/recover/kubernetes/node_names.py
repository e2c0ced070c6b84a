"""Which node an agent's name stands for, and what Kubernetes says of it."""

from __future__ import annotations

import re

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import NodeView
from chipmedic_watchdog.recover.kubernetes import isolation
from chipmedic_watchdog.recover.kubernetes.answers import Refused
from chipmedic_watchdog.recover.kubernetes.cluster import ALIVE, Cluster
from chipmedic_watchdog.recover.kubernetes.connection import readable
from chipmedic_watchdog.recover.kubernetes.objects import Node, items, read_node
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings

NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?")
LABEL_LONGEST = 63
"""The value of a label can be no longer; a longer name is the node's own."""
ALWAYS_THERE = ("DaemonSet", "Node")
"""Owners whose pods are on every node; they are no job."""


def present(cluster: Cluster, name: str) -> Node | None:
    """Return the node of a name in Kubernetes, or None: there is none of that name (any more)."""
    try:
        raw = cluster.node(name)
    except Refused as e:
        if e.status == 404:
            return None
        raise
    with readable(f"node {name}"):
        return read_node(raw)


def find(cluster: Cluster, settings: KubernetesSettings, name: str) -> Node:
    """Return the node that an agent names so: by our label, by its name, by its short name.

    Raises:
        DeliveryFailed: there is none, or two bear the label.
    """
    if not NAME.fullmatch(name):
        raise DeliveryFailed(f"{name!r} is no name of a node", is_permanent=True)
    label = settings.node_label
    if label and len(name) <= LABEL_LONGEST and (node := _labelled(cluster, f"{label}={name}")):
        return node
    for candidate in dict.fromkeys((name, name.partition(".")[0])):
        if node := present(cluster, candidate):
            return node
    raise DeliveryFailed(
        f"Kubernetes has no node {name}; where it has another name there, label it "
        f"{label or '(node_label)'}={name}",
        is_permanent=True,
    )


def _labelled(cluster: Cluster, selector: str) -> Node | None:
    page = cluster.nodes_page(labels=selector)
    with readable("list of nodes"):
        found = [read_node(raw) for raw in items(page)]
    if len(found) > 1:
        names = ", ".join(sorted(node.name for node in found))
        raise DeliveryFailed(f"{names}: all have the label {selector}", is_permanent=True)
    return found[0] if found else None


def view(cluster: Cluster, settings: KubernetesSettings, node: Node) -> NodeView:
    """Return what Kubernetes says of a node, under the name that its agent has."""
    by_whom = node.annotations.get(isolation.REASON)
    why = node.words + (f": {by_whom}" if by_whom else "")
    is_theirs = node.is_unschedulable and not by_whom
    is_meant = is_theirs and node.is_down and _is_empty(cluster, settings, node.name)
    return NodeView(
        node=node.labels.get(settings.node_label) or node.name,
        is_available=node.ready == "True" and not node.is_unschedulable,
        is_down=node.is_down,
        why=why,
        expected=why if is_meant else "",
    )


def _is_empty(cluster: Cluster, settings: KubernetesSettings, node: str) -> bool:
    """Whether no job's pod runs on a node; where that cannot be read, some may."""
    fields = f"spec.nodeName={node},{ALIVE}"
    try:
        return all(
            pod.owner is not None and pod.owner.kind in ALWAYS_THERE
            for namespace in settings.namespaces or ("",)
            for pod in cluster.pods(namespace, fields=fields)
        )
    except DeliveryFailed:
        return False
