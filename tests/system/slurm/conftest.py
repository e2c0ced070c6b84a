"""One private Slurm for the tests of this folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from system.slurm.cluster import NODES, Cluster, why_not
from system.slurm.watching import put


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    """A cluster of four idle nodes for all files of this folder; it leaves nothing behind."""
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


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = open_engine(f"sqlite:///{tmp_path}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    now = time.time()
    for node in NODES:
        put(
            database,
            schema.nodes,
            node=node,
            state="connected",
            labels={},
            first_seen_at=now,
            last_seen_at=now,
        )
    yield database
    database.close()
