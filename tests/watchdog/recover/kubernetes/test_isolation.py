"""Nodes are cordoned with our mark, and only what bears it is undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic.recoverer import FOREIGN, RecoveryRequest, Step, StepKind
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from kube_rig.api_server import Trouble
from kube_rig.cluster import KubeCluster

REASON = "chipmedic:inc-000007 memory.uncorrectable"
Make = Callable[..., Kubernetes]


def request(node: str = "n1", reason: str = REASON) -> RecoveryRequest:
    return RecoveryRequest(
        incident="inc-000007", reason=reason, nodes=(node,), jobs=(), recovery="rec-000001"
    )


def isolate(
    adapter: Kubernetes, node: str = "n1", reason: str = REASON
) -> tuple[Step, dict[str, str]]:
    (step,) = adapter.plan(request(node, reason))
    result = adapter.do(step)
    assert result.is_done, result.detail
    return step, result.undo


def give_back(step: Step) -> Step:
    return Step(
        kind=StepKind.RETURN,
        target=step.target,
        description="",
        timeout_seconds=60,
        arguments=step.arguments,
    )


def condition(raw: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in raw["status"]["conditions"] if c["type"] == kind)


def test_one_patch_cordons_taints_and_says_why(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    step, undo = isolate(kubernetes)
    node = cluster.node("n1")
    assert undo["owner"] == "chipmedic"
    assert node["spec"]["unschedulable"] is True
    assert node["spec"]["taints"] == [
        {"key": "chipmedic.dev/fault", "value": "inc-000007", "effect": "NoSchedule"}
    ]
    assert node["metadata"]["annotations"]["chipmedic.dev/isolated-by"] == REASON
    assert condition(node, "ChipmedicFault")["status"] == "True"
    assert condition(node, "ChipmedicFault")["message"] == REASON
    assert condition(node, "Ready")["status"] == "True"
    assert len(cluster.api.calls_of("patch nodes")) == 1
    assert kubernetes.confirm(step).is_done


def test_the_second_do_after_a_restart_finds_our_cordon(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    step, _ = isolate(kubernetes)
    result = kubernetes.do(step)
    assert (result.is_done, result.undo["owner"]) == (True, "chipmedic")
    assert len(cluster.api.calls_of("patch nodes")) == 1


def test_a_cordon_of_somebody_else_stays_theirs(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.cordon("n1")
    step, undo = isolate(kubernetes)
    assert undo["owner"] == FOREIGN
    assert cluster.api.calls_of("patch nodes") == []
    assert kubernetes.confirm(step).is_done
    with pytest.raises(DeliveryFailed, match=r"cordoned by another now \(kubectl-cordon\)"):
        kubernetes.do(give_back(step))
    assert cluster.node("n1")["spec"]["unschedulable"] is True


def test_a_cordon_in_between_makes_the_patch_fail_and_is_respected(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.api.troubles.append(Trouble(pattern="patch nodes", before=lambda: cluster.cordon("n1")))
    _, undo = isolate(kubernetes)
    assert undo["owner"] == FOREIGN
    assert "taints" not in cluster.node("n1")["spec"]


def test_a_write_of_the_kubelet_in_between_costs_one_more_try(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.api.troubles.append(
        Trouble(pattern="patch nodes", before=lambda: cluster.set_ready("n1", "True"))
    )
    _, undo = isolate(kubernetes)
    assert undo["owner"] == "chipmedic"
    assert len(cluster.api.calls_of("patch nodes")) == 2


def test_what_returns_is_as_it_was(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    foreign = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
    cluster.store.change("nodes", "n1", lambda raw: raw["spec"].update(taints=[foreign]))
    before = cluster.node("n1")
    step, _ = isolate(kubernetes)
    assert foreign in cluster.node("n1")["spec"]["taints"]
    assert kubernetes.do(give_back(step)).is_done
    assert kubernetes.confirm(give_back(step)).is_done
    after = cluster.node("n1")
    assert after["spec"] == before["spec"]
    assert after["metadata"].get("annotations", {}) == {}
    assert condition(after, "ChipmedicFault")["status"] == "False"
    assert kubernetes.do(give_back(step)).detail.startswith("in service already")


def test_an_uncordon_by_hand_ends_the_isolation_and_tidy_takes_the_taint(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    step, _ = isolate(kubernetes)
    cluster.cordon("n1", on=False)
    assert not kubernetes.confirm(step).is_done
    kubernetes.tidy(step)
    node = cluster.node("n1")
    assert "taints" not in node["spec"]
    assert node["metadata"]["annotations"] == {}
    kubernetes.tidy(step)
    assert len(cluster.api.calls_of("patch nodes")) == 2


def test_a_cordon_by_hand_after_an_uncordon_is_theirs_though_our_mark_is_left(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    step, _ = isolate(kubernetes)
    cluster.cordon("n1", on=False)
    cluster.cordon("n1", by="kubectl-cordon")
    with pytest.raises(DeliveryFailed, match="kubectl-cordon"):
        kubernetes.do(give_back(step))
    assert cluster.node("n1")["spec"]["unschedulable"] is True


def test_another_incident_of_ours_keeps_its_node(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    first, _ = isolate(kubernetes)
    second, undo = isolate(kubernetes, reason="chipmedic:inc-000008 chip.lost")
    assert undo["owner"] == FOREIGN
    with pytest.raises(DeliveryFailed, match="inc-000007"):
        kubernetes.do(give_back(second))
    assert kubernetes.do(give_back(first)).is_done


def test_a_condition_that_may_not_be_written_holds_nothing_up(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.api.troubles.append(
        Trouble(pattern="patch nodes/status", status=403, body="nodes/status is forbidden")
    )
    (step,) = kubernetes.plan(request())
    result = kubernetes.do(step)
    assert result.is_done
    assert "its condition is not written" in result.detail


def test_taint_and_condition_can_be_switched_off(cluster: KubeCluster, make: Make) -> None:
    adapter = make(taint="", condition="")
    step, _ = isolate(adapter)
    assert cluster.node("n1")["spec"] == {"unschedulable": True}
    assert len(cluster.node("n1")["status"]["conditions"]) == 1
    assert adapter.do(give_back(step)).is_done
    assert cluster.node("n1")["spec"] == {}


def test_a_node_that_is_gone_is_given_back_and_cannot_be_taken_out(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    step, _ = isolate(kubernetes)
    cluster.store.remove("nodes", "n1")
    assert kubernetes.confirm(step).is_done
    assert kubernetes.do(give_back(step)).is_done
    with pytest.raises(DeliveryFailed, match="no node n1"):
        kubernetes.do(step)
    with pytest.raises(DeliveryFailed, match=r"label it chipmedic\.dev/node=n1"):
        kubernetes.plan(request())


def test_the_name_of_the_agent_is_found_by_label_or_in_short(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.add_node("ip-10-0-0-9", labels={"chipmedic.dev/node": "gpu-17.example.com"})
    step, _ = isolate(kubernetes, "gpu-17.example.com")
    assert (step.target, step.arguments["node"]) == ("gpu-17.example.com", "ip-10-0-0-9")
    assert isolate(kubernetes, "n2.example.com")[0].arguments["node"] == "n2"
    for nonsense in ("n1,app=x", "-n1", "", "a" * 300):
        with pytest.raises(DeliveryFailed, match="no name of a node"):
            kubernetes.plan(request(nonsense))


def test_two_nodes_with_one_label_are_not_guessed_between(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    for name in ("a1", "a2"):
        cluster.add_node(name, labels={"chipmedic.dev/node": "gpu-1"})
    with pytest.raises(DeliveryFailed, match="a1, a2: all have the label"):
        kubernetes.plan(request("gpu-1"))


def test_a_watchdog_that_lost_the_lead_writes_nothing(cluster: KubeCluster, make: Make) -> None:
    def lost() -> None:
        raise StoreError("another watchdog leads")

    adapter = make(assert_leading=lost)
    (step,) = adapter.plan(request())
    with pytest.raises(DeliveryFailed, match="another watchdog leads"):
        adapter.do(step)
    assert cluster.api.calls_of("patch .*") == []
