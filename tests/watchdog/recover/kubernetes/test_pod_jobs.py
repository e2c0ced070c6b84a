"""Pods become the job that people know: by what owns them, as one report for each node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipmedic.model import JobStatus
from chipmedic_watchdog.intake.job_names import JobName, renamed
from chipmedic_watchdog.intake.message import Batch, ReceivedEvent, ReceivedHeartbeat
from chipmedic_watchdog.recover.kubernetes.pod_jobs import AGAIN_SECONDS, PodJobs
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings
from fake_agent import a_fault
from kube_rig.api_server import Trouble
from kube_rig.cluster import NAMESPACE, KubeCluster

JOB = JobName(job="kubernetes:training/job/llm@1a2b3c4d", name="llm", pod="llm-0")


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


@asynccontextmanager
async def asking(
    cluster: KubeCluster, folder: Path, clock: Clock | None = None
) -> AsyncIterator[PodJobs]:
    settings = KubernetesSettings(kubeconfig=cluster.api.kubeconfig(folder / "kubeconfig"))
    pods = PodJobs(settings, clock=clock or Clock())
    task = asyncio.create_task(pods.run())
    try:
        yield pods
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def status(job: str, **values: Any) -> JobStatus:
    return JobStatus(**{"job": job, "at": 1000.0, "pids": (1,), "step": 7, **values})


def beat(*jobs: str) -> ReceivedHeartbeat:
    found = tuple(status(job) for job in jobs)
    names = frozenset(jobs)
    return ReceivedHeartbeat(at=1000.0, coverage=(), jobs=found, is_whole=True, job_names=names)


async def told(pods: PodJobs, said: ReceivedHeartbeat, node: str = "n1") -> ReceivedHeartbeat:
    body = await pods.body(node, said)
    assert isinstance(body, ReceivedHeartbeat)
    return body


def job_of(pod: dict[str, Any]) -> str:
    return f"kubernetes:{pod['metadata']['uid']}"


@pytest.mark.parametrize(
    ("resource", "word"),
    [
        ("jobs.batch", "job"),
        ("pytorchjobs.kubeflow.org", "pytorchjob"),
        ("jobs.batch.volcano.sh", "vcjob"),
        ("statefulsets.apps", "statefulset"),
    ],
)
async def test_the_job_of_a_pod_is_what_owns_it(
    cluster: KubeCluster, tmp_path: Path, resource: str, word: str
) -> None:
    cluster.add_job("llm", 2, resource=resource)
    first, second = cluster.pods("llm")
    uid = first["metadata"]["ownerReferences"][0]["uid"]
    async with asking(cluster, tmp_path) as pods:
        said = await told(pods, beat(job_of(first)))
        other = await told(pods, beat(job_of(second)), "n2")
    (job,) = said.jobs
    assert job.job == f"kubernetes:training/{word}/llm@{uid[:8]}"
    assert (job.name, job.labels["pods"]) == ("llm", first["metadata"]["name"])
    assert job.labels["told_as"] == job_of(first)
    assert said.job_names == {job.job}
    assert [one.job for one in other.jobs] == [job.job], "its ranks are pods on other nodes"


def controlled_by(owner: dict[str, Any]) -> dict[str, Any]:
    """What the metadata of an object say that another controls."""
    told = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}
    return told | {key: owner["metadata"][key] for key in ("name", "uid")}


def put_above(cluster: KubeCluster, resource: str, name: str) -> dict[str, Any]:
    """Add an owner that has no pods of its own."""
    cluster.add_job(name, 0, resource=resource)
    found = cluster.store.get(resource, name, NAMESPACE)
    assert found is not None
    return controlled_by(found)


async def names_of(cluster: KubeCluster, folder: Path, *workloads: str) -> list[str]:
    """What the pods of some workloads are called, without the beginning of the owner's uid."""
    said = beat(*(job_of(pod) for name in workloads for pod in cluster.pods(name)))
    async with asking(cluster, folder) as pods:
        told_names = [job.job for job in (await told(pods, said)).jobs]
    return sorted(name.partition("@")[0].removeprefix("kubernetes:") for name in told_names)


