"""Whether an owner would start evicted pods again, told before the first is evicted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.recover.kubernetes.judges import Prospect
from chipmedic_watchdog.recover.kubernetes.objects import Owner, Pod
from chipmedic_watchdog.recover.kubernetes.owners import KINDS, kind_of, selector_of

Object = dict[str, Any]
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}


def pods(count: int, **annotations: str) -> list[Pod]:
    return [
        Pod(
            namespace="t", name=f"p{n}", uid=f"u{n}", phase="Running", annotations=annotations,
            labels={"training.kubeflow.org/replica-type": "worker"},
        )
        for n in range(count)
    ]  # fmt: skip


def judge(group: str, kind: str, spec: Object, status: Object, found: list[Pod]) -> Prospect:
    known = KINDS[group, kind]
    return known.judge({"metadata": {"name": "x"}, "spec": spec, "status": status}, found)


def policy(action: str, **rule: Any) -> Object:
    return {"podFailurePolicy": {"rules": [{"action": action, **rule}]}}


@pytest.mark.parametrize(
    ("spec", "status", "count", "refusal"),
    [
        ({}, {}, 6, ""),
        ({}, {}, 7, "of backoffLimit 6 6 are left"),
        ({"backoffLimit": 0}, {}, 1, "of backoffLimit 0 0 are left"),
        ({"backoffLimit": 8}, {"failed": 4}, 4, ""),
        ({"backoffLimit": 8}, {"failed": 5}, 4, "3 are left"),
        ({"backoffLimit": 4}, {"uncountedTerminatedPods": {"failed": ["u"]}}, 4, "3 are left"),
        ({"backoffLimit": 0} | policy("Ignore", onPodConditions=[DISRUPTED]), {}, 99, ""),
        (policy("FailJob", onPodConditions=[DISRUPTED]), {}, 1, "a pod is evicted"),
        (policy("Count", onPodConditions=[DISRUPTED]), {}, 7, "are left"),
        (policy("FailJob", onExitCodes={"operator": "In", "values": [42]}), {}, 1, ""),
        (policy("FailJob", onExitCodes={"operator": "In", "values": [143]}), {}, 1, "SIGTERM"),
        (policy("FailJob", onExitCodes={"operator": "NotIn", "values": [0]}), {}, 1, "SIGTERM"),
        (policy("FailJob", onExitCodes={"operator": "NotIn", "values": [137, 143]}), {}, 1, ""),
        ({"suspend": True}, {}, 1, "suspended"),
        ({"backoffLimitPerIndex": 1, "backoffLimit": 2147483647}, {}, 99, ""),
        ({"backoffLimitPerIndex": 0}, {}, 1, "backoffLimitPerIndex 0"),
    ],
)
def test_a_job(spec: Object, status: Object, count: int, refusal: str) -> None:
    found = judge("batch", "Job", spec, status, pods(count))
    assert not found.ended
    assert (refusal in found.refusal) if refusal else (found.refusal == "")


def test_the_first_rule_that_says_something_decides() -> None:
    term = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [143]}}
    ignore = {"action": "Ignore", "onPodConditions": [DISRUPTED]}
    first = {"podFailurePolicy": {"rules": [ignore, term]}}
    last = {"podFailurePolicy": {"rules": [term, ignore]}}
    assert judge("batch", "Job", first, {}, pods(99)).refusal == ""
    assert "SIGTERM" in judge("batch", "Job", last, {}, pods(1)).refusal


def test_an_index_that_has_failed_before_may_have_none_left() -> None:
    seen = pods(1, **{"batch.kubernetes.io/job-index-failure-count": "2"})
    assert judge("batch", "Job", {"backoffLimitPerIndex": 3}, {}, seen).refusal == ""
    assert judge("batch", "Job", {"backoffLimitPerIndex": 2}, {}, seen).refusal != ""


@pytest.mark.parametrize(
    ("group", "kind", "condition", "has_failed"),
    [
        ("batch", "Job", {"type": "Complete"}, False),
        ("batch", "Job", {"type": "Failed", "reason": "BackoffLimitExceeded"}, True),
        ("kubeflow.org", "PyTorchJob", {"type": "Succeeded"}, False),
        ("kubeflow.org", "PyTorchJob", {"type": "Failed"}, True),
    ],
)
def test_what_is_over_is_over(group: str, kind: str, condition: Object, has_failed: bool) -> None:
    found = judge(group, kind, {}, {"conditions": [condition | {"status": "True"}]}, pods(1))
    assert found.ended.startswith(condition["type"])
    assert found.has_failed is has_failed
    still = judge(group, kind, {}, {"conditions": [condition | {"status": "False"}]}, pods(1))
    assert not still.ended


@pytest.mark.parametrize(
    ("spec", "refusal"),
    [
        ({"pytorchReplicaSpecs": {"Worker": {"restartPolicy": "OnFailure"}}}, ""),
        ({"pytorchReplicaSpecs": {"Worker": {"restartPolicy": "Never"}}}, "its Worker is Never"),
        ({"pytorchReplicaSpecs": {"Master": {"restartPolicy": "Never"}}}, ""),
        ({"runPolicy": {"backoffLimit": 0}}, "backoffLimit is 0"),
        ({"runPolicy": {"backoffLimit": 1}}, ""),
        ({"runPolicy": {"suspend": True}}, "suspended"),
    ],
)
def test_a_pytorchjob(spec: Object, refusal: str) -> None:
    found = judge("kubeflow.org", "PyTorchJob", spec, {}, pods(2))
    assert (refusal in found.refusal) if refusal else (found.refusal == "")


@pytest.mark.parametrize(
    ("spec", "status", "refusal", "ended"),
    [
        ({}, {"state": {"phase": "Running"}}, "", ""),
        ({}, {"state": {"phase": "Completed"}}, "", "Completed"),
        ({}, {"state": {"phase": "Aborted"}}, "Aborted", ""),
        ({"policies": [{"event": "PodEvicted", "action": "RestartJob"}]}, {}, "", ""),
        (
            {"policies": [{"event": "PodEvicted", "action": "RestartJob"}]},
            {"retryCount": 3},
            "maxRetry 3",
            "",
        ),
        ({"policies": [{"events": ["*"], "action": "AbortJob"}]}, {}, "AbortJob", ""),
        ({"policies": [{"event": "PodFailed", "action": "AbortJob"}]}, {}, "", ""),
        (
            {"tasks": [{"policies": [{"event": "PodEvicted", "action": "TerminateJob"}]}]},
            {},
            "TerminateJob",
            "",
        ),
        ({"maxRetry": 0}, {"retryCount": 9}, "", ""),
    ],
)
def test_a_volcano_job(spec: Object, status: Object, refusal: str, ended: str) -> None:
    found = judge("batch.volcano.sh", "Job", spec, status, pods(1))
    assert found.ended == ended
    assert (refusal in found.refusal) if refusal else (found.refusal == "")


def of_jobset(*pods_of: tuple[str, str]) -> list[Pod]:
    return [
        Pod(
            namespace="t", name=f"p{n}", uid=f"u{n}", phase="Running",
            labels={
                "jobset.sigs.k8s.io/replicatedjob-name": name,
                "jobset.sigs.k8s.io/job-index": index,
            },
        )
        for n, (name, index) in enumerate(pods_of)
    ]  # fmt: skip


def jobs_of_set(limit: int, **policy: Any) -> Object:
    template = {"spec": {"backoffLimit": limit}}
    return {"replicatedJobs": [{"name": "w", "template": template}], "failurePolicy": policy}


@pytest.mark.parametrize(
    ("spec", "status", "refusal", "ended"),
    [
        (jobs_of_set(1), {}, "", ""),  # two Jobs of one pod each
        (jobs_of_set(0), {}, "maxRestarts 0, 0 used", ""),
        (jobs_of_set(0, maxRestarts=3), {"restarts": 2}, "", ""),
        (jobs_of_set(0, maxRestarts=3), {"restarts": 3}, "maxRestarts 3, 3 used", ""),
        (jobs_of_set(0, maxRestarts=3, rules=[{"action": "FailJobSet"}]), {}, "would end", ""),
        ({"suspend": True}, {}, "suspended", ""),
        ({}, {"conditions": [{"type": "Completed", "status": "True"}]}, "", "Completed"),
        ({}, {"conditions": [{"type": "Failed", "status": "True"}]}, "", "Failed"),
    ],
)
def test_a_jobset(spec: Object, status: Object, refusal: str, ended: str) -> None:
    found = judge("jobset.x-k8s.io", "JobSet", spec, status, of_jobset(("w", "0"), ("w", "1")))
    assert found.ended == ended
    assert (refusal in found.refusal) if refusal else (found.refusal == "")


def test_an_owner_is_known_in_each_of_its_versions() -> None:
    owner = Owner(api_version="kubeflow.org/v1beta1", kind="PyTorchJob", name="x", uid="u")
    assert kind_of(owner) is KINDS["kubeflow.org", "PyTorchJob"]
    assert kind_of(Owner(api_version="v1", kind="Node", name="x", uid="u")) is None
    foreign = Owner(api_version="batch.example.com/v1", kind="Job", name="x", uid="u")
    assert kind_of(foreign) is None


def test_the_pods_of_an_owner_are_found_by_its_selector_or_its_label() -> None:
    job = {"spec": {"selector": {"matchLabels": {"b": "2", "a": "1"}}}}
    assert selector_of(KINDS["batch", "Job"], job, "x") == "a=1,b=2"
    assert selector_of(KINDS["batch", "Job"], {}, "x") == ""
    torch = KINDS["kubeflow.org", "PyTorchJob"]
    assert selector_of(torch, {}, "x") == "training.kubeflow.org/job-name=x"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([
            "spec", "status", "conditions", "type", "backoffLimit", "podFailurePolicy", "rules",
            "onExitCodes", "values", "runPolicy", "xReplicaSpecs", "state", "policies", "tasks",
            "metadata", "ownerReferences", "selector", "matchLabels", "failed", "retryCount",
            "replicatedJobs", "template", "failurePolicy", "name",
        ]),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(raw=JSON, key=st.sampled_from(sorted(KINDS)))
def test_any_object_is_judged_or_is_no_owner(raw: object, key: tuple[str, str]) -> None:
    owner = {"spec": raw, "status": raw, "metadata": raw}
    try:
        found = KINDS[key].judge(owner, pods(2))
        selector_of(KINDS[key], owner, "x")
    except ValueError:
        return
    if found.ended:
        assert not found.refusal, "what is over is no longer held back"
    else:
        assert not found.has_failed
    assert KINDS[key].judge(owner, pods(2)) == found
