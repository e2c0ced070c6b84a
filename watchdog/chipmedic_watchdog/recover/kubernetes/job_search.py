"""Finds the job that a pod belongs to: what controls it, its pods, and what it would do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from chipmedic.errors import DeliveryFailed, JobGone
from chipmedic_watchdog.recover.kubernetes import owners
from chipmedic_watchdog.recover.kubernetes.answers import Refused
from chipmedic_watchdog.recover.kubernetes.cluster import ALIVE, Cluster
from chipmedic_watchdog.recover.kubernetes.connection import readable
from chipmedic_watchdog.recover.kubernetes.judges import Prospect
from chipmedic_watchdog.recover.kubernetes.objects import Owner, Pod, Raw, mapping, read_owner
from chipmedic_watchdog.recover.kubernetes.owners import JobAddress, OwnerKind
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings

PREFIX = "kubernetes:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A job as it is now."""

    pod: Pod
    """The one that was looked for."""
    owner: Owner
    kind: OwnerKind
    raw: Raw
    """The owner as the API server tells it."""
    labels: str
    """Selector that finds the pods."""
    pods: Sequence[Pod]
    """Those that have a node and have not ended. One without a node runs nothing: it is a new one,
    made by the owner already."""

    @property
    def address(self) -> str:
        """Kind, namespace and name."""
        return f"{self.owner.kind} {self.pod.namespace}/{self.owner.title}"

    @property
    def staying(self) -> list[Pod]:
        """The pods that nobody has told to end."""
        return [pod for pod in self.pods if pod.deleted_at is None]

    def on(self, nodes: Collection[str]) -> list[Pod]:
        """Return the pods on these nodes."""
        return [pod for pod in self.pods if pod.node in nodes]

    def prospect(self, pods: Sequence[Pod]) -> Prospect:
        """Return what the owner would make of the eviction of these pods."""
        with readable(self.address):
            return self.kind.judge(self.raw, pods)


