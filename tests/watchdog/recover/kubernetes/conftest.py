"""A cluster on the stand-in for the API server, and the adapter that talks to it over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chipmedic.host import Host
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings
from kube_rig.cluster import KubeCluster

NODES = ("n1", "n2", "n3", "n4")


@pytest.fixture
def cluster() -> Iterator[KubeCluster]:
    found = KubeCluster()
    for name in NODES:
        found.add_node(name)
    yield found
    found.close()
    assert found.api.violations == []


Make = Callable[..., Kubernetes]


@pytest.fixture
def make(cluster: KubeCluster, tmp_path: Path) -> Iterator[Make]:
    """Return what makes adapters with settings of a test's own."""
    made: list[Kubernetes] = []

    def build(
        host: Host | None = None,
        assert_leading: Callable[[], None] = lambda: None,
        page: int = 500,
        **settings: Any,
    ) -> Kubernetes:
        kubeconfig = cluster.api.kubeconfig(tmp_path / "kubeconfig")
        adapter = Kubernetes(
            KubernetesSettings(**{"kubeconfig": kubeconfig} | settings),
            host,
            assert_leading=assert_leading,
            page=page,
        )
        made.append(adapter)
        return adapter

    yield build
    for adapter in made:
        adapter.close()


@pytest.fixture
def kubernetes(make: Make) -> Kubernetes:
    return make()
