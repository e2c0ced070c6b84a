"""The objects of the stand-in: versions, history, patches and selectors as Kubernetes has them."""

from __future__ import annotations

import copy
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Resource (`pods`, `jobs.batch`), namespace, name."""


def stamp(after_seconds: float = 0.0) -> str:
    """Return a time as Kubernetes writes it."""
    at = datetime.now(UTC) + timedelta(seconds=after_seconds)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Store:
    """All objects, under one lock."""

    objects: dict[Key, Object] = field(default_factory=dict)
    history: list[tuple[int, str, str, Object]] = field(default_factory=list)
    """Version, type of the event, resource, object."""
    version: int = 1000
    oldest: int = 0
    """A watch from an older version has expired."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, resource: str, raw: Object) -> Object:
        """Create or write an object whole."""
        with self.lock:
            metadata = raw["metadata"]
            key = (resource, metadata.get("namespace", ""), metadata["name"])
            kind = "MODIFIED" if key in self.objects else "ADDED"
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", stamp())
            self._record(kind, resource, raw)
            self.objects[key] = raw
            return raw

    def get(self, resource: str, name: str, namespace: str = "") -> Object | None:
        return self.objects.get((resource, namespace, name))

    def change(
        self, resource: str, name: str, change: Callable[[Object], None], namespace: str = ""
    ) -> Object:
        """Write an object as another client would."""
        with self.lock:
            raw = copy.deepcopy(self.objects[resource, namespace, name])
            change(raw)
            return self.put(resource, raw)

    def remove(self, resource: str, name: str, namespace: str = "") -> None:
        with self.lock:
            raw = self.objects.pop((resource, namespace, name), None)
            if raw is not None:
                self._record("DELETED", resource, raw)

    def all(self, resource: str, namespace: str = "") -> list[Object]:
        with self.lock:
            return [
                raw
                for (kind, where, _), raw in sorted(self.objects.items())
                if kind == resource and namespace in ("", where)
            ]

    def forget(self) -> None:
        """Compact the history: who watches from before must list again."""
        self.oldest = self.version

    def events(self, resource: str, after: int) -> Iterator[Object]:
        for version, kind, what, raw in self.history:
            if what == resource and version > after:
                yield {"type": kind, "object": raw}

    def _record(self, kind: str, resource: str, raw: Object) -> None:
        self.version += 1
        raw["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.version, kind, resource, copy.deepcopy(raw)))


def merged(target: Any, patch: Any) -> Any:
    """Return a value after a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def merged_conditions(raw: Object, patch: Object) -> Object:
    """Return a node after a strategic merge patch of its status: conditions merge by their type."""
    result = copy.deepcopy(raw)
    conditions = result.setdefault("status", {}).setdefault("conditions", [])
    for new in patch.get("status", {}).get("conditions", []):
        present = next((old for old in conditions if old["type"] == new["type"]), None)
        if present is None:
            conditions.append(new)
        else:
            present.update(new)
    return result


def chosen(raw: Object, labels: str, fields: str) -> bool:
    """Whether the selectors of a list choose an object."""
    present = raw["metadata"].get("labels", {})
    for term in filter(None, labels.split(",")):
        key, _, value = term.partition("=")
        if present.get(key) != value:
            return False
    for term in filter(None, fields.split(",")):
        found = re.fullmatch(r"([\w.]+)(!?=)(.*)", term)
        assert found is not None, term
        value = raw
        for part in found[1].split("."):
            value = value.get(part, {})
        if ((value or "") == found[3]) != (found[2] == "="):
            return False
    return True