async def test_the_launcher_of_an_mpijob_is_of_its_job(
    cluster: KubeCluster, tmp_path: Path
) -> None:
    """The launcher is the pod of a Job that the MPIJob controls, the workers are its own."""
    cluster.add_job("llm", 2, resource="mpijobs.kubeflow.org")
    owner = cluster.store.get("mpijobs.kubeflow.org", "llm", NAMESPACE)
    assert owner is not None
    label = {"training.kubeflow.org/job-name": "llm"}
    cluster.add_job("llm-launcher", 1, parent=controlled_by(owner), more_labels=label)
    found = await names_of(cluster, tmp_path, "llm", "llm-launcher")
    assert found == ["training/mpijob/llm"]


async def test_each_group_of_a_leaderworkerset_is_a_job(
    cluster: KubeCluster, tmp_path: Path
) -> None:
    sets = "leaderworkersets.leaderworkerset.x-k8s.io"
    put_above(cluster, sets, "serve")
    for name, group in (("serve", "0"), ("serve-0", "0"), ("serve-1", "1"), ("other", "0")):
        labels = {
            "leaderworkerset.sigs.k8s.io/name": "serve",
            "leaderworkerset.sigs.k8s.io/group-index": group,
        }
        cluster.add_job(name, 1, resource="statefulsets.apps", more_labels=labels)
    leader_and_workers = await names_of(cluster, tmp_path, "serve", "serve-0")
    assert leader_and_workers == ["training/leaderworkerset/serve-0"]
    assert await names_of(cluster, tmp_path, "serve-1") == ["training/leaderworkerset/serve-1"]
    assert await names_of(cluster, tmp_path, "other") == ["training/statefulset/other"]
    # With a Role of before there were such: each StatefulSet is a job, as then.
    cluster.api.troubles += [Trouble(pattern=r"get leaderworkersets\..*", status=403)]
    assert await names_of(cluster, tmp_path, "serve-1") == ["training/statefulset/serve-1"]


async def test_the_pods_of_a_raycluster_are_one_job(cluster: KubeCluster, tmp_path: Path) -> None:
    cluster.add_job("ray", 2, resource="rayclusters.ray.io")
    assert await names_of(cluster, tmp_path, "ray") == ["training/raycluster/ray"]


async def test_what_nobody_owns_and_what_is_no_pod_keeps_its_name(
    cluster: KubeCluster, tmp_path: Path
) -> None:
    bare = cluster.add_bare_pod("mine", "n1")
    cluster.add_job("ray", 1, resource="rayjobs.ray.io")
    jobs = ["slurm:7", job_of(bare), *map(job_of, cluster.pods("ray"))]
    async with asking(cluster, tmp_path) as pods:
        said = await told(pods, beat(*jobs))
    assert [job.job for job in said.jobs] == jobs
    assert said.job_names == frozenset(jobs)


async def test_while_kubernetes_does_not_answer_a_pod_goes_by_its_own_uid(
    cluster: KubeCluster, tmp_path: Path
) -> None:
    cluster.add_job("llm", 1)
    (pod,) = cluster.pods("llm")
    cluster.api.troubles += [Trouble(pattern="list pods", status=403)]
    clock = Clock()
    async with asking(cluster, tmp_path, clock) as pods:
        said = await told(pods, beat(job_of(pod)))
        assert [job.job for job in said.jobs] == [job_of(pod)]
        asked = len(cluster.api.calls_of("list pods"))
        await told(pods, beat(job_of(pod)))
        assert len(cluster.api.calls_of("list pods")) == asked, "it is not asked with each beat"
        clock.at += AGAIN_SECONDS + 1
        # The agent has nothing new to say of its jobs, and yet they have other names.
        said = await told(pods, replace(beat(job_of(pod)), job_names=None))
    job, former = said.jobs
    assert said.job_names == {job.job}
    assert "/job/llm@" in job.job
    assert (former.job, former.pids, former.labels["ended_at"]) == (job_of(pod), (), "0")


