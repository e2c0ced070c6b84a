"""All nodes by one list and then by their changes; what the server forgets is listed again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from kube_rig.api_server import Trouble
from kube_rig.cluster import KubeCluster

Make = Callable[..., Kubernetes]


@pytest.fixture
def paged(make: Make) -> Kubernetes:
    """An adapter that gets three nodes at a time, so that four are worth a watch."""
    return make(page=3)


def states(adapter: Kubernetes) -> dict[str, bool]:
    return {view.node: view.is_available for view in adapter.nodes()}


def test_a_list_of_several_pages_is_whole(cluster: KubeCluster, paged: Kubernetes) -> None:
    assert states(paged) == {"n1": True, "n2": True, "n3": True, "n4": True}
    assert [call.query.get("limit") for call in cluster.api.calls_of("list nodes")] == ["3", "3"]


def test_changes_come_by_watch_and_nothing_is_listed_again(
    cluster: KubeCluster, paged: Kubernetes
) -> None:
    states(paged)
    cluster.set_ready("n1", "Unknown")
    cluster.cordon("n2")
    cluster.store.remove("nodes", "n3")
    cluster.add_node("n5")
    assert states(paged) == {"n1": False, "n2": False, "n4": True, "n5": True}
    assert states(paged) == {"n1": False, "n2": False, "n4": True, "n5": True}
    assert len(cluster.api.calls_of("list nodes")) == 2
    first, second = cluster.api.calls_of("watch nodes")
    assert int(second.query["resourceVersion"]) == cluster.store.version
    assert first.query["allowWatchBookmarks"] in ("true", "True")


@pytest.mark.parametrize("as_status", [False, True])
def test_a_version_that_the_server_has_forgotten_is_listed_again(
    cluster: KubeCluster, paged: Kubernetes, as_status: bool
) -> None:
    states(paged)
    cluster.set_ready("n1", "False", "KubeletNotReady")
    cluster.store.forget()
    if as_status:
        cluster.api.troubles.append(Trouble(pattern="watch nodes", status=410))
    assert states(paged) == {"n1": False, "n2": True, "n3": True, "n4": True}
    assert len(cluster.api.calls_of("list nodes")) == 4


def test_a_list_that_loses_its_place_is_begun_again(
    cluster: KubeCluster, paged: Kubernetes
) -> None:
    def forget() -> None:
        cluster.set_ready("n1", "Unknown")
        cluster.store.forget()

    second_page = [Trouble(pattern="list nodes"), Trouble(pattern="list nodes", before=forget)]
    cluster.api.troubles += second_page
    assert states(paged) == {"n1": False, "n2": True, "n3": True, "n4": True}


def test_half_a_list_is_never_told(cluster: KubeCluster, paged: Kubernetes) -> None:
    cluster.api.troubles += [
        Trouble(pattern="list nodes"),
        Trouble(pattern="list nodes", status=500, times=99),
    ]
    with pytest.raises(DeliveryFailed, match="500"):
        paged.nodes()


def test_a_watch_that_breaks_off_leaves_what_is_known_and_the_next_goes_on(
    cluster: KubeCluster, paged: Kubernetes
) -> None:
    states(paged)
    cluster.set_ready("n1", "Unknown")
    cluster.api.raw_answers["watch nodes"] = '{"type": "MODIFIED", "obj'
    assert states(paged)["n1"] is True, "a line that was cut off says nothing"
    del cluster.api.raw_answers["watch nodes"]
    assert states(paged)["n1"] is False


@pytest.mark.parametrize("line", ["nonsense\n", "[]\n", '{"type": "ADDED", "object": 7}\n'])
def test_an_event_that_is_none_is_a_failure(
    cluster: KubeCluster, paged: Kubernetes, line: str
) -> None:
    states(paged)
    cluster.api.raw_answers["watch nodes"] = line
    with pytest.raises(DeliveryFailed, match="watch of nodes"):
        paged.nodes()


def test_a_small_cluster_is_listed(cluster: KubeCluster, kubernetes: Kubernetes) -> None:
    states(kubernetes)
    states(kubernetes)
    assert cluster.api.calls_of("watch nodes") == []
