"""deploy/kubernetes/rbac.yaml allows every call that the adapter makes, and no more than that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chipmedic.recoverer import RecoveryRequest, Step, StepKind
from chipmedic_watchdog.recover.kubernetes import owners
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from chipmedic_watchdog.recover.kubernetes.settings import RefusedEviction
from kube_rig import published
from kube_rig.api_server import Call
from kube_rig.cluster import GROUPS, NAMESPACE, KubeCluster

FILE = Path(__file__).parents[4] / "deploy/kubernetes/rbac.yaml"
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))
Right = tuple[str, str, str]
"""Verb, group, resource."""
Make = Callable[..., Kubernetes]


def rights(kind: str) -> set[Right]:
    """Return what the roles of a kind allow."""
    return {
        (verb, group, resource)
        for document in DOCUMENTS
        if document["kind"] == kind
        for rule in document["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def right_of(call: Call) -> Right:
    resource, slash, sub = call.resource.partition("/")
    return call.verb, call.group, resource.removesuffix(f".{call.group}") + slash + sub


@pytest.fixture
def calls(cluster: KubeCluster, make: Make) -> list[Call]:
    """All that the adapter asks for in a life with every kind of job and every refusal."""
    adapter = make(
        page=3,
        namespaces=(NAMESPACE,),
        fence=("/bin/true",),
        refused_eviction=RefusedEviction.DELETE,
        budget_patience_seconds=0.001,
    )
    for number in range(5, 12):
        cluster.add_node(f"n{number}")
    above = ("jobsets", "mpijobs", "leaderworkersets", "rayclusters", "rayjobs")
    known = [name for name in GROUPS if name.partition(".")[0] not in above]
    for number, resource in enumerate(known):
        cluster.add_job(f"job-{number}", 1, resource=resource)
    cluster.api.budgets["job-1"] = 0
    cluster.set_ready("n1", "Unknown")
    cluster.add_node("z1")
    cluster.cordon("z1")
    cluster.set_ready("z1", "Unknown")
    for number in range(len(known)):
        pod = cluster.pods(f"job-{number}")[0]
        request = RecoveryRequest(
            incident="i", reason="chipmedic:i x", nodes=(pod["spec"]["nodeName"],),
            jobs=(f"kubernetes:{pod['metadata']['uid']}",),
        )  # fmt: skip
        steps = adapter.plan(request)
        for step in steps:
            for _ in range(30):
                if adapter.do(step).is_done and adapter.confirm(step).is_done:
                    break
        isolate = steps[0]
        back = Step(
            kind=StepKind.RETURN, target=isolate.target, description="", timeout_seconds=1,
            arguments=isolate.arguments,
        )  # fmt: skip
        adapter.do(back)
    adapter.nodes()
    adapter.nodes()
    return cluster.api.calls


def test_every_call_is_allowed_and_nothing_else(calls: list[Call]) -> None:
    made = {(right_of(call), call.namespace) for call in calls}
    on_nodes = {right for right, namespace in made if not namespace}
    on_jobs = {right for right, namespace in made if namespace}
    assert {namespace for _, namespace in made} == {"", NAMESPACE}
    assert on_nodes == rights("ClusterRole")
    known = {("get", group, kind.plural) for (group, _), kind in owners.KINDS.items()}
    assert on_jobs <= rights("Role")
    assert rights("Role") - on_jobs <= known


def test_every_owner_that_is_known_may_be_read() -> None:
    known = {("get", group, kind.plural) for (group, _), kind in owners.KINDS.items()}
    assert known == {right for right in rights("Role") if right[0] == "get"}


def test_each_role_is_bound_to_the_account_and_is_what_kubernetes_takes() -> None:
    by_kind = {document["kind"]: document for document in DOCUMENTS}
    account = by_kind["ServiceAccount"]["metadata"]
    for kind in ("ClusterRole", "Role"):
        binding = by_kind[f"{kind}Binding"]
        assert binding["roleRef"]["kind"] == kind
        assert binding["roleRef"]["name"] == by_kind[kind]["metadata"]["name"]
        (subject,) = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    for document in DOCUMENTS:
        published.check(f"V1{document['kind']}", document, FILE.name)
