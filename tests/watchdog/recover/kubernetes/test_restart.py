"""From the eviction of a job's pods to as many new ones that run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chipmedic.errors import DeliveryFailed, JobGone
from chipmedic.host import LinuxHost
from chipmedic.recoverer import (
    GOES_ON_AS,
    Laddered,
    RecoveryRequest,
    Rung,
    Step,
    StepKind,
    StepResult,
)
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from chipmedic_watchdog.recover.kubernetes.settings import RefusedEviction
from kube_rig.api_server import Trouble
from kube_rig.cluster import NAMESPACE, KubeCluster
from kube_rig.store import Object, stamp

REASON = "chipmedic:inc-000007 chip.lost"
IGNORES_EVICTIONS: Object = {
    "podFailurePolicy": {
        "rules": [
            {
                "action": "Ignore",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            }
        ]
    }
}
LOOKS = 40
Make = Callable[..., Kubernetes]


class Clock(LinuxHost):
    """The machine with a time of the test's own, which records what is run."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def now(self) -> float:
        return self.at


def job_of(pod: Mapping[str, Any]) -> str:
    return f"kubernetes:{pod['metadata']['uid']}"


def plan(adapter: Kubernetes, *jobs: str, nodes: tuple[str, ...] = ()) -> list[Step]:
    request = RecoveryRequest(incident="inc-000007", reason=REASON, nodes=nodes, jobs=jobs)
    return adapter.plan(request)


def carry_out(adapter: Kubernetes, step: Step, looks: int = LOOKS) -> StepResult:
    """Do as the engine does: do and confirm until both are content."""
    result = StepResult(is_done=False, detail="")
    for _ in range(looks):
        result = adapter.do(step)
        if result.is_done and adapter.confirm(step).is_done:
            return result
    raise AssertionError(f"not done after {looks} looks: {result.detail}")


def test_all_pods_of_a_job_start_again_away_from_the_bad_node(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 3)
    before = {pod["metadata"]["uid"] for pod in cluster.pods("llm")}
    isolate, restart = plan(kubernetes, job_of(cluster.pod_on("n1")), nodes=("n1",))
    assert (
        "evict 3 of the 3 pods of Job training/llm (llm-x1, llm-x2, llm-x3)" in restart.description
    )
    assert carry_out(kubernetes, isolate).is_done
    result = carry_out(kubernetes, restart)
    assert cluster.nodes_of("llm") == {"n2", "n3", "n4"}
    after = {pod["metadata"]["uid"] for pod in cluster.pods("llm")}
    assert not before & after
    assert set(result.undo[GOES_ON_AS].split(",")) == {f"kubernetes:{uid}" for uid in after}
    assert result.detail == "Job training/llm runs on n2, n3, n4"
    assert len(cluster.api.calls_of("create pods/eviction")) == 3


@pytest.mark.parametrize(
    "resource", ["pytorchjobs.kubeflow.org", "jobs.batch.volcano.sh", "statefulsets.apps"]
)
def test_owners_whose_pods_keep_their_names(
    cluster: KubeCluster, kubernetes: Kubernetes, resource: str
) -> None:
    cluster.add_job("llm", 3, resource=resource)
    isolate, restart = plan(kubernetes, job_of(cluster.pod_on("n1")), nodes=("n1",))
    carry_out(kubernetes, isolate)
    carry_out(kubernetes, restart)
    assert cluster.nodes_of("llm") == {"n2", "n3", "n4"}


def test_a_pod_on_a_node_that_is_out_already_goes_and_does_not_come_back(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 1)
    cluster.cordon("n1")
    request = RecoveryRequest(
        incident="inc-000007", reason=REASON, nodes=(), jobs=(job_of(cluster.pod_on("n1")),),
        leaving=("n1", "gone"),
    )  # fmt: skip
    (step,) = kubernetes.plan(request)
    assert step.arguments["exclude"] == "n1"
    carry_out(kubernetes, step)
    assert cluster.nodes_of("llm") == {"n2"}


# The ladder's rungs.

ELASTIC: Object = {"elasticPolicy": {"minReplicas": 1, "maxReplicas": 3}}


