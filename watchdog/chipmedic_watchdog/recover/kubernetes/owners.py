"""What starts a pod again after an eviction: the kinds of owners that chipmedic knows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chipmedic_watchdog.recover.kubernetes.judges import (
    Prospect,
    always,
    judge_job,
    judge_jobset,
    judge_kubeflow,
    judge_volcano,
)
from chipmedic_watchdog.recover.kubernetes.objects import Owner, Pod, Raw, mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerKind:
    """One kind of owner."""

    plural: str
    judge: Callable[[Raw, Sequence[Pod]], Prospect]
    """Given the owner and the pods to be evicted.

    Raises ValueError where the owner is none.
    """
    label: str = ""
    """Label of its pods that holds its name; empty: its own `spec.selector` chooses them."""
    is_above_jobs: bool = False
    """Its pods are those of Jobs that it controls, and makes anew at times."""


def kind_of(owner: Owner) -> OwnerKind | None:
    """Return what is known of an owner's kind, whatever its version; None: nothing."""
    return KINDS.get((owner.group, owner.kind))


def selector_of(kind: OwnerKind, raw: Raw, name: str) -> str:
    """Return a label selector that finds the pods of an owner; empty: there is none.

    Raises:
        ValueError: the owner is none.
    """
    if kind.label:
        return f"{kind.label}={name}"
    selector = mapping(mapping(raw.get("spec"), "spec").get("selector"), "selector")
    labels = mapping(selector.get("matchLabels"), "matchLabels")
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


_KUBEFLOW = "kubeflow.org"
_KUBEFLOW_LABEL = "training.kubeflow.org/job-name"
KINDS = {
    ("batch", "Job"): OwnerKind(plural="jobs", judge=judge_job),
    ("batch.volcano.sh", "Job"): OwnerKind(
        plural="jobs", judge=judge_volcano, label="volcano.sh/job-name"
    ),
    ("jobset.x-k8s.io", "JobSet"): OwnerKind(
        plural="jobsets",
        judge=judge_jobset,
        label="jobset.sigs.k8s.io/jobset-name",
        is_above_jobs=True,
    ),
    ("apps", "StatefulSet"): OwnerKind(plural="statefulsets", judge=always),
    ("apps", "ReplicaSet"): OwnerKind(plural="replicasets", judge=always),
} | {
    (_KUBEFLOW, kind): OwnerKind(
        plural=f"{kind.lower()}s", judge=judge_kubeflow, label=_KUBEFLOW_LABEL
    )
    for kind in ("PyTorchJob", "TFJob", "XGBoostJob", "PaddleJob", "JAXJob", "MPIJob")
}
"""By group and kind: what chipmedic knows how to restart."""
