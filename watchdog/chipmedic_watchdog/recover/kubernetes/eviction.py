"""Takes old pods away: proves that their nodes can end them, evicts, and waits for their end.

A pod on a node that does not answer stays `Terminating` for ever, while its owner makes another:
two writers of one checkpoint. So nothing is evicted from such a node before it is fenced, and only
then is its pod deleted by force.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chipmedic.errors import DeliveryFailed, ToolBlocked, ToolFailed, ToolMissing
from chipmedic.host import Host
from chipmedic_watchdog.recover.kubernetes.answers import Refused
from chipmedic_watchdog.recover.kubernetes.cluster import Cluster
from chipmedic_watchdog.recover.kubernetes.isolation import TAG
from chipmedic_watchdog.recover.kubernetes.node_cache import NodeCache
from chipmedic_watchdog.recover.kubernetes.node_names import present
from chipmedic_watchdog.recover.kubernetes.objects import Node, Pod
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings, RefusedEviction

ASKED_ONE_BY_ONE = 16
"""For more nodes than these the list of all is the lesser load."""


class Eviction:
    """Evicts pods; it remembers since when a budget refuses, and which nodes were fenced."""

    def __init__(
        self, cluster: Cluster, cache: NodeCache, settings: KubernetesSettings, host: Host
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._host = host
        self._refused_since: dict[str, float] = {}
        self._fenced: set[tuple[str, str]] = set()
        self._given_up: set[str] = set()
        """Uids of pods on nodes that do not answer, whose end nobody waits for."""

    def take(self, pods: Sequence[Pod], reason: str, silent: Collection[str] = ()) -> str:
        """Take pods away as far as it goes now; return what is waited for, or nothing.

        The `silent` nodes are dead, though the control plane may not have noticed yet.

        Raises:
            DeliveryFailed: a node does not answer and cannot be fenced, or a pod does not end.
        """
        fenced = self._prove({pod.node for pod in pods if pod.node}, reason, silent)
        waits: list[str] = []
        for pod in sorted(pods, key=lambda pod: pod.deleted_at is not None):
            if pod.node in fenced:
                self._delete(pod, grace_seconds=0)
                waits.append(f"{pod.address}: {pod.node} is fenced, so it is deleted by force")
            elif pod.deleted_at is None:
                waits.append(self._evict(pod))
            elif not self.is_given_up(pod):
                waits.append(self._ending(pod))
        more = f", and {len(waits) - 1} more" if len(waits) > 1 else ""
        return waits[0] + more if waits else ""

    def is_given_up(self, pod: Pod) -> bool:
        """Whether a pod's end is not waited for: its node does not answer, and that was allowed."""
        return pod.deleted_at is not None and pod.uid in self._given_up

    def _prove(self, names: set[str], reason: str, silent: Collection[str]) -> set[str]:
        """See that the kubelets of nodes answer; return those that were fenced instead.

        Raises:
            DeliveryFailed: one does not answer and cannot be fenced.
        """
        fenced: set[str] = set()
        for node in self._nodes(names):
            name = node.name
            is_dead = name in silent and bool(self._settings.fence)
            if (node.answers and not is_dead) or self._settings.start_without_fence:
                continue
            if not self._settings.fence:
                raise DeliveryFailed(
                    f"{name} does not answer ({node.words}), so the job's old processes there may "
                    "still write to its checkpoint; nothing was evicted. Power the node off and "
                    "restart the job ([recover.kubernetes] fence can do this by itself)",
                    is_permanent=True,
                )
            if (name, reason) not in self._fenced:
                self._fence(name, reason)
                self._fenced.add((name, reason))
            fenced.add(name)
        return fenced

    def _nodes(self, names: set[str]) -> list[Node]:
        """Return the nodes of these names; one that is gone runs nothing."""
        if len(names) > ASKED_ONE_BY_ONE:
            return [node for node in self._cache.nodes() if node.name in names]
        found = [present(self._cluster, name) for name in sorted(names)]
        return [node for node in found if node is not None]

    def _fence(self, node: str, reason: str) -> None:
        """Prove a node dead by the configured command.

        Raises:
            DeliveryFailed: the command did not prove it.
        """
        incident = reason.split()[0].removeprefix(TAG) if reason.split() else ""
        argv = [
            part.format_map({"node": node, "incident": incident}) for part in self._settings.fence
        ]
        try:
            answer = self._host.run(argv, timeout_seconds=self._settings.fence_timeout_seconds)
        except ToolMissing as e:
            raise DeliveryFailed(f"fence: {e}", is_permanent=True) from e
        except (ToolFailed, ToolBlocked) as e:
            raise DeliveryFailed(f"fence: {e}") from e
        if answer.exit_code != 0:
            said = (answer.stderr.strip() or answer.stdout.strip() or "no output")[:300]
            raise DeliveryFailed(f"fence: {argv[0]} ended with {answer.exit_code}: {said}")

    def _evict(self, pod: Pod) -> str:
        """Evict one pod; return what is waited for then."""
        if self._settings.start_without_fence:
            node = present(self._cluster, pod.node) if pod.node else None
            if node is not None and not node.answers:
                self._given_up.add(pod.uid)
        try:
            self._cluster.evict(pod)
        except Refused as e:
            if e.by_budget:
                return self._refused(pod, e)
            if e.status not in (404, 409):
                raise
            # 404: it is gone. 409: another pod has its name by now.
        self._refused_since.pop(pod.uid, None)
        return f"evicted {pod.address} from {pod.node or 'no node'}"

    def _refused(self, pod: Pod, error: Refused) -> str:
        """Wait for a disruption budget, and go past it where that is configured."""
        now = self._host.now()
        since = self._refused_since.setdefault(pod.uid, now)
        is_over = now - since >= self._settings.budget_patience_seconds
        if is_over and self._settings.refused_eviction is RefusedEviction.DELETE:
            self._delete(pod, grace_seconds=self._settings.grace_seconds)
            return f"deleted {pod.address}, past its disruption budget: {error}"
        return f"a disruption budget keeps {pod.address}: {error}"

    def _delete(self, pod: Pod, *, grace_seconds: int | None) -> None:
        try:
            self._cluster.delete(pod, grace_seconds=grace_seconds)
        except Refused as e:
            if e.status not in (404, 409):
                raise

    def _ending(self, pod: Pod) -> str:
        """Say that a pod is ending.

        Raises:
            DeliveryFailed: its grace is over for long: a process of it cannot be killed.
        """
        deleted_at = pod.deleted_at or 0.0
        late_seconds = self._host.now() - deleted_at
        if late_seconds > self._settings.stuck_after_seconds:
            raise DeliveryFailed(
                f"{pod.address} on {pod.node} should have ended {late_seconds:.0f} s ago: a "
                "process of it cannot be killed. Reboot the node, then its job goes on",
                is_permanent=True,
            )
        return f"{pod.address} is ending on {pod.node}"
