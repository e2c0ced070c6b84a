"""Whether an owner would start its pods again after an eviction, or end for good. Pure.

An eviction is a failure in the eyes of some owners: a Job whose `backoffLimit` is used up ends for
good, and so does a PyTorchJob whose replicas must never restart. That is found before the first
pod is evicted, because a job that moved is the aim and not a job that ended.

Sources: the Job controller's rule for failed pods (a pod that is being deleted has failed, unless
`podReplacementPolicy: Failed` or a `podFailurePolicy` waits for its phase), Kubernetes' manual on
`podFailurePolicy` and `backoffLimitPerIndex`; Kubeflow's training operator v1, `restartPolicy` and
`runPolicy`; Volcano's manual on policies (`PodEvicted`); JobSet's manual, `failurePolicy`;
KubeRay's issues on a head that starts again (the Ray job's state is in its memory).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chipmedic_watchdog.recover.kubernetes.objects import Pod, Raw, items, mapping, read_owner

TERM_CODES = frozenset({137, 143})
"""How a process ends that SIGKILL or SIGTERM ended."""
DISRUPTED = "DisruptionTarget"
"""Condition of a pod that was evicted."""
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
BACKOFF_LIMIT_DEFAULT = 6
REPLICATED = "jobset.sigs.k8s.io/replicatedjob-name"
INDEX = "jobset.sigs.k8s.io/job-index"
"""Labels of a JobSet's pods: which of its Jobs they are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What an owner would make of the eviction of its pods."""

    ended: str = ""
    """The job is over: how."""
    has_failed: bool = False
    """It is over because it failed."""
    refusal: str = ""
    """Why its pods must not be evicted, and what to do; empty: it starts them again."""


AGAIN = Prospect()


def judge_job(raw: Raw, pods: Sequence[Pod]) -> Prospect:
    """Judge a `batch/v1` Job."""
    spec, status = _spec(raw), mapping(raw.get("status"), "status")
    if over := _over(status, ("Complete", "SuccessCriteriaMet"), ("Failed", "FailureTarget")):
        return over
    if spec.get("suspend") is True:
        return Prospect(refusal="it is suspended; whoever suspended it must resume it")
    parent = read_owner(mapping(raw.get("metadata"), "metadata"))
    if parent is not None and parent.kind not in ("CronJob", "MPIJob"):
        return Prospect(
            refusal=f"the Job belongs to a {parent.kind}, of which chipmedic does not know how it "
            "starts its Jobs again; its user must restart it"
        )
    if (by_policy := _by_failure_policy(spec)) is not None:
        return Prospect(refusal=by_policy)
    per_index = spec.get("backoffLimitPerIndex")
    if per_index is not None:
        return _per_index(_count(per_index), pods)
    limit = spec.get("backoffLimit")
    limit = BACKOFF_LIMIT_DEFAULT if limit is None else _count(limit)
    uncounted = mapping(status.get("uncountedTerminatedPods"), "uncountedTerminatedPods")
    failed = _count(status.get("failed") or 0) + len(items(uncounted, "failed"))
    if failed + len(pods) <= limit:
        return AGAIN
    return Prospect(
        refusal=f"the eviction of {len(pods)} pods counts as so many failures, and of backoffLimit "
        f"{limit} {max(0, limit - failed)} are left: the Job would end. Give it a "
        f"podFailurePolicy that ignores {DISRUPTED}, or a higher backoffLimit"
    )


def _by_failure_policy(spec: Raw) -> str | None:
    """Say what the Job's `podFailurePolicy` does about an eviction.

    Empty: it is ignored, so no limit counts; None: the policy says nothing of it.
    """
    policy = mapping(spec.get("podFailurePolicy"), "podFailurePolicy")
    for item in items(policy, "rules"):
        rule = mapping(item, "rule")
        conditions = [mapping(c, "onPodConditions") for c in items(rule, "onPodConditions")]
        if any(c.get("type") == DISRUPTED for c in conditions):
            if rule.get("action") == "Ignore":
                return ""
            if rule.get("action") in ("FailJob", "FailIndex"):
                return f"its podFailurePolicy ends it where a pod is evicted ({DISRUPTED})"
            return None
        if rule.get("action") in ("FailJob", "FailIndex") and _matches_term(rule):
            return "its podFailurePolicy ends it where a process exits as SIGTERM makes it (143)"
    return None


def _matches_term(rule: Raw) -> bool:
    codes = mapping(rule.get("onExitCodes"), "onExitCodes")
    if not codes:
        return False
    values = {value for value in items(codes, "values") if isinstance(value, int)}
    if codes.get("operator") == "NotIn":
        return bool(TERM_CODES - values)
    return bool(TERM_CODES & values)


def _per_index(limit: int, pods: Sequence[Pod]) -> Prospect:
    for pod in pods:
        text = pod.annotations.get(INDEX_FAILURES, "0")
        failed = int(text) if text.isascii() and text.isdecimal() else 0
        if failed + 1 > limit:
            return Prospect(
                refusal=f"the index of {pod.name} has used up backoffLimitPerIndex {limit}: it "
                f"would not start again. Give the Job a podFailurePolicy that ignores {DISRUPTED}"
            )
    return AGAIN


