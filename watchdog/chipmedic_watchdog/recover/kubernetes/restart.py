"""The restart of the job that a pod belongs to, driven by what the API server says at each call.

    pods run ─evict→ they end ─the owner makes others→ those run, on other nodes

A job is named by its owner, or by the uid of a pod where that was not known; it is all pods of the
owner, since a training that loses one rank loses all. On the rung REPLACE only the pods on bad
nodes go, and the others wait for them: an elastic PyTorchJob does. `pods` in the step's arguments
are their uids at the time of the plan: those are the old ones, whichever of our processes was
killed meanwhile. Two pods of one job that are both named lead to two steps; the second finds its
work done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chipmedic.errors import DeliveryFailed
from chipmedic.host import Host
from chipmedic.recoverer import ENDED, GOES_ON_AS, RecoveryRequest, Rung, Step, StepKind, StepResult
from chipmedic_watchdog.recover.kubernetes.cluster import Cluster
from chipmedic_watchdog.recover.kubernetes.connection import readable
from chipmedic_watchdog.recover.kubernetes.eviction import Eviction
from chipmedic_watchdog.recover.kubernetes.job_search import PREFIX, Found, JobSearch
from chipmedic_watchdog.recover.kubernetes.judges import Prospect
from chipmedic_watchdog.recover.kubernetes.node_cache import NodeCache
from chipmedic_watchdog.recover.kubernetes.objects import Owner, Pod, mapping
from chipmedic_watchdog.recover.kubernetes.owners import read_job_name
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings

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
        return f"{self.owner.kind} {self.namespace}/{self.owner.title}"

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
        self._settings = settings
        self._search = JobSearch(cluster, settings)
        self._eviction = Eviction(cluster, cache, settings, host)
        self._came_back: dict[str, set[str]] = {}
        """Uid of an owner -> new pods of it that were seen on a bad node."""

    def rungs(self, name: str, leaving: Sequence[str]) -> Mapping[Rung, str]:
        """Say why the job cannot take each rung; "": it can. See `Laddered.rungs`.

        Raises:
            JobGone: there is no such pod any more.
        """
        found = self._search.job(name, leaving)
        return {
            Rung.REPLACE: _why_not_replaced(found, leaving),
            Rung.REQUEUE: found.prospect(found.staying).refusal,
            Rung.HOLD: "",
        }

    def plan(
        self,
        name: str,
        excluded: Sequence[str],
        request: RecoveryRequest,
        silent: Sequence[str] = (),
    ) -> Step:
        """Plan the restart of `kubernetes:<uid of a pod>`, away from the excluded nodes.

        Raises:
            JobGone: there is no such pod any more.
            DeliveryFailed: nothing would start its job again.
        """
        found = self._search.job(name, excluded)
        is_part = request.rungs.get(name) is Rung.REPLACE
        leaving = found.on(excluded) if is_part else found.pods
        prospect = found.prospect([pod for pod in leaving if pod.deleted_at is None])
        if prospect.refusal:
            raise DeliveryFailed(
                f"{found.address} is not restarted: {prospect.refusal}", is_permanent=True
            )
        names = ", ".join(p.name for p in leaving[:4]) + (" ..." if len(leaving) > 4 else "")
        owner = found.owner
        return Step(
            kind=StepKind.RESTART,
            target=name,
            description=f"evict {len(leaving)} of the {len(found.pods)} pods of {found.address} "
            f"({names}), which starts them again elsewhere",
            timeout_seconds=self._settings.restart_timeout_seconds,
            arguments={
                "namespace": found.pod.namespace,
                "api_version": owner.api_version,
                "kind": owner.kind,
                "owner": owner.name,
                "owner_uid": owner.uid,
                "owner_part": owner.part,
                "labels": found.labels,
                "pods": ",".join(p.uid for p in leaving),
                "expected": str(max(1, len(found.staying))),
                "nodes": ",".join(sorted({p.node for p in leaving})),
                "exclude": ",".join(excluded),
                "silent": ",".join(silent),
                "reason": request.reason,
            },
        )

    def do(self, step: Step) -> StepResult:
        """Do the next thing and say what is waited for."""
        job = _job(step)
        pods = self._search.pods(job.namespace, job.owner, job.labels)
        if old := [pod for pod in pods if job.is_old(pod)]:
            self._see_that_they_stay_away(job, old)
            prospect = self._search.prospect(
                job.namespace, job.owner, [p for p in old if p.deleted_at is None]
            )
            if prospect.ended:
                return _ended_result(job, prospect)
            if prospect.refusal:
                raise DeliveryFailed(f"{job.address}: {prospect.refusal}", is_permanent=True)
            silent = step.arguments.get("silent", "").split(",")
            if waits := self._eviction.take(old, step.arguments["reason"], silent):
                return StepResult(is_done=False, detail=waits)
        return self._arrived(step, job, self._search.pods(job.namespace, job.owner, job.labels))

    def confirm(self, step: Step) -> StepResult:
        """Say whether the job runs again, away from the excluded nodes; changes nothing."""
        job = _job(step)
        pods = self._search.pods(job.namespace, job.owner, job.labels)
        if old := [pod for pod in pods if job.is_old(pod) and not self._eviction.is_given_up(pod)]:
            return StepResult(is_done=False, detail=f"{old[0].address} is still there")
        return self._arrived(step, job, pods)

    def _arrived(self, step: Step, job: Job, pods: Sequence[Pod]) -> StepResult:
        """Say whether as many new pods run as old ones did.

        A job that goes by the uid of a pod has other names then; by its owner's it keeps it.
        """
        is_pod = read_job_name(step.target.removeprefix(PREFIX)) is None
        new = [pod for pod in pods if job.is_new(pod)]
        if len(new) >= job.expected:
            self._came_back.pop(job.owner.uid, None)
            return StepResult(
                is_done=True,
                detail=f"{job.address} runs on {', '.join(sorted({p.node for p in new}))}",
                undo={GOES_ON_AS: ",".join(PREFIX + pod.uid for pod in new)} if is_pod else {},
            )
        prospect = self._search.prospect(job.namespace, job.owner, ())
        if prospect.has_failed:
            raise DeliveryFailed(f"{_ended(job, prospect)} after the eviction", is_permanent=True)
        if prospect.ended:
            return _ended_result(job, prospect)
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
            part=told.get("owner_part", ""),
        ),
        labels=told["labels"],
        old=old,
        expected=int(told["expected"]),
        excluded=frozenset(told["exclude"].split(",")) - {""},
    )


def _ended_result(job: Job, prospect: Prospect) -> StepResult:
    undo = {ENDED: str(prospect.ended)}
    return StepResult(is_done=True, detail=_ended(job, prospect), undo=undo)


def _ended(job: Job, prospect: Prospect) -> str:
    return f"{job.address} has ended by itself: {prospect.ended}"


def _why_not_replaced(found: Found, leaving: Sequence[str]) -> str:
    """Say why the pods on bad nodes cannot be replaced while the others wait; empty: they can."""
    sick = found.on(leaving)
    if not sick:
        return "it is on no node that must leave"
    if len(sick) == len(found.pods):
        return "it runs on nodes that must leave alone"
    with readable(found.address):
        if not mapping(
            mapping(found.raw.get("spec"), "spec").get("elasticPolicy"), "elasticPolicy"
        ):
            return "only a PyTorchJob with an elasticPolicy goes on when a pod is replaced"
    return found.prospect([pod for pod in sick if pod.deleted_at is None]).refusal
