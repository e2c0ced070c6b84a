"""Whatever others do to a node between any two of our requests, theirs stays theirs.

Before each request of the adapter something may happen: a person cordons or uncordons, the kubelet
writes, the server fails, the connection breaks, our process dies and begins again. The steps are
tried as the engine does. What holds then is what the operator was promised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import RecoveryRequest, Step, StepKind, StepResult
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from chipmedic_watchdog.recover.kubernetes.isolation import ANNOTATIONS
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings
from kube_rig.api_server import Trouble
from kube_rig.cluster import KubeCluster

REASON = "chipmedic:inc-000007 chip.lost"
EVENTS = ("cordon", "uncordon", "again", "kubelet", "500", "lost answer", "die")
TRIES = 30


@dataclass
class World:
    """A cluster with one node in which things happen by a list."""

    cluster: KubeCluster
    kubeconfig: str
    events: dict[int, str]
    asked: int = 0
    """Requests since the events began to be counted."""
    by_hand: bool | None = None
    """What a person did to the cordon last: True is on; None: nothing yet."""
    dies: bool = False
    """Our process is to begin again."""
    adapter: Kubernetes = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin as a new process."""
        self.adapter = Kubernetes(KubernetesSettings(kubeconfig=self.kubeconfig))

    def happen(self) -> None:
        """Let the next event happen, and line up the troubles that it makes."""
        event = self.events.pop(self.asked, "")
        self.asked += 1
        api = self.cluster.api
        match event:
            case "cordon" | "uncordon":
                self.by_person(is_on=event == "cordon")
            case "again":
                self.by_person(is_on=False)
                self.by_person(is_on=True)
            case "kubelet":
                self.cluster.set_ready("n1", "True")
            case "die":
                self.dies = True
                api.troubles.append(Trouble(pattern=".*", cuts=True, times=4))
            case "500":
                api.troubles.append(Trouble(pattern=".*", status=500))
            case "lost answer":
                api.troubles.append(Trouble(pattern="patch nodes", loses_answer=True))

    def by_person(self, *, is_on: bool) -> None:
        """Do as kubectl does, which leaves alone what is so already."""
        if is_on != self.is_cordoned():
            self.by_hand = is_on
            self.cluster.cordon("n1", on=is_on, by="kubectl-cordon")

    def work(self, act: Callable[[Kubernetes], StepResult]) -> bool:
        """Try as the engine does, with an event before each request; True: it is done."""
        self.cluster.api.before_each = self.happen
        try:
            for _ in range(TRIES):
                if self.dies:
                    self.adapter.close()
                    self.begin()
                    self.dies = False
                try:
                    if act(self.adapter).is_done:
                        return True
                except DeliveryFailed as e:
                    if e.is_permanent:
                        return False
            raise AssertionError("neither done nor refused")
        finally:
            self.cluster.api.before_each = lambda: None

    def is_cordoned(self) -> bool:
        return bool(self.cluster.node("n1")["spec"].get("unschedulable"))

    def marks(self) -> set[str]:
        node = self.cluster.node("n1")
        taints = {taint["key"] for taint in node["spec"].get("taints", [])}
        return taints | (set(node["metadata"].get("annotations", {})) & set(ANNOTATIONS))


EVENT_LISTS = st.dictionaries(st.integers(0, 5), st.sampled_from(EVENTS), max_size=3)
"""By the request before which they happen."""


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=EVENT_LISTS, second=EVENT_LISTS)
@example(first={3: "cordon"}, second={})  # between the look and the patch
@example(first={}, second={0: "again"})  # and our mark is still there
@example(first={3: "lost answer"}, second={1: "lost answer"})
def test_a_cordon_by_hand_outlives_us_and_our_marks_do_not(
    first: dict[int, str], second: dict[int, str]
) -> None:
    cluster = KubeCluster()
    try:
        cluster.add_node("n1")
        with TemporaryDirectory() as folder:
            kubeconfig = cluster.api.kubeconfig(Path(folder) / "kubeconfig")
            story(World(cluster, kubeconfig, dict(first)), second)
        assert cluster.api.violations == []
    finally:
        cluster.close()


def story(world: World, second: dict[int, str]) -> None:
    steps: list[Step] = []

    def plan(adapter: Kubernetes) -> StepResult:
        request = RecoveryRequest(incident="i", reason=REASON, nodes=("n1",), jobs=())
        steps[:] = adapter.plan(request)
        return StepResult(is_done=True, detail="")

    assert world.work(plan)
    isolate = steps[0]
    assert world.work(lambda adapter: adapter.do(isolate))
    world.events, world.asked = dict(second), 0
    back = Step(
        kind=StepKind.RETURN, target="n1", description="", timeout_seconds=1,
        arguments=isolate.arguments,
    )  # fmt: skip
    is_back = world.work(lambda adapter: adapter.do(back))
    if world.by_hand is True:
        assert world.is_cordoned(), "a person's cordon was taken away"
    if world.by_hand is None:
        assert is_back
        assert not world.is_cordoned()
        assert world.marks() == set()
    if is_back and not world.is_cordoned():
        assert world.marks() == set(), "our marks keep work off a node that is back"
    world.adapter.close()
