"""One private Slurm for the tests of this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.slurm.cluster import NODES, Cluster, why_not


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Cluster]:
    """A cluster of four idle nodes; it leaves nothing behind."""
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="chipmedic-slurm-"))
    folder.chmod(0o755)  # munge refuses a socket below a folder that others may write to
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with every node idle and no job, before and after the test."""
    yield running_cluster
    running_cluster.tidy()
    assert running_cluster.states() == dict.fromkeys(NODES, "idle")