def judge_kubeflow(raw: Raw, pods: Sequence[Pod]) -> Prospect:
    """Judge a job of Kubeflow's training operator: PyTorchJob and its like."""
    spec, status = _spec(raw), mapping(raw.get("status"), "status")
    if over := _over(status, ("Succeeded",), ("Failed",)):
        return over
    policy = mapping(spec.get("runPolicy"), "runPolicy")
    if policy.get("suspend") is True:
        return Prospect(refusal="it is suspended; whoever suspended it must resume it")
    limit = policy.get("backoffLimit")
    if limit is not None and _count(limit) < 1:
        return Prospect(refusal="its runPolicy.backoffLimit is 0: the first pod that ends ends it")
    for role, replicas in _replica_specs(spec).items():
        is_hit = any(_role(pod) in ("", role.lower()) for pod in pods)
        if is_hit and mapping(replicas, role).get("restartPolicy") == "Never":
            return Prospect(
                refusal=f"the restartPolicy of its {role} is Never: an evicted pod ends it. "
                "OnFailure or ExitCode lets it start again"
            )
    return AGAIN


def _replica_specs(spec: Raw) -> Raw:
    """Return `pytorchReplicaSpecs`, or as it is called for another framework."""
    for key, value in spec.items():
        if key.endswith("ReplicaSpecs"):
            return mapping(value, key)
    return {}


def _role(pod: Pod) -> str:
    return pod.labels.get("training.kubeflow.org/replica-type", "").lower()


def judge_volcano(raw: Raw, pods: Sequence[Pod]) -> Prospect:
    """Judge a Volcano Job."""
    spec, status = _spec(raw), mapping(raw.get("status"), "status")
    phase = str(mapping(status.get("state"), "state").get("phase") or "")
    if phase in ("Completed", "Failed", "Terminated"):
        return Prospect(ended=phase, has_failed=phase != "Completed")
    if phase in ("Aborted", "Aborting", "Completing", "Terminating"):
        return Prospect(refusal=f"it is {phase}; whoever wanted that must resume it")
    actions = _volcano_actions(spec)
    if ending := [a for a in actions if a in ("AbortJob", "TerminateJob", "CompleteJob")]:
        return Prospect(refusal=f"its policy for PodEvicted is {ending[0]}: it would not go on")
    most = spec.get("maxRetry")
    most, used = 3 if most is None else _count(most), _count(status.get("retryCount") or 0)
    if "RestartJob" in actions and used >= most:
        return Prospect(refusal=f"it has used up its maxRetry {most}: it would end")
    return AGAIN


def judge_jobset(raw: Raw, pods: Sequence[Pod]) -> Prospect:
    """Judge a JobSet: by its Jobs, one of which that ends restarts them all, so often."""
    spec, status = _spec(raw), mapping(raw.get("status"), "status")
    if over := _over(status, ("Completed",), ("Failed",)):
        return over
    if spec.get("suspend") is True:
        return Prospect(refusal="it is suspended; whoever suspended it must resume it")
    refusal = next((words for words in _refusals_of_jobs(spec, pods) if words), "")
    policy = mapping(spec.get("failurePolicy"), "failurePolicy")
    most, used = _count(policy.get("maxRestarts") or 0), _count(status.get("restarts") or 0)
    if not refusal or (used < most and not items(policy, "rules")):
        return AGAIN
    return Prospect(
        refusal=f"one of its Jobs would end, and the JobSet with it (failurePolicy.maxRestarts "
        f"{most}, {used} used): {refusal}"
    )


def _refusals_of_jobs(spec: Raw, pods: Sequence[Pod]) -> Iterator[str]:
    """Say for each Job of a JobSet why it would end, or nothing."""
    for item in items(spec, "replicatedJobs"):
        replicated = mapping(item, "replicatedJob")
        template = mapping(replicated.get("template"), "template")
        mine = [pod for pod in pods if pod.labels.get(REPLICATED) == replicated.get("name")]
        for index in sorted({pod.labels.get(INDEX, "") for pod in mine}):
            group = [pod for pod in mine if pod.labels.get(INDEX, "") == index]
            yield judge_job({"spec": template.get("spec")}, group).refusal


def _volcano_actions(spec: Raw) -> list[str]:
    """Return what the job and its tasks do about an evicted pod."""
    found: list[str] = []
    for part in [spec, *(mapping(task, "task") for task in items(spec, "tasks"))]:
        for item in items(part, "policies"):
            policy = mapping(item, "policy")
            events = {policy.get("event"), *(str(name) for name in items(policy, "events"))}
            if events & {"PodEvicted", "*"}:
                found.append(str(policy.get("action")))
    return found


def judge_ray(raw: Raw, pods: Sequence[Pod]) -> Prospect:
    """Judge a RayCluster: what its job has reached is in its processes, and ends with the head."""
    return Prospect(
        refusal="KubeRay would start its pods again, but not what ran in them: its user must "
        "submit it anew, or let Ray itself go on without the node (kubectl delete pod)"
    )


def always(raw: Raw, pods: Sequence[Pod]) -> Prospect:
    """Judge an owner that keeps its number of pods whatever becomes of them."""
    return AGAIN


def _over(status: Raw, good: tuple[str, ...], bad: tuple[str, ...]) -> Prospect | None:
    """Return how a job has ended by its conditions; None: it has not."""
    if ended := _condition(status, *good):
        return Prospect(ended=ended)
    if ended := _condition(status, *bad):
        return Prospect(ended=ended, has_failed=True)
    return None


def _condition(status: Raw, *kinds: str) -> str:
    """Return the first condition of these kinds that holds, with its reason; empty: none does."""
    for item in items(status, "conditions"):
        found = mapping(item, "condition")
        if found.get("type") in kinds and found.get("status") == "True":
            words = [str(found.get(key)) for key in ("type", "reason") if found.get(key)]
            return ", ".join(dict.fromkeys(words))
    return ""


def _spec(raw: Raw) -> Raw:
    return mapping(raw.get("spec"), "spec")


def _count(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"no whole number: {str(value)[:100]!r}")  # noqa: TRY004
    return value