async def test_a_reload_is_taken_and_what_is_known_stays(
    cluster: KubeCluster, tmp_path: Path
) -> None:
    cluster.add_job("llm", 1)
    cluster.add_job("late", 1)
    (pod,), (late,) = cluster.pods("llm"), cluster.pods("late")
    async with asking(cluster, tmp_path) as pods:
        known = await told(pods, beat(job_of(pod)))
        wrong = tmp_path / "wrong"
        wrong.write_text("apiVersion: v1\nkind: Config\nclusters: []\n")
        pods.take(KubernetesSettings(kubeconfig=str(wrong)))
        said = await told(pods, beat(job_of(pod), job_of(late)))
        assert {job.job for job in said.jobs} == {known.jobs[0].job, job_of(late)}
        pods.take(KubernetesSettings(kubeconfig=str(tmp_path / "kubeconfig")))
        said = await told(pods, beat(job_of(pod), job_of(late)))
    assert known.jobs[0].job in said.job_names
    assert any("/job/late@" in name for name in said.job_names)


async def test_a_thousand_pods_are_one_question(cluster: KubeCluster, tmp_path: Path) -> None:
    cluster.add_job("llm", 3)
    names = [job_of(pod) for pod in cluster.pods("llm")]
    async with asking(cluster, tmp_path) as pods:
        await told(pods, beat(names[0], "kubernetes:0-0"), "n0")
        nodes = [pods.body(f"n{number}", beat(*names)) for number in range(1, 20)]
        await asyncio.gather(*nodes)
    lists = cluster.api.calls_of("list pods")
    assert len(lists) <= 4


async def test_a_fault_names_the_job_too(cluster: KubeCluster, tmp_path: Path) -> None:
    cluster.add_job("llm", 1)
    (pod,) = cluster.pods("llm")
    fault = replace(a_fault(), job=job_of(pod))
    events = Batch(events=(ReceivedEvent(seq=1, at=1000.0, transition="raised", fault=fault),))
    async with asking(cluster, tmp_path) as pods:
        (job,) = (await told(pods, beat(job_of(pod)))).jobs
        body = await pods.body("n1", events)
    assert isinstance(body, Batch)
    assert body.events[0].fault is not None
    assert body.events[0].fault.job == job.job


def merged(*said: JobStatus, before: Iterable[JobStatus] = ()) -> JobStatus:
    names = {f"kubernetes:{n}": replace(JOB, pod=f"llm-{n}") for n in "abc"}
    (one,) = renamed(said, names, {status.job: status for status in before})
    return one


def test_two_pods_of_one_job_on_a_node_are_one_report() -> None:
    first = status(
        "kubernetes:a", chips=("GPU-1",), pids=(11,), ranks=(0,), step=40, checkpoint_step=30,
        labels={"rank_steps": "0:40"},
    )  # fmt: skip
    second = status(
        "kubernetes:b", chips=("GPU-2",), pids=(12,), ranks=(1,), step=39, attempt=2,
        labels={"rank_steps": "1:39"},
    )  # fmt: skip
    whole = merged(first, second)
    assert (whole.job, whole.name, whole.step) == (JOB.job, "llm", 40)
    assert (whole.chips, whole.pids, whole.ranks) == (("GPU-1", "GPU-2"), (11, 12), (0, 1))
    assert (whole.checkpoint_step, whole.attempt) == (30, 2)
    assert whole.labels == {
        "rank_steps": "0:40 1:39", "pods": "llm-a, llm-b", "told_as": "kubernetes:a kubernetes:b",
    }  # fmt: skip
    assert merged(second, before=[first]) == whole, "what has not changed is not said again"


def test_a_pod_that_has_ended_says_nothing_of_a_job_that_goes_on() -> None:
    ended = status("kubernetes:a", pids=(), step=90, labels={"ended_at": "950.000"})
    alive = status("kubernetes:b", pids=(12,), step=50)
    whole = merged(ended, alive)
    assert (whole.pids, whole.step, whole.labels.get("ended_at")) == ((12,), 50, None)
    later = replace(alive, pids=(), labels={"ended_at": "970.000"})
    assert merged(ended, later).labels["ended_at"] == "970.000"
