"""The restart of the job that a pod belongs to, driven by what the API server says at each call.

    pods run ─evict→ they end ─the owner makes others→ those run, on other nodes

The agent names a job `kubernetes:<uid of the pod>`; the job is all pods of that pod's owner, since
a training that loses one rank loses all. `pods` in the step's arguments are their uids at the time
of the plan: those are the old ones, whichever of our processes was killed meanwhile. Two pods of
one job that are both named lead to two steps; the second finds its work done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chipmedic.errors import DeliveryFailed
from chipmedic.host import Host
from chipmedic.recoverer import GOES_ON_AS, RecoveryRequest, Step, StepKind, StepResult
from chipmedic_watchdog.recover.kubernetes import owners
from chipmedic_watchdog.recover.kubernetes.answers import Refused
from chipmedic_watchdog.recover.kubernetes.cluster import ALIVE, Cluster
from chipmedic_watchdog.recover.kubernetes.connection import readable
from chipmedic_watchdog.recover.kubernetes.eviction import Eviction
from chipmedic_watchdog.recover.kubernetes.judges import Prospect
from chipmedic_watchdog.recover.kubernetes.node_cache import NodeCache
from chipmedic_watchdog.recover.kubernetes.objects import Owner, Pod, mapping, read_owner
from chipmedic_watchdog.recover.kubernetes.owners import OwnerKind
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings

PREFIX = "kubernetes:"
COMES_BACK_MOST = 2
"""So often new pods on a bad node are evicted: some tolerate every taint and a cordon too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as a step has it: the owner of pods, and how its pods are found."""

    namespace: str
    owner: Owner
    labels: str
    old: frozenset[str]
    """Uids of the pods that are to be replaced."""
    expected: int
    """So many pods ran before."""
    excluded: frozenset[str]
    """Nodes that none of them may run on."""

    @property
    def address(self) -> str:
        """Kind, namespace and name."""
        return f"{self.owner.kind} {self.namespace}/{self.owner.name}"

    def is_old(self, pod: Pod) -> bool:
        """Whether a pod must go: it was there before, or it is on a bad node."""
        return not pod.is_over and (pod.uid in self.old or pod.node in self.excluded)

    def is_new(self, pod: Pod) -> bool:
        """Whether a pod is one of those that are waited for, and runs."""
        return pod.runs and not self.is_old(pod)


class KubernetesRestart:
    """Restarts jobs."""

    def __init__(
        self, cluster: Cluster, cache: NodeCache, settings: KubernetesSettings, host: Host
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._eviction = Eviction(cluster, cache, settings, host)
        self._came_back: dict[str, set[str]] = {}
        """Uid of an owner -> new pods of it that were seen on a bad node."""

    def plan(self, name: str, excluded: Sequence[str], request: RecoveryRequest) -> Step:
        """Plan the restart of `kubernetes:<uid of a pod>`, away from the excluded nodes.

        Raises:
            DeliveryFailed: the pod is not there, or nothing would start its job again.
        """
        uid = name.removeprefix(PREFIX)
        pod = self._find(uid, excluded)
        owner = self._owner_of(pod)
        kind = None if owner is None else owners.kind_of(owner)
        if owner is None or kind is None:
            raise DeliveryFailed(_orphan(pod), is_permanent=True)
        labels, prospect, pods = self._look(pod, owner, kind)
        staying = [p for p in pods if p.deleted_at is None]
        if prospect.refusal:
            raise DeliveryFailed(
                f"{owner.kind} {pod.namespace}/{owner.name} is not restarted: {prospect.refusal}",
                is_permanent=True,
            )
        names = ", ".join(p.name for p in pods[:4]) + (" ..." if len(pods) > 4 else "")
        return Step(
            kind=StepKind.RESTART,
            target=name,
            description=f"evict the {len(pods)} pods of {owner.kind} {pod.namespace}/{owner.name} "
            f"({names}), which starts them again elsewhere",
            timeout_seconds=self._settings.restart_timeout_seconds,
            arguments={
                "namespace": pod.namespace,
                "api_version": owner.api_version,
                "kind": owner.kind,
                "owner": owner.name,
                "owner_uid": owner.uid,
                "labels": labels,
                "pods": ",".join(p.uid for p in pods),
                "expected": str(max(1, len(staying))),
                "nodes": ",".join(sorted({p.node for p in pods if p.node})),
                "exclude": ",".join(excluded),
                "reason": request.reason,
            },
        )

    def do(self, step: Step) -> StepResult:
        """Do the next thing and say what is waited for."""
        job = _job(step)
        pods = self._pods(job)
        if old := [pod for pod in pods if job.is_old(pod)]:
            self._see_that_they_stay_away(job, old)
            prospect = self._prospect(job, [p for p in old if p.deleted_at is None])
            if prospect.ended:
                return StepResult(is_done=True, detail=_ended(job, prospect))
            if prospect.refusal:
                raise DeliveryFailed(f"{job.address}: {prospect.refusal}", is_permanent=True)
            if waits := self._eviction.take(old, step.arguments["reason"]):
                return StepResult(is_done=False, detail=waits)
        return self._arrived(job, self._pods(job))

    def confirm(self, step: Step) -> StepResult:
        """Say whether the job runs again, away from the excluded nodes; changes nothing."""
        job = _job(step)
        pods = self._pods(job)
        if old := [pod for pod in pods if job.is_old(pod) and not self._eviction.is_given_up(pod)]:
            return StepResult(is_done=False, detail=f"{old[0].address} is still there")
        return self._arrived(job, pods)

    def _arrived(self, job: Job, pods: Sequence[Pod]) -> StepResult:
        """Say whether as many new pods run as old ones did."""
        new = [pod for pod in pods if job.is_new(pod)]
        if len(new) >= job.expected:
            self._came_back.pop(job.owner.uid, None)
            return StepResult(
                is_done=True,
                detail=f"{job.address} runs on {', '.join(sorted({p.node for p in new}))}",
                undo={GOES_ON_AS: ",".join(PREFIX + pod.uid for pod in new)},
            )
        prospect = self._prospect(job, ())
        if prospect.has_failed:
            raise DeliveryFailed(f"{_ended(job, prospect)} after the eviction", is_permanent=True)
        if prospect.ended:
            return StepResult(is_done=True, detail=_ended(job, prospect))
        waiting = next((p for p in pods if p.waits_for and not job.is_old(p)), None)
        why = f"; {waiting.name}: {waiting.waits_for}" if waiting else ""
        return StepResult(is_done=False, detail=f"{len(new)} of {job.expected} pods run again{why}")

    def _see_that_they_stay_away(self, job: Job, old: Sequence[Pod]) -> None:
        back = {pod.uid for pod in old if pod.uid not in job.old}
        seen = self._came_back.setdefault(job.owner.uid, set())
        seen |= back
        if len(seen) > COMES_BACK_MOST * job.expected:
            pod = next(pod for pod in old if pod.uid in back)
            raise DeliveryFailed(
                f"new pods of {job.address} come back to {pod.node} again and again: they "
                "tolerate its cordon. Take the toleration away and restart the job",
                is_permanent=True,
            )

    def _find(self, uid: str, nodes: Sequence[str]) -> Pod:
        """Return the pod of a uid: on the nodes that are bad, else anywhere.

        Raises:
            DeliveryFailed: it is not there.
        """
        namespaces = self._settings.namespaces or ("",)
        places = [f"spec.nodeName={node},{ALIVE}" for node in nodes]
        for fields in [*places, ALIVE]:
            for namespace in namespaces:
                for pod in self._cluster.pods(namespace, fields=fields):
                    if pod.uid == uid:
                        return pod
        where = f"in the namespaces {', '.join(namespaces)}" if self._settings.namespaces else ""
        raise DeliveryFailed(
            f"there is no pod {uid} {where}".rstrip()
            + ": it has ended, or Kubernetes has replaced it already",
            is_permanent=True,
        )

    def _owner_of(self, pod: Pod) -> Owner | None:
        """Return what makes the pod again: its owner, or one above that which is known."""
        owner = pod.owner
        kind = None if owner is None else owners.kind_of(owner)
        if owner is None or kind is None or owner.kind != "Job":
            return owner
        raw = self._cluster.owner(pod.namespace, owner, kind.plural)
        with readable(f"{owner.kind} {pod.namespace}/{owner.name}"):
            above = read_owner(mapping(raw.get("metadata"), "metadata"))
        known = None if above is None else owners.kind_of(above)
        return above if known is not None and known.is_above_jobs else owner

    def _look(self, pod: Pod, owner: Owner, kind: OwnerKind) -> tuple[str, Prospect, list[Pod]]:
        """Return how the owner's pods are found, what it would do, and the pods."""
        raw = self._cluster.owner(pod.namespace, owner, kind.plural)
        what = f"{owner.kind} {pod.namespace}/{owner.name}"
        with readable(what):
            labels = owners.selector_of(kind, raw, owner.name)
        pods = self._owned(pod.namespace, owner, labels)
        if pod.uid not in {found.uid for found in pods}:
            # The labels are another version's: then all pods of the namespace are looked at.
            labels, pods = "", self._owned(pod.namespace, owner, "")
        # One that has no node yet runs nothing: it is a new one, made by the owner already.
        living = [found for found in pods if found.node and not found.is_over]
        staying = [found for found in living if found.deleted_at is None]
        with readable(what):
            return labels, kind.judge(raw, staying), living

    def _prospect(self, job: Job, pods: Sequence[Pod]) -> Prospect:
        """Return what the owner would do now; one that is gone has ended."""
        kind = owners.kind_of(job.owner)
        if kind is None:
            return Prospect(refusal=f"{job.owner.kind} is not known any more")
        try:
            raw = self._cluster.owner(job.namespace, job.owner, kind.plural)
        except Refused as e:
            if e.status != 404:
                raise
            return Prospect(ended="deleted")
        with readable(job.address):
            if mapping(raw.get("metadata"), "metadata").get("uid") != job.owner.uid:
                return Prospect(ended="replaced by another of that name")
            return kind.judge(raw, pods)

    def _pods(self, job: Job) -> list[Pod]:
        return self._owned(job.namespace, job.owner, job.labels)

    def _owned(self, namespace: str, owner: Owner, labels: str) -> list[Pod]:
        pods = self._cluster.pods(namespace, labels=labels)
        kind = owners.kind_of(owner)
        if kind is not None and kind.is_above_jobs:
            name = kind.label  # its Jobs come and go, and the pods' owners with them
            return [pod for pod in pods if pod.labels.get(name) == owner.name]
        return [pod for pod in pods if pod.owner is not None and pod.owner.uid == owner.uid]


def _job(step: Step) -> Job:
    told = step.arguments
    old = frozenset(told["pods"].split(",")) - {""}
    return Job(
        namespace=told["namespace"],
        owner=Owner(
            api_version=told["api_version"],
            kind=told["kind"],
            name=told["owner"],
            uid=told["owner_uid"],
        ),
        labels=told["labels"],
        old=old,
        expected=int(told["expected"]),
        excluded=frozenset(told["exclude"].split(",")) - {""},
    )


def _ended(job: Job, prospect: Prospect) -> str:
    return f"{job.address} has ended by itself: {prospect.ended}"


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
