"""The adapter for Kubernetes: cordons nodes with our mark, evicts jobs' pods, waits for new ones.

- Who cordoned a node is not told by Kubernetes: our annotation does. A node that somebody else has
  cordoned is left alone, and what they uncordon is no longer ours.
- `Ready=Unknown` is a node without power, and as down as `False`.
- An eviction can end a job instead of moving it (`backoffLimit`): `owners.py` looks before.
- A pod on a node that does not answer runs on: `eviction.py` asks for a fence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Self

from chipmedic.errors import DeliveryFailed
from chipmedic.host import Host, LinuxHost
from chipmedic.recoverer import FOREIGN, NodeView, RecoveryRequest, Rung, Step, StepKind, StepResult
from chipmedic_watchdog.recover.kubernetes import isolation
from chipmedic_watchdog.recover.kubernetes.answers import Refused
from chipmedic_watchdog.recover.kubernetes.cluster import PAGE, Cluster
from chipmedic_watchdog.recover.kubernetes.node_cache import NodeCache
from chipmedic_watchdog.recover.kubernetes.node_names import find, present, view
from chipmedic_watchdog.recover.kubernetes.objects import Node
from chipmedic_watchdog.recover.kubernetes.restart import KubernetesRestart
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings
from chipmedic_watchdog.recover.settings import RecoverSettings

CONFLICTS_MOST = 5
"""So often a node is read again because somebody wrote it in between; kubelets do, now and then."""


class Kubernetes:
    """Cordons, evicts and uncordons through the API server."""

    name = "kubernetes"

    def __init__(
        self,
        settings: KubernetesSettings,
        host: Host | None = None,
        *,
        assert_leading: Callable[[], None] = lambda: None,
        page: int = PAGE,
    ) -> None:
        self._settings = settings
        self._host = host or LinuxHost()
        self._cluster = Cluster(settings, assert_leading=assert_leading, page=page)
        self._cache = NodeCache(self._cluster)
        self._restart = KubernetesRestart(self._cluster, self._cache, settings, self._host)

    @classmethod
    def configure(cls, settings: RecoverSettings) -> Self | None:
        """Return the adapter where `[recover.kubernetes]` is in the configuration."""
        return None if settings.kubernetes is None else cls(settings.kubernetes)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._cluster.close()

    def nodes(self) -> list[NodeView]:
        """Return the state of every node; see `Witness.nodes`."""
        return [view(self._cluster, self._settings, node) for node in self._cache.nodes()]

    def plan(self, request: RecoveryRequest) -> list[Step]:
        """Read nodes and jobs and plan their steps; see `Recoverer.plan`."""
        nodes = [(name, find(self._cluster, self._settings, name)) for name in request.nodes]
        steps = [self._isolation(name, node, request.reason) for name, node in nodes]
        excluded = [node.name for _, node in nodes]
        excluded += self._known(name for name in request.leaving if name not in request.nodes)
        silent = self._known(request.silent)
        return steps + [self._restart.plan(job, excluded, request, silent) for job in request.jobs]

    def rungs(self, job: str, leaving: tuple[str, ...]) -> Mapping[Rung, str]:
        """Say how the job can be restarted; see `Laddered.rungs`."""
        return self._restart.rungs(job, self._known(leaving))

    def do(self, step: Step) -> StepResult:
        """Do the next thing that a step needs; see `Recoverer.do`."""
        match step.kind:
            case StepKind.ISOLATE:
                return self._until_unchanged(step, self._isolate)
            case StepKind.RESTART:
                return self._restart.do(step)
            case StepKind.RETURN:
                return self._until_unchanged(step, self._give_back)
            case StepKind.CHECKPOINT:
                return StepResult(is_done=True, detail="not asked")

    def confirm(self, step: Step) -> StepResult:
        """Read the world again; see `Recoverer.confirm`."""
        if step.kind is StepKind.RESTART:
            return self._restart.confirm(step)
        node = self._present(step)
        if node is None:
            return StepResult(is_done=True, detail="Kubernetes has no such node any more")
        is_held = isolation.is_held(node, step.arguments.get("reason", ""))
        if step.kind is StepKind.ISOLATE:
            # A node that somebody else cordoned is as isolated as one of ours.
            is_foreign = node.is_unschedulable and not is_held
            return StepResult(is_done=is_held or is_foreign, detail=node.words)
        return StepResult(is_done=not is_held, detail=node.words)

    def tidy(self, step: Step) -> None:
        """Take our marks off a node whose isolation somebody else has ended; see `Tidier.tidy`."""
        node = self._present(step)
        if node is None or node.is_unschedulable:
            return
        if not isolation.is_ours(node, step.arguments.get("reason", "")):
            return
        patch = isolation.left_over(node, taint=self._settings.taint)
        if patch is not None:
            self._cluster.patch_node(node.name, patch)
        self._tell(node, "", is_out=False)

    def _isolation(self, target: str, node: Node, reason: str) -> Step:
        taint = f", taint {self._settings.taint}" if self._settings.taint else ""
        return Step(
            kind=StepKind.ISOLATE,
            target=target,
            description=f"cordon node {node.name}{taint}: {reason}",
            timeout_seconds=self._settings.isolate_timeout_seconds,
            arguments={"node": node.name, "reason": reason, "state_before": node.words},
        )

    def _isolate(self, step: Step) -> StepResult:
        """Cordon a node that nobody has cordoned; find our own cordon again after a restart."""
        reason = step.arguments["reason"]
        node = self._present(step)
        if node is None:
            raise DeliveryFailed(f"Kubernetes has no node {step.target}", is_permanent=True)
        if isolation.is_held(node, reason):
            self._tell(node, reason, is_out=True)
            return StepResult(
                is_done=True, detail=f"cordoned: {reason}", undo={"owner": "chipmedic"}
            )
        before = {"state_before": node.words}
        if node.is_unschedulable:
            return StepResult(
                is_done=True,
                detail=f"cordoned already, left as it is: {isolation.who_cordoned(node)}",
                undo={"owner": FOREIGN, **before},
            )
        patch = isolation.taking_out(node, reason, taint=self._settings.taint, now=self._host.now())
        self._cluster.patch_node(node.name, patch)
        told = self._tell(node, reason, is_out=True)
        return StepResult(
            is_done=True,
            detail=f"cordoned: {reason}{told}",
            undo={"owner": "chipmedic", **before},
        )

    def _give_back(self, step: Step) -> StepResult:
        """Uncordon a node whose mark is still this very isolation, and no other."""
        node = self._present(step)
        if node is None:
            return StepResult(is_done=True, detail="Kubernetes has no such node any more")
        if not node.is_unschedulable:
            self.tidy(step)
            return StepResult(is_done=True, detail=f"in service already: {node.words}")
        if not isolation.is_ours(node, step.arguments.get("reason", "")):
            raise DeliveryFailed(
                f"{node.name} is cordoned by another now ({isolation.who_cordoned(node)}); it is "
                "left as it is",
                is_permanent=True,
            )
        self._cluster.patch_node(node.name, isolation.giving_back(node, taint=self._settings.taint))
        told = self._tell(node, "", is_out=False)
        return StepResult(is_done=True, detail=f"uncordoned; it was {node.words}{told}")

    def _tell(self, node: Node, reason: str, *, is_out: bool) -> str:
        """Write the node condition; return why that did not go, for it holds nothing up."""
        if not self._settings.condition:
            return ""
        told = isolation.condition(
            self._settings.condition, reason, is_out=is_out, now=self._host.now()
        )
        try:
            self._cluster.patch_condition(node.name, told)
        except DeliveryFailed as e:
            return f" (its condition is not written: {e})"
        return ""

    def _until_unchanged(self, step: Step, act: Callable[[Step], StepResult]) -> StepResult:
        """Do what reads a node and writes it, again where somebody wrote it in between."""
        for _ in range(CONFLICTS_MOST - 1):
            try:
                return act(step)
            except Refused as e:
                if e.status != 409:
                    raise
        return act(step)

    def _known(self, names: Iterable[str]) -> list[str]:
        """Return Kubernetes' names of nodes that are out already; one that is gone takes no pod."""
        found: list[str] = []
        for name in names:
            try:
                found.append(find(self._cluster, self._settings, name).name)
            except DeliveryFailed as e:
                if not e.is_permanent:
                    raise
        return found

    def _present(self, step: Step) -> Node | None:
        return present(self._cluster, step.arguments.get("node", step.target))