class JobSearch:
    """Asks the API server."""

    def __init__(self, cluster: Cluster, settings: KubernetesSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._seen: set[str] = set()
        """Uids of pods that were there once: when they are gone, they have ended."""

    def job(self, name: str, nodes: Sequence[str]) -> Found:
        """Return the job of that name, or of `kubernetes:<uid of a pod>`.

        A pod is looked for on `nodes` first.

        Raises:
            JobGone: there is no such pod any more, or none of that job.
            DeliveryFailed: there may be one that we must not see, or nothing is known that would
                start it again.
        """
        told = owners.read_job_name(name.removeprefix(PREFIX))
        pod = self._pod(name.removeprefix(PREFIX), nodes) if told is None else self._pod_of(told)
        self._seen.add(pod.uid)
        owner = self.owner_of(pod)
        kind = None if owner is None else owners.kind_of(owner)
        if owner is None or kind is None:
            raise DeliveryFailed(_orphan(pod), is_permanent=True)
        raw = self._cluster.owner(pod.namespace, owner, kind.plural)
        with readable(f"{owner.kind} {pod.namespace}/{owner.name}"):
            labels = owners.selector_of(kind, raw, owner.name, owner.part)
        pods = self.pods(pod.namespace, owner, labels)
        if pod.uid not in {found.uid for found in pods}:
            # The labels are another version's: then all pods of the namespace are looked at.
            labels, pods = "", self.pods(pod.namespace, owner, "")
        living = [found for found in pods if found.node and not found.is_over]
        self._seen |= {found.uid for found in living}
        return Found(pod=pod, owner=owner, kind=kind, raw=raw, labels=labels, pods=living)

    def pods(self, namespace: str, owner: Owner, labels: str) -> list[Pod]:
        """Return all pods of an owner."""
        pods = self._cluster.pods(namespace, labels=labels)
        kind = owners.kind_of(owner)
        return [
            pod
            for pod in pods
            if (pod.owner is not None and pod.owner.uid == owner.uid)
            # What is in between comes and goes, and the pods' owners with it.
            or (kind is not None and kind.title_of(pod) == owner.title)
        ]

    def prospect(self, namespace: str, owner: Owner, pods: Sequence[Pod]) -> Prospect:
        """Return what an owner would do now; one that is gone has ended."""
        kind = owners.kind_of(owner)
        if kind is None:
            return Prospect(refusal=f"{owner.kind} is not known any more")
        try:
            raw = self._cluster.owner(namespace, owner, kind.plural)
        except Refused as e:
            if e.status != 404:
                raise
            return Prospect(ended="deleted")
        with readable(f"{owner.kind} {namespace}/{owner.name}"):
            if mapping(raw.get("metadata"), "metadata").get("uid") != owner.uid:
                return Prospect(ended="replaced by another of that name")
            return kind.judge(raw, pods)

    def _pod(self, uid: str, nodes: Sequence[str]) -> Pod:
        namespaces = self._settings.namespaces or ("",)
        places = [f"spec.nodeName={node},{ALIVE}" for node in nodes]
        for fields in [*places, ALIVE]:
            for namespace in namespaces:
                for pod in self._cluster.pods(namespace, fields=fields):
                    if pod.uid == uid:
                        return pod
        if not self._settings.namespaces or uid in self._seen:
            raise JobGone(f"there is no pod {uid}: it has ended, or Kubernetes has replaced it")
        raise DeliveryFailed(
            f"there is no pod {uid} in the namespaces {', '.join(namespaces)}: it has ended, or it "
            "is in one that [recover.kubernetes] namespaces does not name",
            is_permanent=True,
        )

    def _pod_of(self, told: JobAddress) -> Pod:
        """Return a pod of a job."""
        for pod in self._cluster.pods(told.namespace, fields=ALIVE):
            if told.may_own(pod):
                owner = self.owner_of(pod)
                if owner is not None and told.is_of(owner):
                    return pod
        raise JobGone(f"no pod of {told.namespace}/{told.word}/{told.name} is there: it has ended")

    def owner_of(self, pod: Pod) -> Owner | None:
        """Return what makes the pod again: its owner, or one above that which is known."""
        owner = pod.owner
        kind = None if owner is None else owners.kind_of(owner)
        if owner is None or kind is None:
            return owner
        if owner.kind == "StatefulSet":
            return self._leader_worker_set(pod, owner) or owner
        if owner.kind != "Job":
            return owner
        raw = self._cluster.owner(pod.namespace, owner, kind.plural)
        with readable(f"{owner.kind} {pod.namespace}/{owner.name}"):
            above = read_owner(mapping(raw.get("metadata"), "metadata"))
        known = None if above is None else owners.kind_of(above)
        return above if known is not None and known.between == owner.kind else owner

    def _leader_worker_set(self, pod: Pod, owner: Owner) -> Owner | None:
        """Return the group that a StatefulSet is a part of; None: of none, or we must not see it.

        Its leaders' StatefulSet bears its name, that of a group's workers the leader's.
        """
        above = owners.LEADER_WORKER_SET
        kind = owners.KINDS[above.group, above.kind]
        name, part = pod.labels.get(kind.label, ""), pod.labels.get(kind.part_label, "")
        if not name or not part or owner.name not in (name, f"{name}-{part}"):
            return None
        try:
            raw = self._cluster.owner(pod.namespace, replace(above, name=name), kind.plural)
        except Refused as e:
            if e.status not in (403, 404):
                raise
            return None
        with readable(f"{above.kind} {pod.namespace}/{name}"):
            uid = str(mapping(raw.get("metadata"), "metadata").get("uid") or "")
        return replace(above, name=name, uid=uid, part=part) if uid else None


def _orphan(pod: Pod) -> str:
    if pod.owner is None:
        return (
            f"the pod {pod.address} belongs to no Job or other owner, so nothing would start it "
            "again; its user must"
        )
    return (
        f"the pod {pod.address} belongs to a {pod.owner.kind} ({pod.owner.api_version}), of which "
        "chipmedic does not know whether it would start it again; its user must restart it"
    )
