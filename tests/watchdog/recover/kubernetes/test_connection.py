"""What an API server does to its clients: refusals, slowness, broken connections, new tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import RecoveryRequest
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings
from kube_rig.api_server import Trouble
from kube_rig.cluster import KubeCluster

Make = Callable[..., Kubernetes]
REQUEST = RecoveryRequest(incident="inc-1", reason="chipmedic:inc-1 x", nodes=("n1",), jobs=())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_asked_for_again(
    cluster: KubeCluster, kubernetes: Kubernetes, status: int
) -> None:
    cluster.api.troubles.append(Trouble(pattern="list nodes", status=status, times=2))
    assert len(kubernetes.nodes()) == 4


def test_a_short_retry_after_is_waited_for(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    headers = {"Retry-After": "1"}
    cluster.api.troubles.append(Trouble(pattern="list nodes", status=429, headers=headers))
    assert len(kubernetes.nodes()) == 4


def test_a_long_retry_after_is_left_to_the_engine(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    trouble = Trouble(
        pattern="list nodes", status=429, times=9, headers={"Retry-After": "60"}, body="slow down"
    )
    cluster.api.troubles.append(trouble)
    with pytest.raises(DeliveryFailed, match="list of nodes: 429 slow down") as refused:
        kubernetes.nodes()
    assert not refused.value.is_permanent
    assert trouble.times == 8


def test_trouble_that_stays_is_told_and_is_never_an_empty_list(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.api.troubles.append(Trouble(pattern="list nodes", status=503, times=99, body="etcd"))
    with pytest.raises(DeliveryFailed, match="list of nodes: 503 etcd") as refused:
        kubernetes.nodes()
    assert not refused.value.is_permanent


def test_a_right_that_is_missing_names_the_file_and_is_not_asked_for_again(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    trouble = Trouble(pattern="list nodes", status=403, times=9, body="nodes is forbidden")
    cluster.api.troubles.append(trouble)
    with pytest.raises(DeliveryFailed, match=r"forbidden; see deploy/kubernetes/rbac\.yaml") as no:
        kubernetes.nodes()
    assert no.value.is_permanent
    assert trouble.times == 8


def test_a_connection_that_breaks_is_opened_again(
    cluster: KubeCluster, kubernetes: Kubernetes
) -> None:
    cluster.api.troubles.append(Trouble(pattern="list nodes", cuts=True, times=2))
    assert len(kubernetes.nodes()) == 4


def test_a_server_that_hangs_costs_the_timeout_and_not_more(
    cluster: KubeCluster, make: Make
) -> None:
    adapter = make(request_timeout_seconds=0.1)
    cluster.api.troubles.append(Trouble(pattern="list nodes", delay_seconds=0.5, times=99))
    with pytest.raises(DeliveryFailed, match="the API server does not answer"):
        adapter.nodes()


def test_a_server_that_is_away_is_told_without_the_clients_wrapping(tmp_path: Path) -> None:
    away = KubeCluster()
    kubeconfig = away.api.kubeconfig(tmp_path / "kubeconfig")
    away.close()
    adapter = Kubernetes(KubernetesSettings(kubeconfig=kubeconfig))
    with pytest.raises(DeliveryFailed, match=r"does not answer: .*refused") as failed:
        adapter.nodes()
    assert "HTTPConnectionPool" not in str(failed.value)
    assert not failed.value.is_permanent
    adapter.close()


def test_a_new_token_in_the_file_is_taken_after_the_old_was_refused(
    cluster: KubeCluster, kubernetes: Kubernetes, tmp_path: Path
) -> None:
    assert kubernetes.nodes()
    cluster.api.token = "another-token"
    with pytest.raises(DeliveryFailed, match="401") as refused:
        kubernetes.nodes()
    assert not refused.value.is_permanent
    cluster.api.kubeconfig(tmp_path / "kubeconfig")
    assert len(kubernetes.nodes()) == 4


@pytest.mark.parametrize("text", ["", "[", "{}", "clusters: 7", "\x00"])
def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    adapter = Kubernetes(KubernetesSettings(kubeconfig=str(path)))
    with pytest.raises(DeliveryFailed, match=r"\[recover.kubernetes\].*kubeconfig") as failed:
        adapter.plan(REQUEST)
    assert failed.value.is_permanent


def test_outside_of_a_cluster_a_kubeconfig_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(DeliveryFailed, match="set kubeconfig"):
        Kubernetes(KubernetesSettings()).nodes()


@pytest.mark.parametrize("told", ["<html>", "[1]", '{"items": 7}', '{"items": [{}]}'])
def test_an_answer_that_is_none_is_a_failure(
    cluster: KubeCluster, kubernetes: Kubernetes, told: str
) -> None:
    cluster.api.raw_answers["list nodes"] = told
    with pytest.raises(DeliveryFailed, match="list of nodes: an answer that cannot be read"):
        kubernetes.nodes()
