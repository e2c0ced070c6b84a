"""A small cluster on the stand-in: nodes, workloads, and controllers that move at each request.

No time passes here: after each request of the client every controller takes one step. A pod that
was evicted is ending at the next look and gone at another; its successor is bound, then runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kube_rig.api_server import ApiServer, own_cordon
from kube_rig.store import Object, Store, stamp

NAMESPACE = "training"
GROUPS = {
    "jobs.batch": ("batch/v1", "Job"),
    "pytorchjobs.kubeflow.org": ("kubeflow.org/v1", "PyTorchJob"),
    "jobs.batch.volcano.sh": ("batch.volcano.sh/v1alpha1", "Job"),
    "statefulsets.apps": ("apps/v1", "StatefulSet"),
    "jobsets.jobset.x-k8s.io": ("jobset.x-k8s.io/v1alpha2", "JobSet"),
    "mpijobs.kubeflow.org": ("kubeflow.org/v2beta1", "MPIJob"),
    "leaderworkersets.leaderworkerset.x-k8s.io": (
        "leaderworkerset.x-k8s.io/v1",
        "LeaderWorkerSet",
    ),
    "rayclusters.ray.io": ("ray.io/v1", "RayCluster"),
    "rayjobs.ray.io": ("ray.io/v1", "RayJob"),
}
SAME_NAMES = ("pytorchjobs.kubeflow.org", "jobs.batch.volcano.sh", "statefulsets.apps")
"""Owners whose pods have fixed names: a successor waits until the old object is gone."""


@dataclass
class Workload:
    """An owner of pods."""

    resource: str
    name: str
    replicas: int
    labels: dict[str, str]
    tolerates_all: bool = False
    made: int = 0
    is_over: bool = False


@dataclass
class KubeCluster:
    """Nodes and pods that behave."""

    store: Store = field(default_factory=Store)
    workloads: list[Workload] = field(default_factory=list)
    unkillable: set[str] = field(default_factory=set)
    """Names of pods with a process in D state."""
    ends_in: int = 2
    """Steps from an eviction to the end of a pod."""

    def __post_init__(self) -> None:
        self.api = ApiServer(self.store, self.step)
        self._ending: dict[str, int] = {}

    def close(self) -> None:
        self.api.close()

    def add_node(self, name: str, *, labels: dict[str, str] | None = None) -> None:
        self.store.put(
            "nodes",
            {
                "kind": "Node",
                "apiVersion": "v1",
                "metadata": {
                    "name": name,
                    "labels": {"kubernetes.io/hostname": name} | (labels or {}),
                },
                "spec": {},
                "status": {"conditions": [_ready("True", "KubeletReady")]},
            },
        )

    def node(self, name: str) -> Object:
        found = self.store.get("nodes", name)
        assert found is not None
        return found

    def set_ready(self, name: str, status: str, reason: str = "NodeStatusUnknown") -> None:
        def change(raw: Object) -> None:
            others = [c for c in raw["status"]["conditions"] if c["type"] != "Ready"]
            raw["status"]["conditions"] = [*others, _ready(status, reason)]

        self.store.change("nodes", name, change)

    def cordon(self, name: str, *, on: bool = True, by: str = "kubectl-cordon") -> None:
        """Do as `kubectl cordon` and `kubectl uncordon` do."""

        def change(raw: Object) -> None:
            raw["spec"].pop("unschedulable", None)
            if on:
                raw["spec"]["unschedulable"] = True
            own_cordon(raw, by)

        self.store.change("nodes", name, change)

    def add_job(
        self,
        name: str,
        replicas: int,
        *,
        resource: str = "jobs.batch",
        spec: Object | None = None,
        status: Object | None = None,
        tolerates_all: bool = False,
        parent: Object | None = None,
        more_labels: dict[str, str] | None = None,
    ) -> Workload:
        """Add an owner and let its pods run."""
        api_version, kind = GROUPS[resource]
        labels = {
            "jobs.batch": {"batch.kubernetes.io/job-name": name},
            "pytorchjobs.kubeflow.org": {
                "training.kubeflow.org/job-name": name,
                "training.kubeflow.org/replica-type": "worker",
            },
            "mpijobs.kubeflow.org": {"training.kubeflow.org/job-name": name},
            "jobs.batch.volcano.sh": {"volcano.sh/job-name": name},
            "rayclusters.ray.io": {"ray.io/cluster": name},
        }.get(resource, {"of": name})
        selector = (
            {"selector": {"matchLabels": labels}}
            if resource in ("jobs.batch", "statefulsets.apps")
            else {}
        )
        metadata: Object = {"name": name, "namespace": NAMESPACE}
        if parent:
            metadata["ownerReferences"] = [parent]
        self.store.put(
            resource,
            {
                "kind": kind,
                "apiVersion": api_version,
                "metadata": metadata,
                "spec": _template(resource) | selector | (spec or {}),
                "status": status
                or ({"replicas": replicas} if resource == "statefulsets.apps" else {}),
            },
        )
        workload = Workload(
            resource=resource, name=name, replicas=replicas,
            labels={"app": name} | labels | (more_labels or {}),
            tolerates_all=tolerates_all,
        )  # fmt: skip
        self.workloads.append(workload)
        for _ in range(4):
            self.step()
        return workload

    def add_bare_pod(self, name: str, node: str) -> Object:
        pod = _pod(name, {"app": name}, None)
        pod["spec"]["nodeName"] = node
        pod["status"] = {"phase": "Running"}
        return self.store.put("pods", pod)

    def pods(self, workload: str = "") -> list[Object]:
        return [
            pod
            for pod in self.store.all("pods")
            if workload in ("", pod["metadata"]["labels"]["app"])
        ]

    def pod_on(self, node: str) -> Object:
        return next(p for p in self.pods() if p["spec"].get("nodeName") == node)

    def nodes_of(self, workload: str) -> set[str]:
        return {
            pod["spec"]["nodeName"]
            for pod in self.pods(workload)
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        }

    def change_owner(self, resource: str, name: str, change: Callable[[Object], None]) -> None:
        self.store.change(resource, name, change, NAMESPACE)

    def step(self) -> None:
        """Let every controller take one step."""
        with self.store.lock:
            self._kubelets_start()
            self._schedule()
            for workload in self.workloads:
                self._control(workload)
            self._kubelets_end()

    def _kubelets_end(self) -> None:
        for pod in self.pods():
            metadata = pod["metadata"]
            if "deletionTimestamp" not in metadata or metadata["name"] in self.unkillable:
                continue
            node = self.store.get("nodes", pod["spec"].get("nodeName", ""))
            if node is not None and _is_silent(node):
                continue
            seen = self._ending[metadata["uid"]] = self._ending.get(metadata["uid"], 0) + 1
            if seen > self.ends_in:
                self.store.remove("pods", metadata["name"], metadata["namespace"])

    def _kubelets_start(self) -> None:
        for pod in self.pods():
            if pod["status"]["phase"] == "Pending" and pod["spec"].get("nodeName"):
                self._set_status(pod, {"phase": "Running"})

    def _schedule(self) -> None:
        for pod in self.pods():
            if pod["status"]["phase"] != "Pending" or pod["spec"].get("nodeName"):
                continue
            taken = {p["spec"].get("nodeName") for p in self.pods()}
            tolerates = bool(pod["spec"].get("tolerations"))
            free = [
                node["metadata"]["name"]
                for node in self.store.all("nodes")
                if (tolerates or _takes_pods(node)) and node["metadata"]["name"] not in taken
            ]
            if free:
                new = copy.deepcopy(pod)
                new["spec"]["nodeName"] = free[0]
                self.store.put("pods", new)
            else:
                self._set_status(pod, {
                    "phase": "Pending",
                    "conditions": [{
                        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                        "message": "0/4 nodes are available: 4 node(s) were unschedulable.",
                    }],
                })  # fmt: skip

    def _control(self, workload: Workload) -> None:
        """Be the controller of an owner: count failures, and make the pods that are missing."""
        owner = self.store.get(workload.resource, workload.name, NAMESPACE)
        if owner is None or workload.is_over:
            return
        pods = self.pods(workload.name)
        going = [p for p in pods if "deletionTimestamp" in p["metadata"]]
        if workload.resource == "jobs.batch":
            if self._fails(workload, owner, going):
                return
            pods = [p for p in pods if p not in going]
        names = {pod["metadata"]["name"] for pod in pods}
        for index in range(workload.replicas):
            if len(pods) >= workload.replicas:
                return
            name = f"{workload.name}-{index}"
            if workload.resource in SAME_NAMES and name in names:
                continue
            if workload.resource not in SAME_NAMES:
                workload.made += 1
                name = f"{workload.name}-x{workload.made}"
            pods.append(self.store.put("pods", self._new_pod(workload, owner, name)))

    def _fails(self, workload: Workload, owner: Object, going: list[Object]) -> bool:
        """Count evicted pods as a Job does; beyond its limit it ends, and its pods with it."""
        seen = owner["metadata"].setdefault("annotations", {})
        counted = set(filter(None, seen.get("counted", "").split(",")))
        new = {pod["metadata"]["uid"] for pod in going} - counted
        if not new or "podFailurePolicy" in owner["spec"]:
            return False
        failed = owner["status"].get("failed", 0) + len(new)
        limit = owner["spec"].get("backoffLimit", 6)

        def change(raw: Object) -> None:
            raw["metadata"]["annotations"]["counted"] = ",".join(counted | new)
            raw["status"]["failed"] = failed
            if failed > limit:
                raw["status"]["conditions"] = [
                    {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
                ]

        self.change_owner(workload.resource, workload.name, change)
        workload.is_over = failed > limit
        return workload.is_over

    def _new_pod(self, workload: Workload, owner: Object, name: str) -> Object:
        reference = {
            "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": workload.name,
            "uid": owner["metadata"]["uid"], "controller": True,
        }  # fmt: skip
        pod = _pod(name, dict(workload.labels), reference)
        if workload.tolerates_all:
            pod["spec"]["tolerations"] = [{"operator": "Exists"}]
        return pod

    def _set_status(self, pod: Object, status: Object) -> None:
        if pod["status"] == status:
            return
        new = copy.deepcopy(pod)
        new["status"] = status
        self.store.put("pods", new)


def _pod(name: str, labels: dict[str, str], owner: Object | None) -> Object:
    metadata: Object = {"name": name, "namespace": NAMESPACE, "labels": labels}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {
        "kind": "Pod", "apiVersion": "v1", "metadata": metadata,
        "spec": {"containers": [{"name": "train"}], "terminationGracePeriodSeconds": 30},
        "status": {"phase": "Pending"},
    }  # fmt: skip


def _template(resource: str) -> Object:
    template = {"spec": {"containers": [{"name": "train"}], "restartPolicy": "Never"}}
    if resource == "pytorchjobs.kubeflow.org":
        worker = {"replicas": 2, "restartPolicy": "OnFailure", "template": template}
        return {"pytorchReplicaSpecs": {"Worker": worker}}
    if resource == "statefulsets.apps":
        return {"serviceName": "it", "template": template}
    return {"template": template} if resource == "jobs.batch" else {}


def _ready(status: str, reason: str) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": stamp()}


def _is_silent(node: Object) -> bool:
    return any(
        c["type"] == "Ready" and c["status"] == "Unknown" for c in node["status"]["conditions"]
    )


def _takes_pods(node: Object) -> bool:
    is_ready = any(
        c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
    )
    return is_ready and not node["spec"].get("unschedulable") and not node["spec"].get("taints")
