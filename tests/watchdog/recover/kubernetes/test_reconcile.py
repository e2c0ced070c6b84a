"""What a person uncordons is theirs within a look, and nothing of ours is left on it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from chipmedic.recoverer import RecoveryRequest, Tidier
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from chipmedic_watchdog.recover.reconcile import reconcile
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from kube_rig.api_server import Trouble
from kube_rig.cluster import KubeCluster
from watchdog.recover.story import NOW, put, rows

REASON = "chipmedic:inc-000001 chip.lost"


@pytest.fixture
def isolated(database: Database, kubernetes: Kubernetes) -> Database:
    request = RecoveryRequest(incident="inc-000001", reason=REASON, nodes=("n1",), jobs=())
    (step,) = kubernetes.plan(request)
    kubernetes.do(step)
    put(
        database, schema.isolations, node="n1", adapter="kubernetes", incident="inc-000001",
        reason=REASON, undo=step.arguments, isolated_at=NOW,
    )  # fmt: skip
    return database


def look(database: Database, adapter: Kubernetes) -> bool:
    """Return whether the isolation is over after a look at the world."""
    asyncio.run(reconcile(database, {"kubernetes": adapter}, now=NOW + 60))
    return rows(database, schema.isolations)[0]["returned_at"] is not None


def test_an_isolation_that_holds_is_left(isolated: Database, kubernetes: Kubernetes) -> None:
    assert isinstance(kubernetes, Tidier)
    assert not look(isolated, kubernetes)


def test_an_uncordon_ends_it_and_takes_our_marks(
    cluster: KubeCluster, isolated: Database, kubernetes: Kubernetes
) -> None:
    cluster.cordon("n1", on=False)
    assert look(isolated, kubernetes)
    node = cluster.node("n1")
    assert (node["spec"], node["metadata"]["annotations"]) == ({}, {})


def test_marks_that_cannot_be_taken_are_told(
    cluster: KubeCluster,
    isolated: Database,
    kubernetes: Kubernetes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster.cordon("n1", on=False)
    cluster.api.troubles.append(Trouble(pattern="patch nodes", status=403, body="no right"))
    with caplog.at_level(logging.WARNING):
        assert look(isolated, kubernetes)
    assert "our marks are left on a node: node=n1 why=patch of node n1: 403" in caplog.text


def test_a_server_that_is_away_says_nothing_about_it(
    cluster: KubeCluster, isolated: Database, kubernetes: Kubernetes
) -> None:
    cluster.cordon("n1", on=False)
    cluster.api.troubles.append(Trouble(pattern="get nodes", status=503, times=99))
    assert not look(isolated, kubernetes)
