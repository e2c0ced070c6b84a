"""The real watchdog process on Kubernetes' stand-in: from a fault to a job on other nodes and back.

Agents speak over real gRPC, the watchdog to the API server over real HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chipmedic.model import JobStatus
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from fake_agent import FakeAgent, a_coverage, a_fault, a_snapshot, event
from kube_rig.api_server import Trouble
from kube_rig.cluster import KubeCluster
from waiting import eventually
from watchdog_process import WatchdogProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

NODES = ("n1", "n2", "n3", "n4")
CONFIG = """
[liveness]
startup_grace_seconds = 0.1
[recover]
mode = "act"
return_mode = "act"
maximum_isolated_percent = 50.0
return_cool_down_seconds = 0
poll_seconds = 0.2
hold_file = ""
[recover.gate]
required = false
[recover.kubernetes]
kubeconfig = "{kubeconfig}"
namespaces = ["training"]
fence = ["/bin/sh", "-c", "echo {{node}} >> {folder}/fenced"]
"""


@pytest.fixture
def cluster() -> Iterator[KubeCluster]:
    found = KubeCluster()
    for name in NODES:
        found.add_node(name)
    yield found
    found.close()
    assert found.api.violations == []


@pytest.fixture
def watchdog(tmp_path: Path, cluster: KubeCluster) -> Iterator[WatchdogProcess]:
    kubeconfig = cluster.api.kubeconfig(tmp_path / "kubeconfig")
    config = CONFIG.format(kubeconfig=kubeconfig, folder=tmp_path)
    process = WatchdogProcess(tmp_path / "watchdog", config)
    process.start()
    yield process
    process.close()


@pytest.fixture
async def agents(
    watchdog: WatchdogProcess, cluster: KubeCluster
) -> AsyncIterator[dict[str, FakeAgent]]:
    """An agent on each node, which reports the pod that runs there as its job."""
    cluster.add_job("llm", 3)
    async with AsyncExitStack() as stack:
        found = {}
        for name in NODES:
            agent = FakeAgent(watchdog.address, name)
            found[name] = await stack.enter_async_context(agent)
        while job_of(cluster) not in {one["job"] for one in watchdog.items("/api/v1/jobs")}:
            for name, agent in found.items():
                await agent.send(snapshot=a_snapshot([], 0, [a_coverage()], jobs(cluster, name)))
            await asyncio.sleep(0.2)
        yield found


def job_of(cluster: KubeCluster) -> str:
    """Whose pods they are."""
    owner = cluster.pods("llm")[0]["metadata"]["ownerReferences"][0]
    return f"kubernetes:training/job/llm@{owner['uid'][:8]}"


def jobs(cluster: KubeCluster, node: str, step: int = 7) -> list[JobStatus]:
    return [
        JobStatus(job=f"kubernetes:{pod['metadata']['uid']}", at=1000.0, pids=(1,), step=step)
        for pod in cluster.pods("llm")
        if pod["spec"].get("nodeName") == node
    ]


def recoveries(watchdog: WatchdogProcess) -> dict[str, str]:
    return {str(one["id"]): str(one["state"]) for one in watchdog.items("/api/v1/recoveries")}


async def test_a_fault_moves_the_whole_job_and_the_node_comes_back(
    cluster: KubeCluster, watchdog: WatchdogProcess, agents: dict[str, FakeAgent]
) -> None:
    before = {pod["metadata"]["uid"] for pod in cluster.pods("llm")}
    cluster.api.troubles += [
        Trouble(pattern="patch nodes", before=lambda: cluster.set_ready("n1", "True")),
        Trouble(pattern="create pods/eviction", status=500),
        Trouble(pattern="list pods", status=429, headers={"Retry-After": "1"}),
    ]
    fault = a_fault()
    await agents["n1"].events(event(1, fault))
    await agents["n1"].acked(1)
    await eventually(lambda: cluster.nodes_of("llm") == {"n2", "n3", "n4"}, "the job moved")
    assert not before & {pod["metadata"]["uid"] for pod in cluster.pods("llm")}
    assert cluster.node("n1")["spec"]["taints"][0]["value"] == "inc-000001"
    for step in itertools.count(8):  # the agents see the new pods, which move on
        for name in NODES[1:]:
            pods = jobs(cluster, name, step)
            await agents[name].send(snapshot=a_snapshot([], 1, [a_coverage()], pods))
        if recoveries(watchdog) == {"rec-000001": "done"}:
            break
        await asyncio.sleep(0.2)
    (incident,) = watchdog.items("/api/v1/incidents")
    assert incident["jobs"] == [job_of(cluster)], "three pods before and three after it are one job"
    assert job_of(cluster) in {one["job"] for one in watchdog.items("/api/v1/jobs")}

    await agents["n1"].events(event(2, fault, pb.TRANSITION_CLEARED))
    await eventually(lambda: cluster.node("n1")["spec"] == {}, "the node is as it was")
    assert cluster.node("n1")["metadata"]["annotations"] == {}
    evictions = cluster.api.calls_of("create pods/eviction")
    assert {call.name for call in evictions} == {"llm-x1", "llm-x2", "llm-x3"}


async def test_a_node_that_dies_is_fenced_after_a_kill_of_the_watchdog_amid_the_recovery(
    cluster: KubeCluster, watchdog: WatchdogProcess, agents: dict[str, FakeAgent], tmp_path: Path
) -> None:
    cluster.api.budgets["llm"] = 0  # a disruption budget holds the recovery where it is
    cluster.set_ready("n1", "Unknown")
    await agents["n1"].drop()
    await eventually(lambda: "unschedulable" in cluster.node("n1")["spec"], "n1 is cordoned")
    await eventually(lambda: cluster.api.calls_of("create pods/eviction"), "evictions were tried")
    watchdog.kill()
    for agent in agents.values():
        await agent.drop()
    cluster.api.budgets["llm"] = 9
    await asyncio.to_thread(watchdog.start)
    await eventually(lambda: cluster.nodes_of("llm") == {"n2", "n3", "n4"}, "the job moved")
    assert set((tmp_path / "fenced").read_text().split()) == {"n1"}
    (forced,) = cluster.api.calls_of("delete pods")
    assert forced.body["gracePeriodSeconds"] == 0
