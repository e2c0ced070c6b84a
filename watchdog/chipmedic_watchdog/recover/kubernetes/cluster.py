"""What the adapter asks the API server for; `deploy/kubernetes/rbac.yaml` allows this alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from chipmedic_watchdog.recover.kubernetes.connection import Connection, Json, readable
from chipmedic_watchdog.recover.kubernetes.isolation import FIELD_MANAGER
from chipmedic_watchdog.recover.kubernetes.objects import Owner, Pod, items, mapping, read_pod
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
CORE = "CoreV1Api"
CUSTOM = "CustomObjectsApi"
PAGE = 500
ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
"""Field selector of the pods that have not ended."""


class Cluster:
    """The calls that the adapter makes; `deploy/kubernetes/rbac.yaml` allows these and no other."""

    def __init__(
        self,
        settings: KubernetesSettings,
        *,
        assert_leading: Callable[[], None] = lambda: None,
        page: int = PAGE,
    ) -> None:
        self._settings = settings
        self.page = page
        self._connection = Connection(settings, assert_leading)
        self._ask = self._connection.ask

    def open(self) -> None:
        """Make the first call as fast as the others; see `Connection.open`."""
        self._connection.open()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._connection.close()

    def node(self, name: str) -> Json:
        """Return a node; `Refused` 404 where there is none."""
        return self._ask(f"node {name}", CORE, "read_node", name=name)

    def nodes_page(self, *, token: str = "", labels: str = "") -> Json:
        """Return one page of the nodes; `token` is the `continue` of the page before."""
        options: dict[str, Any] = {"limit": self.page}
        if token:
            options["_continue"] = token
        if labels:
            options["label_selector"] = labels
        return self._ask("list of nodes", CORE, "list_node", **options)

    def node_events(self, version: str) -> Iterator[bytes]:
        """Return the lines of what has happened to nodes since a version; it ends within seconds.

        Raises:
            Refused: 410, where the server has forgotten that version.
        """
        return self._connection.lines(
            "watch of nodes", CORE, "list_node", watch=True, resource_version=version,
            timeout_seconds=1, allow_watch_bookmarks=True,
        )  # fmt: skip

    def patch_node(self, name: str, patch: Json) -> Json:
        """Merge into a node; `Refused` 409 where the `resourceVersion` in it is not the present."""
        return self._ask(
            f"patch of node {name}", CORE, "patch_node", writes=True, name=name, body=patch,
            field_manager=FIELD_MANAGER, _content_type=MERGE_PATCH,
        )  # fmt: skip

    def patch_condition(self, name: str, condition: Json) -> Json:
        """Set one condition of a node, and leave the others."""
        return self._ask(
            f"condition of node {name}", CORE, "patch_node_status", writes=True, name=name,
            body={"status": {"conditions": [condition]}},
            field_manager=FIELD_MANAGER, _content_type=STRATEGIC_PATCH,
        )  # fmt: skip

    def pods(self, namespace: str = "", *, labels: str = "", fields: str = "") -> Iterator[Pod]:
        """Return the pods of a namespace, or of all, that the selectors choose, page by page."""
        options: dict[str, Any] = {"limit": self.page}
        if labels:
            options["label_selector"] = labels
        if fields:
            options["field_selector"] = fields
        if namespace:
            options["namespace"] = namespace
        method = "list_namespaced_pod" if namespace else "list_pod_for_all_namespaces"
        what = f"list of pods {namespace}".rstrip()
        while True:
            answer = self._ask(what, CORE, method, **options)
            with readable(what):
                found = [read_pod(raw) for raw in items(answer)]
                token = mapping(answer.get("metadata"), "metadata").get("continue")
            yield from found
            if not token:
                return
            options["_continue"] = token

    def evict(self, pod: Pod) -> None:
        """Evict a pod; `Refused` with `by_budget` where a disruption budget does not let it go."""
        from kubernetes import client

        body = client.V1Eviction(
            api_version="policy/v1",
            kind="Eviction",
            metadata=client.V1ObjectMeta(name=pod.name, namespace=pod.namespace),
            delete_options=client.V1DeleteOptions(
                grace_period_seconds=self._settings.grace_seconds,
                preconditions=client.V1Preconditions(uid=pod.uid),
            ),
        )
        self._ask(
            f"eviction of {pod.address}", CORE, "create_namespaced_pod_eviction",
            writes=True, name=pod.name, namespace=pod.namespace, body=body,
        )  # fmt: skip

    def delete(self, pod: Pod, *, grace_seconds: int | None) -> None:
        """Delete a pod; with a grace of 0 also one whose kubelet is dead."""
        from kubernetes import client

        body = client.V1DeleteOptions(
            grace_period_seconds=grace_seconds,
            preconditions=client.V1Preconditions(uid=pod.uid),
        )
        self._ask(
            f"deletion of {pod.address}", CORE, "delete_namespaced_pod",
            writes=True, name=pod.name, namespace=pod.namespace, body=body,
        )  # fmt: skip

    def owner(self, namespace: str, owner: Owner, plural: str) -> Json:
        """Return the object that controls pods; `Refused` 404 where it is gone."""
        return self._ask(
            f"{owner.kind} {namespace}/{owner.name}", CUSTOM,
            "get_namespaced_custom_object", group=owner.group, version=owner.version,
            namespace=namespace, plural=plural, name=owner.name,
        )  # fmt: skip