def test_only_the_pod_of_an_elastic_job_on_the_bad_node_is_replaced(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 3, resource="pytorchjobs.kubeflow.org", spec=ELASTIC)
    job = job_of(cluster.pod_on("n1"))
    before = {pod["metadata"]["uid"] for pod in cluster.pods("llm")}
    assert kubernetes.rungs(job, ("n1",)) == {Rung.REPLACE: "", Rung.REQUEUE: "", Rung.HOLD: ""}
    cluster.cordon("n1")
    request = RecoveryRequest(
        incident="inc-000007", reason=REASON, nodes=(), jobs=(job,), leaving=("n1",),
        rungs={job: Rung.REPLACE},
    )  # fmt: skip
    (step,) = kubernetes.plan(request)
    assert "evict 1 of the 3 pods of PyTorchJob training/llm (llm-0)" in step.description
    carry_out(kubernetes, step)
    assert cluster.nodes_of("llm") == {"n2", "n3", "n4"}
    assert len(before & {pod["metadata"]["uid"] for pod in cluster.pods("llm")}) == 2


@pytest.mark.parametrize(
    ("resource", "spec", "leaving", "replace", "requeue"),
    [
        ("pytorchjobs.kubeflow.org", ELASTIC, (), "it is on no node that must leave", ""),
        ("pytorchjobs.kubeflow.org", ELASTIC, ("n1", "n2"), "nodes that must leave alone", ""),
        ("pytorchjobs.kubeflow.org", {}, ("n1",), "only a PyTorchJob with an elasticPolicy", ""),
        ("jobs.batch", {"backoffLimit": 1}, ("n1",), "only a PyTorchJob", "1 1 are left"),
        ("jobs.batch", {}, ("n1",), "only a PyTorchJob", ""),
    ],
)
def test_why_a_job_cannot_take_a_rung(
    cluster: KubeCluster, kubernetes: Kubernetes, resource: str, spec: Object,
    leaving: tuple[str, ...], replace: str, requeue: str,
) -> None:  # fmt: skip
    assert isinstance(kubernetes, Laddered)
    cluster.add_job("llm", 2, resource=resource, spec=spec)
    found = kubernetes.rungs(job_of(cluster.pod_on("n1")), leaving)
    assert replace in found[Rung.REPLACE]
    assert found[Rung.REPLACE]
    assert (requeue in found[Rung.REQUEUE]) if requeue else (found[Rung.REQUEUE] == "")


def test_a_job_that_was_restarted_by_its_other_rank_is_gone_and_not_unknown(
    cluster: KubeCluster, make: Make
) -> None:
    adapter = make(namespaces=(NAMESPACE,))
    cluster.add_job("llm", 2)
    first, second = (job_of(pod) for pod in cluster.pods("llm"))
    (step,) = plan(adapter, first)
    carry_out(adapter, step)
    with pytest.raises(JobGone):
        adapter.rungs(second, ())


