"""Nodes and pods as the API server tells them, as far as we read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Raw = Mapping[str, Any]
"""A part of an answer of the API server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node."""

    name: str
    version: str
    """`resourceVersion`: changes with each write; a patch that names an old one is refused."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    is_unschedulable: bool = False
    taints: tuple[Mapping[str, Any], ...] = ()
    ready: str = ""
    """`True`, `False`, `Unknown` (the kubelet is silent); empty: nobody has ever said."""
    ready_why: str = ""
    cordoned_by: str = ""
    """Who wrote `spec.unschedulable` last, as `managedFields` has it; empty: unknown."""

    @property
    def is_down(self) -> bool:
        """Kubernetes itself cannot use it. A node without power is Unknown, not False."""
        return self.ready in ("False", "Unknown")

    @property
    def answers(self) -> bool:
        """Its kubelet says something, be it that it is not ready: it can end processes."""
        return self.ready in ("True", "False")

    @property
    def words(self) -> str:
        """The node's state on one line."""
        words = f"Ready={self.ready or 'never reported'}"
        if self.ready != "True" and self.ready_why:
            words += f" ({self.ready_why})"
        return words + (", cordoned" if self.is_unschedulable else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What controls an object: who starts it again."""

    api_version: str
    kind: str
    name: str
    uid: str
    part: str = ""
    """Which of its groups, where each is a job of its own: `0` of a LeaderWorkerSet."""

    @property
    def title(self) -> str:
        """What people call the job: its name, with the group."""
        return f"{self.name}-{self.part}" if self.part else self.name

    @property
    def group(self) -> str:
        """`batch` of `batch/v1`; the core group is empty."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """`v1` of `batch/v1`."""
        return self.api_version.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod."""

    namespace: str
    name: str
    uid: str
    phase: str
    node: str = ""
    """Empty: not scheduled yet."""
    owner: Owner | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    deleted_at: float | None = None
    """When its grace is over; None: it is to stay."""
    waits_for: str = ""
    """Why it does not run yet, as the scheduler or the kubelet says."""

    @property
    def is_over(self) -> bool:
        """Its processes have ended; it holds nothing any more."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def runs(self) -> bool:
        """It runs and is to stay."""
        return self.phase == "Running" and self.deleted_at is None

    @property
    def address(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"


def read_node(raw: object) -> Node:
    """Read one node.

    Raises:
        ValueError: it is none.
    """
    node = mapping(raw, "node")
    metadata = mapping(node.get("metadata"), "metadata")
    spec, status = mapping(node.get("spec"), "spec"), mapping(node.get("status"), "status")
    ready = next((c for c in _maps(status, "conditions") if c.get("type") == "Ready"), {})
    return Node(
        name=_name(metadata, "name"),
        version=_text(metadata, "resourceVersion"),
        labels=_texts(metadata, "labels"),
        annotations=_texts(metadata, "annotations"),
        is_unschedulable=spec.get("unschedulable") is True,
        taints=tuple(_maps(spec, "taints")),
        ready=_text(ready, "status"),
        ready_why=_text(ready, "reason"),
        cordoned_by=_writer_of(metadata, "spec", "unschedulable"),
    )


def read_pod(raw: object) -> Pod:
    """Read one pod.

    Raises:
        ValueError: it is none.
    """
    pod = mapping(raw, "pod")
    metadata = mapping(pod.get("metadata"), "metadata")
    spec, status = mapping(pod.get("spec"), "spec"), mapping(pod.get("status"), "status")
    deleted = _text(metadata, "deletionTimestamp")
    return Pod(
        namespace=_name(metadata, "namespace"),
        name=_name(metadata, "name"),
        uid=_name(metadata, "uid"),
        phase=_text(status, "phase") or "Unknown",
        node=_text(spec, "nodeName"),
        owner=read_owner(metadata),
        labels=_texts(metadata, "labels"),
        annotations=_texts(metadata, "annotations"),
        deleted_at=read_time(deleted) if deleted else None,
        waits_for=_waits_for(status),
    )


def read_owner(metadata: Raw) -> Owner | None:
    """Return the controller of an object, or None: nothing starts it again.

    Raises:
        ValueError: the reference is none.
    """
    for reference in _maps(metadata, "ownerReferences"):
        if reference.get("controller") is True:
            return Owner(
                api_version=_name(reference, "apiVersion"),
                kind=_name(reference, "kind"),
                name=_name(reference, "name"),
                uid=_name(reference, "uid"),
            )
    return None


def read_time(text: str) -> float:
    """Return UNIX seconds of a time as Kubernetes writes it.

    Raises:
        ValueError: it is none.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"a time without its zone: {text[:40]!r}")
    return at.timestamp()


def _writer_of(metadata: Raw, part: str, name: str) -> str:
    """Return the manager of a field, where the server keeps book of it."""
    for entry in _maps(metadata, "managedFields"):
        fields = mapping(entry.get("fieldsV1"), "fieldsV1")
        if f"f:{name}" in mapping(fields.get(f"f:{part}"), part):
            return _text(entry, "manager")
    return ""


def _waits_for(status: Raw) -> str:
    """Return why a pod does not run: it has no node, or a container cannot begin."""
    for condition in _maps(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason, message = _text(condition, "reason"), _text(condition, "message")
            return f"{reason}: {message}"[:300].strip(": ")
    for container in _maps(status, "containerStatuses"):
        state = container.get("state")
        waiting = state.get("waiting") if isinstance(state, Mapping) else None
        if isinstance(waiting, Mapping) and waiting.get("reason"):
            return f"{waiting['reason']}: {waiting.get('message') or ''}"[:300].strip(": ")
    return ""


def mapping(value: object, what: str) -> Raw:
    """Return an object of an answer; one that is left out is empty.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is no object: {str(value)[:100]!r}")  # noqa: TRY004
    return value


def items(raw: object, key: str = "items") -> Sequence[object]:
    """Return a list of an answer; one that is left out is empty.

    Raises:
        ValueError: it is something else.
    """
    found = mapping(raw, "answer").get(key)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise ValueError(f"{key} is no list: {str(found)[:100]!r}")  # noqa: TRY004
    return found


def _maps(raw: Raw, key: str) -> list[Raw]:
    return [mapping(item, key) for item in items(raw, key)]


def _text(raw: Raw, key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text: {str(value)[:100]!r}")  # noqa: TRY004
    return value


def _name(raw: Raw, key: str) -> str:
    if not (text := _text(raw, key)):
        raise ValueError(f"it has no {key}")
    return text


def _texts(raw: Raw, key: str) -> dict[str, str]:
    return {str(name): str(text) for name, text in mapping(raw.get(key), key).items()}
