"""What starts a pod again after an eviction: the kinds of owners that chipmedic knows. Pure.

Labels and owners of pods, as the operators' own sources have them: JobSet, Kubeflow's training
operator v1 and its MPI operator v2 (whose launcher is the pod of a Job), Volcano, LeaderWorkerSet,
KubeRay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chipmedic_watchdog.recover.kubernetes.judges import (
    Prospect,
    always,
    judge_job,
    judge_jobset,
    judge_kubeflow,
    judge_ray,
    judge_volcano,
)
from chipmedic_watchdog.recover.kubernetes.objects import Owner, Pod, Raw, mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerKind:
    """One kind of owner."""

    plural: str
    word: str
    """What people say for it, kubectl too: `pytorchjob`, `vcjob`."""
    judge: Callable[[Raw, Sequence[Pod]], Prospect]
    """Given the owner and the pods to be evicted.

    Raises ValueError where the owner is none.
    """
    label: str = ""
    """Label of its pods that holds its name; empty: its own `spec.selector` chooses them."""
    part_label: str = ""
    """Label of its pods that holds their group, where each group is a job of its own."""
    between: str = ""
    """Kind of what it controls and makes anew at times, whose pods are its own; empty: nothing."""

    def title_of(self, pod: Pod) -> str:
        """Return what the labels of a pod call its job, where it is one of what is in between.

        Empty: it is none. A PyTorchJob's pods and an MPIJob's launcher have the same label.
        """
        if not self.between or pod.owner is None or pod.owner.kind != self.between:
            return ""
        name = pod.labels.get(self.label, "")
        part = pod.labels.get(self.part_label, "") if self.part_label else ""
        return f"{name}-{part}" if name and part else name


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAddress:
    """A job as its name in the store tells it: `training/pytorchjob/llama@1a2b3c4d`."""

    namespace: str
    word: str
    name: str
    uid_start: str

    def is_of(self, owner: Owner) -> bool:
        """Whether it is this owner, and not another one of the same name."""
        kind = kind_of(owner)
        return (
            kind is not None
            and (kind.word, owner.title) == (self.word, self.name)
            and owner.uid.startswith(self.uid_start)
        )

    def may_own(self, pod: Pod) -> bool:
        """Whether it is worth a question whose pod this is."""
        kind = next(kind for kind in KINDS.values() if kind.word == self.word)
        is_own = pod.owner is not None and self.is_of(pod.owner)
        return is_own or kind.title_of(pod) == self.name


UID_SHOWN = 8
"""Letters of an owner's uid in the name of its job: one that is made again is another job."""


def job_name(namespace: str, owner: Owner) -> str | None:
    """Return the name of an owner's job, without the prefix; None: its kind is not known."""
    kind = kind_of(owner)
    if kind is None:
        return None
    return f"{namespace}/{kind.word}/{owner.title}@{owner.uid[:UID_SHOWN]}"


def read_job_name(name: str) -> JobAddress | None:
    """Take such a name apart; None: it is none, but the uid of a pod."""
    match = _JOB_NAME.fullmatch(name)
    if match is None or match["word"] not in {kind.word for kind in KINDS.values()}:
        return None
    return JobAddress(
        namespace=match["namespace"], word=match["word"], name=match["name"], uid_start=match["uid"]
    )


def kind_of(owner: Owner) -> OwnerKind | None:
    """Return what is known of an owner's kind, whatever its version; None: nothing."""
    return KINDS.get((owner.group, owner.kind))


def selector_of(kind: OwnerKind, raw: Raw, name: str, part: str = "") -> str:
    """Return a label selector that finds the pods of an owner; empty: there is none.

    Raises:
        ValueError: the owner is none.
    """
    if kind.label:
        return f"{kind.label}={name}" + (f",{kind.part_label}={part}" if part else "")
    selector = mapping(mapping(raw.get("spec"), "spec").get("selector"), "selector")
    labels = mapping(selector.get("matchLabels"), "matchLabels")
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


_JOB_NAME = re.compile(
    r"(?P<namespace>[-a-z0-9]+)/(?P<word>[a-z]+)/(?P<name>[-.a-z0-9]+)@(?P<uid>[-0-9a-z]+)"
)
GROUP_INDEX = "leaderworkerset.sigs.k8s.io/group-index"
LEADER_WORKER_SET = Owner(
    api_version="leaderworkerset.x-k8s.io/v1", kind="LeaderWorkerSet", name="", uid=""
)
_KUBEFLOW = "kubeflow.org"
_KUBEFLOW_LABEL = "training.kubeflow.org/job-name"
KINDS = {
    ("batch", "Job"): OwnerKind(plural="jobs", word="job", judge=judge_job),
    ("batch.volcano.sh", "Job"): OwnerKind(
        plural="jobs", word="vcjob", judge=judge_volcano, label="volcano.sh/job-name"
    ),
    ("jobset.x-k8s.io", "JobSet"): OwnerKind(
        plural="jobsets",
        word="jobset",
        judge=judge_jobset,
        label="jobset.sigs.k8s.io/jobset-name",
        between="Job",
    ),
    (LEADER_WORKER_SET.group, LEADER_WORKER_SET.kind): OwnerKind(
        plural="leaderworkersets",
        word="leaderworkerset",
        judge=always,
        label="leaderworkerset.sigs.k8s.io/name",
        part_label=GROUP_INDEX,
        between="StatefulSet",
    ),
    ("ray.io", "RayCluster"): OwnerKind(
        plural="rayclusters", word="raycluster", judge=judge_ray, label="ray.io/cluster"
    ),
    ("apps", "StatefulSet"): OwnerKind(plural="statefulsets", word="statefulset", judge=always),
    ("apps", "ReplicaSet"): OwnerKind(plural="replicasets", word="replicaset", judge=always),
} | {
    (_KUBEFLOW, kind): OwnerKind(
        plural=f"{kind.lower()}s",
        word=kind.lower(),
        judge=judge_kubeflow,
        label=_KUBEFLOW_LABEL,
        between="Job" if kind == "MPIJob" else "",
    )
    for kind in ("PyTorchJob", "TFJob", "XGBoostJob", "PaddleJob", "JAXJob", "MPIJob")
}
"""By group and kind: what chipmedic knows how to restart."""