def test_two_ranks_of_one_job_are_one_restart(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.add_job("llm", 2)
    jobs = [job_of(pod) for pod in cluster.pods("llm")]
    first, second = plan(kubernetes, *jobs)
    carry_out(kubernetes, first)
    result = carry_out(kubernetes, second, looks=1)
    assert result.is_done
    assert len(cluster.api.calls_of("create pods/eviction")) == 2


def test_another_adapter_after_a_crash_goes_on_with_the_step(
    cluster: KubeCluster, make: Make
) -> None:
    cluster.add_job("llm", 2)
    (step,) = plan(make(), job_of(cluster.pod_on("n1")))
    for _ in range(LOOKS):
        adapter = make()  # each look by a new process
        if adapter.do(step).is_done and adapter.confirm(step).is_done:
            break
    else:
        raise AssertionError("never done")
    assert len(cluster.api.calls_of("create pods/eviction")) == 2
    assert len(cluster.pods("llm")) == 2


def test_other_jobs_are_left_alone(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.add_job("llm", 2)
    cluster.add_job("other", 2)
    before = [pod["metadata"]["uid"] for pod in cluster.pods("other")]
    (step,) = plan(kubernetes, job_of(cluster.pods("llm")[0]))
    carry_out(kubernetes, step)
    assert [pod["metadata"]["uid"] for pod in cluster.pods("other")] == before


def test_what_pods_wait_for_is_told(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.add_job("llm", 4)
    isolate, restart = plan(kubernetes, job_of(cluster.pod_on("n1")), nodes=("n1",))
    carry_out(kubernetes, isolate)
    with pytest.raises(AssertionError, match=r"3 of 4 pods run again; llm-x\d: Unschedulable: 0/4"):
        carry_out(kubernetes, restart)
    assert not kubernetes.confirm(restart).is_done


# What would end the job instead of moving it.


def test_a_job_without_enough_backoff_is_not_touched(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 4, spec={"backoffLimit": 3})
    with pytest.raises(DeliveryFailed, match="of backoffLimit 3 3 are left") as refused:
        plan(kubernetes, job_of(cluster.pod_on("n1")))
    assert refused.value.is_permanent
    assert cluster.api.calls_of("create .*") == []


def test_a_job_that_ignores_evictions_moves_however_large(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 4, spec={"backoffLimit": 0} | IGNORES_EVICTIONS)
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    carry_out(kubernetes, step)
    assert len(cluster.nodes_of("llm")) == 4


def test_a_budget_that_is_used_up_between_plan_and_eviction_is_seen(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 2)
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    cluster.change_owner("jobs.batch", "llm", lambda raw: raw["status"].update(failed=6))
    with pytest.raises(DeliveryFailed, match="backoffLimit 6 0 are left"):
        kubernetes.do(step)
    assert cluster.api.calls_of("create .*") == []


def test_a_bare_pod_is_left_to_its_user(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    pod = cluster.add_bare_pod("notebook", "n1")
    with pytest.raises(DeliveryFailed, match="the pod training/notebook belongs to no Job"):
        plan(kubernetes, job_of(pod))


def controlled_by(kind: str, name: str, api_version: str) -> Object:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": True}


def test_an_unknown_owner_is_left_to_its_user(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.add_job("llm", 2, parent=controlled_by("AppWrapper", "w", "example.com/v1"))
    with pytest.raises(DeliveryFailed, match="the Job belongs to a AppWrapper"):
        plan(kubernetes, job_of(cluster.pod_on("n1")))
    cluster.add_job("ray", 1, resource="rayjobs.ray.io")
    with pytest.raises(DeliveryFailed, match=r"belongs to a RayJob \(ray\.io/v1\)"):
        plan(kubernetes, job_of(cluster.pods("ray")[0]))


def test_a_raycluster_is_left_to_its_user(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.add_job("ray", 2, resource="rayclusters.ray.io")
    with pytest.raises(DeliveryFailed, match="but not what ran in them"):
        plan(kubernetes, job_of(cluster.pod_on("n1")))


def test_an_mpijob_moves_with_its_launcher_and_no_other_of_its_name(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    """Kubeflow's label for the name is the same for all of its kinds."""
    cluster.add_job("llm", 1, resource="mpijobs.kubeflow.org")
    cluster.add_job("llm", 1, resource="pytorchjobs.kubeflow.org")
    owner = cluster.store.get("mpijobs.kubeflow.org", "llm", NAMESPACE)
    assert owner is not None
    parent = controlled_by("MPIJob", "llm", "kubeflow.org/v2beta1") | {
        "uid": owner["metadata"]["uid"]
    }
    label = {"training.kubeflow.org/job-name": "llm"}
    cluster.add_job("llm-launcher", 1, parent=parent, more_labels=label)
    (launcher,) = cluster.pods("llm-launcher")
    (restart,) = plan(kubernetes, job_of(launcher))
    assert "evict 2 of the 2 pods of MPIJob training/llm" in restart.description


def test_of_a_leaderworkerset_the_group_of_the_bad_node_moves(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    sets = "leaderworkersets.leaderworkerset.x-k8s.io"
    cluster.add_job("serve", 0, resource=sets)
    for name, group in (("serve-0", "0"), ("serve-1", "1")):
        labels = {
            "leaderworkerset.sigs.k8s.io/name": "serve",
            "leaderworkerset.sigs.k8s.io/group-index": group,
        }
        cluster.add_job(name, 1, resource="statefulsets.apps", more_labels=labels)
    (other,) = cluster.pods("serve-1")
    (bad,) = cluster.pods("serve-0")
    node = bad["spec"]["nodeName"]
    isolate, restart = plan(kubernetes, job_of(bad), nodes=(node,))
    assert "evict 1 of the 1 pods of LeaderWorkerSet training/serve-0" in restart.description
    carry_out(kubernetes, isolate)
    assert "LeaderWorkerSet training/serve-0 runs on" in carry_out(kubernetes, restart).detail
    assert cluster.pods("serve-1")[0]["metadata"]["uid"] == other["metadata"]["uid"]
    assert node not in cluster.nodes_of("serve-0")


def test_a_jobset_moves_with_all_its_jobs(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    jobset = controlled_by("JobSet", "set", "jobset.x-k8s.io/v1alpha2")
    cluster.store.put(
        "jobsets.jobset.x-k8s.io",
        {
            "kind": "JobSet",
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "metadata": {"name": "set", "namespace": NAMESPACE, "uid": "u"},
            "spec": {"replicatedJobs": [{"name": "w", "template": {"spec": {}}}]},
            "status": {},
        },
    )
    for index in range(2):
        labels = {
            "jobset.sigs.k8s.io/jobset-name": "set",
            "jobset.sigs.k8s.io/replicatedjob-name": "w",
            "jobset.sigs.k8s.io/job-index": str(index),
        }
        cluster.add_job(f"set-w-{index}", 1, parent=jobset, more_labels=labels)
    before = {pod["metadata"]["uid"] for pod in cluster.pods()}
    isolate, restart = plan(kubernetes, job_of(cluster.pod_on("n1")), nodes=("n1",))
    assert "evict 2 of the 2 pods of JobSet training/set" in restart.description
    carry_out(kubernetes, isolate)
    assert "JobSet training/set runs on" in carry_out(kubernetes, restart).detail
    assert not before & {pod["metadata"]["uid"] for pod in cluster.pods()}
    assert cluster.nodes_of("set-w-0") | cluster.nodes_of("set-w-1") <= {"n2", "n3", "n4"}


def test_a_pod_that_is_not_there_is_no_restart(cluster: KubeCluster, make: Make) -> None:
    gone = "kubernetes:00000000-0000-0000-0000-000000000000"
    with pytest.raises(JobGone, match="it has ended, or Kubernetes has replaced it"):
        plan(make(), gone)
    cluster.add_job("llm", 1)
    with pytest.raises(DeliveryFailed, match="in the namespaces other, another"):
        plan(make(namespaces=("other", "another")), job_of(cluster.pods()[0]))
    (step,) = plan(make(namespaces=("other", NAMESPACE)), job_of(cluster.pods()[0]))
    assert step.arguments["namespace"] == NAMESPACE


def test_a_job_that_ended_by_itself_is_done(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.add_job("llm", 2)
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    complete = [{"type": "Complete", "status": "True"}]
    cluster.change_owner("jobs.batch", "llm", lambda raw: raw["status"].update(conditions=complete))
    result = kubernetes.do(step)
    assert (result.is_done, "has ended by itself: Complete" in result.detail) == (True, True)
    assert cluster.api.calls_of("create .*") == []


def test_a_job_that_its_user_deleted_meanwhile_is_done(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    workload = cluster.add_job("llm", 1)
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    workload.is_over = True
    cluster.store.remove("jobs.batch", "llm", NAMESPACE)
    assert "has ended by itself: deleted" in kubernetes.do(step).detail


def test_a_job_that_fails_after_the_eviction_is_told(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    workload = cluster.add_job("llm", 1)
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    kubernetes.do(step)
    workload.is_over = True
    failed = [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]
    cluster.change_owner("jobs.batch", "llm", lambda raw: raw["status"].update(conditions=failed))
    for pod in cluster.pods("llm"):
        cluster.store.remove("pods", pod["metadata"]["name"], NAMESPACE)
    with pytest.raises(DeliveryFailed, match="Failed, DeadlineExceeded after the eviction"):
        kubernetes.do(step)


# Disruption budgets.


def test_a_disruption_budget_is_waited_for(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.add_job("llm", 2)
    cluster.api.budgets["llm"] = 1
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    for _ in range(4):
        result = kubernetes.do(step)
        assert not result.is_done
    assert "a disruption budget keeps training/llm-x2" in result.detail
    assert "The disruption budget llm needs 4 healthy pods" in result.detail
    assert cluster.api.calls_of("delete .*") == []
    cluster.api.budgets["llm"] = 9
    carry_out(kubernetes, step)


def test_a_budget_is_passed_after_its_patience_where_that_is_configured(
    cluster: KubeCluster, make: Make
) -> None:
    clock = Clock(1_000.0)
    adapter = make(clock, refused_eviction=RefusedEviction.DELETE, budget_patience_seconds=100.0)
    cluster.add_job("llm", 1)
    cluster.api.budgets["llm"] = 0
    (step,) = plan(adapter, job_of(cluster.pod_on("n1")))
    adapter.do(step)
    clock.at += 99
    assert "a disruption budget keeps" in adapter.do(step).detail
    clock.at += 2
    assert "past its disruption budget" in adapter.do(step).detail
    (deletion,) = cluster.api.calls_of("delete pods")
    assert "gracePeriodSeconds" not in deletion.body, "with the time to end that the pod asks for"
    carry_out(adapter, step)


def test_two_budgets_for_one_pod_are_an_answer_and_no_trouble_of_the_server(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 1)
    cluster.api.two_budgets.add("llm")
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    assert "more than one PodDisruptionBudget" in kubernetes.do(step).detail
    assert len(cluster.api.calls_of("create pods/eviction")) == 1, "it is not asked for again"


def test_a_grace_of_the_configuration_goes_with_the_eviction(
    cluster: KubeCluster, make: Make
) -> None:
    adapter = make(grace_seconds=5)
    cluster.add_job("llm", 1)
    (step,) = plan(adapter, job_of(cluster.pod_on("n1")))
    adapter.do(step)
    (call,) = cluster.api.calls_of("create pods/eviction")
    assert call.body["deleteOptions"]["gracePeriodSeconds"] == 5


def test_a_busy_server_is_asked_for_the_eviction_again(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 1)
    cluster.api.troubles.append(Trouble(pattern="create pods/eviction", status=429, times=2))
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    carry_out(kubernetes, step)


def test_another_pod_of_the_name_is_not_evicted_in_its_place(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 1, resource="statefulsets.apps")
    old = cluster.pod_on("n1")

    def replaced() -> None:
        """Its controller was faster: the name is another pod's by now."""
        cluster.store.remove("pods", "llm-0", NAMESPACE)
        cluster.step()

    cluster.api.troubles.append(Trouble(pattern="create pods/eviction", before=replaced))
    (step,) = plan(kubernetes, job_of(old))
    carry_out(kubernetes, step)
    assert len(cluster.api.calls_of("create pods/eviction")) == 1


# Nodes that do not answer, and processes that do not end.


def test_nothing_is_evicted_from_a_silent_node_without_a_fence(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 2)
    cluster.set_ready("n1", "Unknown")
    isolate, restart = plan(kubernetes, job_of(cluster.pod_on("n1")), nodes=("n1",))
    carry_out(kubernetes, isolate)
    with pytest.raises(DeliveryFailed, match=r"n1 does not answer.*nothing was evicted") as refused:
        kubernetes.do(restart)
    assert refused.value.is_permanent
    assert cluster.api.calls_of("create .*|delete .*") == []


def test_a_fenced_node_loses_its_pods_by_force(
    cluster: KubeCluster, make: Make, tmp_path: Path
) -> None:
    fence = ("/bin/sh", "-c", f"echo {{node}} {{incident}} >> {tmp_path}/fenced")
    adapter = make(fence=fence)
    cluster.add_job("llm", 2, resource="statefulsets.apps")
    cluster.set_ready("n1", "Unknown")
    isolate, restart = plan(adapter, job_of(cluster.pod_on("n1")), nodes=("n1",))
    carry_out(adapter, isolate)
    carry_out(adapter, restart)
    assert (tmp_path / "fenced").read_text() == "n1 inc-000007\n"
    (deletion,) = cluster.api.calls_of("delete pods")
    assert deletion.body["gracePeriodSeconds"] == 0
    assert cluster.nodes_of("llm") == {"n2", "n3"}


def test_of_a_dead_node_the_control_plane_is_not_waited_for(
    cluster: KubeCluster, make: Make, tmp_path: Path
) -> None:
    fence = ("/bin/sh", "-c", f"echo {{node}} >> {tmp_path}/fenced")
    adapter = make(fence=fence)
    cluster.add_job("llm", 2, resource="statefulsets.apps")
    asked = RecoveryRequest(
        incident="inc-000007", reason=REASON, nodes=("n1",), jobs=(job_of(cluster.pod_on("n1")),),
        silent=("n1",),
    )  # fmt: skip
    isolate, restart = adapter.plan(asked)
    carry_out(adapter, isolate)
    carry_out(adapter, restart)
    assert (tmp_path / "fenced").read_text() == "n1\n"
    (deletion,) = cluster.api.calls_of("delete pods")
    assert deletion.body["gracePeriodSeconds"] == 0
    assert cluster.nodes_of("llm") == {"n2", "n3"}


@pytest.mark.parametrize(
    ("fence", "words"),
    [
        (("/bin/sh", "-c", "echo no BMC >&2; exit 3"), "ended with 3: no BMC"),
        (("/no/such",), "/no/such"),
    ],
)
def test_a_fence_that_proves_nothing_holds_the_job(
    cluster: KubeCluster, make: Make, fence: tuple[str, ...], words: str
) -> None:
    adapter = make(fence=fence)
    cluster.add_job("llm", 1)
    (step,) = plan(adapter, job_of(cluster.pod_on("n1")))
    cluster.set_ready("n1", "Unknown")
    with pytest.raises(DeliveryFailed, match=words):
        adapter.do(step)
    assert cluster.api.calls_of("create .*|delete .*") == []


def test_without_a_fence_a_job_may_be_allowed_to_start_all_the_same(
    cluster: KubeCluster, make: Make
) -> None:
    adapter = make(start_without_fence=True)
    cluster.add_job("llm", 2)
    cluster.set_ready("n1", "Unknown")
    isolate, restart = plan(adapter, job_of(cluster.pod_on("n1")), nodes=("n1",))
    carry_out(adapter, isolate)
    carry_out(adapter, restart)
    assert cluster.nodes_of("llm") == {"n3", "n4"}
    assert cluster.api.calls_of("delete .*") == [], "nothing is deleted by force without a proof"


def test_a_pod_on_a_node_that_was_removed_is_evicted(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 1)
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n1")))
    cluster.store.remove("nodes", "n1")
    carry_out(kubernetes, step)
    assert cluster.nodes_of("llm") == {"n2"}


def test_a_process_that_cannot_be_killed_is_told(cluster: KubeCluster, make: Make) -> None:
    clock = Clock(LinuxHost().now())
    adapter = make(clock)
    cluster.add_job("llm", 1, resource="statefulsets.apps")
    cluster.unkillable.add("llm-0")
    (step,) = plan(adapter, job_of(cluster.pod_on("n1")))
    adapter.do(step)
    assert adapter.do(step).detail == "training/llm-0 is ending on n1"
    clock.at += 30 + 61
    with pytest.raises(DeliveryFailed, match=r"cannot be killed\. Reboot the node"):
        adapter.do(step)
    assert cluster.api.calls_of("delete .*") == []


def test_pods_that_tolerate_the_cordon_do_not_make_an_endless_chase(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 1, spec=IGNORES_EVICTIONS, tolerates_all=True)
    for node in ("n2", "n3", "n4"):
        cluster.add_bare_pod(f"on-{node}", node)
    isolate, restart = plan(kubernetes, job_of(cluster.pod_on("n1")), nodes=("n1",))
    carry_out(kubernetes, isolate)
    with pytest.raises(DeliveryFailed, match="come back to n1 again and again"):
        carry_out(kubernetes, restart)
    assert len(cluster.api.calls_of("create pods/eviction")) <= 4


def test_a_pod_that_ends_already_and_has_its_successor_is_not_counted_twice(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    """Kubernetes was first: the taint manager evicts from silent nodes after five minutes."""
    cluster.add_job("llm", 2)
    cluster.ends_in = 1000
    name = cluster.pod_on("n1")["metadata"]["name"]
    cluster.store.change(
        "pods", name, lambda raw: raw["metadata"].update(deletionTimestamp=stamp(30)), NAMESPACE
    )
    for _ in range(3):
        cluster.step()
    (step,) = plan(kubernetes, job_of(cluster.pod_on("n2")))
    assert step.arguments["expected"] == "2"
    assert step.kind is StepKind.RESTART
    cluster.ends_in = 1
    carry_out(kubernetes, step)
    assert len(cluster.nodes_of("llm")) == 2


@pytest.mark.parametrize(
    ("resource", "word"), [("pytorchjobs.kubeflow.org", "pytorchjob"), ("jobs.batch", "job")]
)
def test_a_job_that_is_named_by_its_owner_keeps_its_name(
    cluster: KubeCluster, kubernetes: Kubernetes, resource: str, word: str
) -> None:
    cluster.add_job("llm", 2, resource=resource, spec=IGNORES_EVICTIONS if word == "job" else None)
    before = {pod["metadata"]["uid"] for pod in cluster.pods("llm")}
    uid = cluster.pods("llm")[0]["metadata"]["ownerReferences"][0]["uid"]
    name = f"kubernetes:training/{word}/llm@{uid[:8]}"
    (step,) = plan(kubernetes, name)
    done = carry_out(kubernetes, step)
    assert done.is_done
    assert GOES_ON_AS not in done.undo
    assert not before & {pod["metadata"]["uid"] for pod in cluster.pods("llm")}


def test_a_job_that_was_made_again_under_its_name_is_another(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_job("llm", 2)
    with pytest.raises(JobGone, match="training/job/llm"):
        plan(kubernetes, "kubernetes:training/job/llm@00000000")
