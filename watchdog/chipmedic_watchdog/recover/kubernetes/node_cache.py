"""All nodes of the cluster, without asking for all of them each time.

A list of 10,000 nodes is about 100 MB. It is asked for once; then a watch that ends after a second
tells what has changed. No thread stays behind, and nobody reads a cache that stands still: whoever
asks waits for the changes up to now.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

from chipmedic_watchdog.recover.kubernetes.answers import Refused
from chipmedic_watchdog.recover.kubernetes.cluster import Cluster
from chipmedic_watchdog.recover.kubernetes.connection import readable
from chipmedic_watchdog.recover.kubernetes.objects import Node, items, mapping, read_node

GONE = 410
"""The server has forgotten the version that we know: all is to be listed again."""
RELIST_SECONDS = 60.0
"""After so long without a question the changes cost more than the list."""
LISTS = 2
"""A list that takes too long loses its place; then it is begun again, once."""


class NodeCache:
    """The nodes by name."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._version = ""
        self._at = float("-inf")

    def nodes(self) -> list[Node]:
        """Return all nodes as they are now.

        Raises:
            DeliveryFailed: they cannot be read; a part of them is never told for all.
        """
        with self._lock:
            is_recent = self._clock() - self._at < RELIST_SECONDS
            # A cluster of one page is listed sooner than a watch ends.
            may_watch = len(self._nodes) > self._cluster.page and is_recent
            if not (may_watch and self._catch_up()):
                self._list()
            self._at = self._clock()
            return list(self._nodes.values())

    def _list(self) -> None:
        self._version = ""
        for attempt in range(1, LISTS + 1):
            try:
                nodes, version = self._pages()
            except Refused as e:
                if e.status != GONE or attempt == LISTS:
                    raise
            else:
                self._nodes, self._version = nodes, version
                return

    def _pages(self) -> tuple[dict[str, Node], str]:
        nodes: dict[str, Node] = {}
        token = ""
        while True:
            page = self._cluster.nodes_page(token=token)
            with readable("list of nodes"):
                nodes |= {node.name: node for node in map(read_node, items(page))}
                metadata = mapping(page.get("metadata"), "metadata")
            token = str(metadata.get("continue") or "")
            if not token:
                return nodes, str(metadata.get("resourceVersion") or "")

    def _catch_up(self) -> bool:
        """Apply what has changed; False where that cannot be told and all must be listed."""
        if not self._version:
            return False
        nodes, version = dict(self._nodes), self._version
        try:
            for line in self._cluster.node_events(version):
                with readable("watch of nodes"):
                    kind, raw = _event(line)
                    if kind == "ERROR":
                        return False
                    version = _version(raw) or version
                    if kind != "BOOKMARK":
                        _apply(nodes, kind, read_node(raw))
        except Refused as e:
            if e.status != GONE:
                raise
            return False
        self._nodes, self._version = nodes, version
        return True


def _event(line: bytes) -> tuple[str, object]:
    """Take one line of a watch apart.

    Raises:
        ValueError: it is none.
    """
    event = mapping(json.loads(line), "event")
    return str(event.get("type")), event.get("object")


def _apply(nodes: dict[str, Node], kind: str, node: Node) -> None:
    if kind == "DELETED":
        nodes.pop(node.name, None)
    else:
        nodes[node.name] = node


def _version(raw: object) -> str:
    metadata = mapping(mapping(raw, "object").get("metadata"), "metadata")
    return str(metadata.get("resourceVersion") or "")
