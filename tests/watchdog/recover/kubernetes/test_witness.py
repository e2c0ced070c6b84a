"""What Kubernetes says of its nodes, as a second witness and for the budgets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chipmedic.recoverer import NodeView, RecoveryRequest, Witness
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from kube_rig.api_server import Trouble
from kube_rig.cluster import KubeCluster

Make = Callable[..., Kubernetes]


def view(adapter: Kubernetes, node: str = "n1") -> NodeView:
    return next(view for view in adapter.nodes() if view.node == node)


@pytest.mark.parametrize(
    ("ready", "is_available", "is_down"),
    [("True", True, False), ("False", False, True), ("Unknown", False, True)],
)
def test_a_node_without_power_is_unknown_and_down(
    cluster: KubeCluster, kubernetes: Kubernetes, ready: str, is_available: bool, is_down: bool
) -> None:
    assert isinstance(kubernetes, Witness)
    cluster.set_ready("n1", ready)
    found = view(kubernetes)
    assert (found.is_available, found.is_down) == (is_available, is_down)
    assert f"Ready={ready}" in found.why
    assert found.expected == ""


def test_a_node_whose_kubelet_has_never_reported_is_no_witness_of_death(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.store.change("nodes", "n1", lambda raw: raw["status"].update(conditions=[]))
    found = view(kubernetes)
    assert (found.is_available, found.is_down) == (False, False)
    assert found.why == "Ready=never reported"


def test_a_cordoned_node_is_out_and_not_down(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.cordon("n1")
    found = view(kubernetes)
    assert (found.is_available, found.is_down, found.expected) == (False, False, "")


def test_an_empty_node_that_an_admin_cordoned_is_expected_to_go(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.cordon("n1")
    cluster.set_ready("n1", "Unknown")
    assert view(kubernetes).expected == "Ready=Unknown (NodeStatusUnknown), cordoned"


def test_a_cordoned_node_with_a_job_is_missed(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    cluster.add_job("llm", 4)
    cluster.cordon("n1")
    cluster.set_ready("n1", "Unknown")
    assert view(kubernetes).expected == ""


def test_where_pods_cannot_be_read_a_node_is_missed(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.cordon("n1")
    cluster.set_ready("n1", "Unknown")
    cluster.api.troubles.append(Trouble(pattern="list pods", status=403))
    assert view(kubernetes).expected == ""


def test_our_own_cordon_makes_no_absence_expected(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    request = RecoveryRequest(incident="i", reason="chipmedic:i x", nodes=("n1",), jobs=())
    (step,) = kubernetes.plan(request)
    kubernetes.do(step)
    cluster.set_ready("n1", "Unknown")
    found = view(kubernetes)
    assert found.expected == ""
    assert found.why.endswith("cordoned: chipmedic:i x")


def test_nodes_bear_the_names_of_their_agents(cluster: KubeCluster, make: Make) -> None:
    cluster.add_node("ip-10-0-0-9", labels={"site/name": "gpu-17"})
    adapter = make(node_label="site/name")
    assert {found.node for found in adapter.nodes()} == {"n1", "n2", "n3", "n4", "gpu-17"}
