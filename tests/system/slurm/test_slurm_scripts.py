"""deploy/slurm on a real Slurm: a sick node takes no job, with no watchdog anywhere."""

from __future__ import annotations

import asyncio
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from chipmedic_watchdog.recover.settings import BlackHoleSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from system.slurm.cluster import NODES, Cluster, why_not
from system.slurm.watching import correlating, recovering, rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SCRIPTS = Path(__file__).parents[3] / "deploy" / "slurm"
EXTRA = """\
AuthInfo=socket={folder}/munge.socket,cred_expire=10
Prolog={folder}/prolog.sh
PrologFlags=Alloc
Epilog={folder}/epilog.sh
HealthCheckProgram={folder}/health_check.sh
HealthCheckInterval=2
SchedulerParameters=nohold_on_prolog_fail,sched_interval=1
"""


class Agent:
    """The page /fit of the agent of one node."""

    def __init__(self) -> None:
        self.status, self.words = 200, "fit"
        self.asked = 0
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = f"{agent.words}\n".encode()
                self.send_response(agent.status if self.path == "/fit" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                agent.asked += 1

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def whole() -> Iterator[tuple[Cluster, dict[str, Agent]]]:
    """A cluster whose slurm.conf has the scripts, and an agent's page for each node."""
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="chipmedic-slurm-"))
    folder.chmod(0o755)
    agents = {node: Agent() for node in NODES}
    settings = folder / "slurm.env"
    cases = "".join(
        f"    {node}) CHIPMEDIC_AGENT=127.0.0.1:{agent.port} ;;\n" for node, agent in agents.items()
    )
    settings.write_text(
        f"case $NODE in\n{cases}esac\n[ ! -e {folder}/closed ] || CHIPMEDIC_WHEN_UNKNOWN=closed\n"
        f"CHIPMEDIC_STATE={folder}/counted; CHIPMEDIC_BRAKE_SECONDS=100\n"
        "CHIPMEDIC_SECONDS=30\n"
        f"SLURM_CONF={folder}/slurm.conf; export SLURM_CONF\n"
    )
    for name in ("prolog.sh", "epilog.sh", "health_check.sh"):
        # In service the settings lie in /etc/chipmedic.
        wrapper = folder / name
        wrapper.write_text(
            f"#!/bin/sh\nCHIPMEDIC_ENV={settings} exec {SCRIPTS}/{name} 2>>{folder}/scripts.log\n"
        )
        wrapper.chmod(0o755)
    cluster = Cluster(folder, extra=EXTRA)
    try:
        cluster.start()
        yield cluster, agents
    finally:
        cluster.stop()
        for agent in agents.values():
            agent.close()
        shutil.rmtree(folder)


@pytest.fixture
def cluster(whole: tuple[Cluster, dict[str, Agent]]) -> Iterator[Cluster]:
    cluster, agents = whole
    yield cluster
    for agent in agents.values():
        agent.status, agent.words = 200, "fit"
    (cluster.folder / "closed").unlink(missing_ok=True)
    cluster.tidy()


@pytest.fixture
def agents(whole: tuple[Cluster, dict[str, Agent]]) -> dict[str, Agent]:
    return whole[1]


def reason(cluster: Cluster, node: str) -> str:
    return cluster.command("sinfo", "-h", "-n", node, "-o", "%E").strip()


def test_an_idle_node_that_falls_ill_takes_no_job(
    cluster: Cluster, agents: dict[str, Agent]
) -> None:
    agents["chip-a1"].status, agents["chip-a1"].words = 409, "chip.lost chip:GPU-77"
    cluster.wait("drained", lambda: cluster.states()["chip-a1"] == "drained")
    assert reason(cluster, "chip-a1") == "chipmedic-node: chip.lost chip:GPU-77"
    job = cluster.submit("-N3")
    cluster.wait("the job runs", lambda: cluster.job(job)["JobState"] == "RUNNING")
    assert cluster.job(job)["NodeList"] == "chip-a[2-4]"


def test_a_node_under_a_job_is_drained_and_the_job_goes_on(
    cluster: Cluster, agents: dict[str, Agent]
) -> None:
    job = cluster.begin("-w", "chip-a2")
    agents["chip-a2"].status, agents["chip-a2"].words = 409, "memory.uncorrectable chip:GPU-12"
    cluster.wait("draining", lambda: cluster.states()["chip-a2"] == "draining")
    assert cluster.job(job)["JobState"] == "RUNNING"


def test_what_an_admin_has_drained_keeps_the_admins_reason(
    cluster: Cluster, agents: dict[str, Agent]
) -> None:
    cluster.command("scontrol", "update", "NodeName=chip-a3", "State=DRAIN", "Reason=new cables")
    agents["chip-a3"].status, agents["chip-a3"].words = 409, "chip.lost chip:GPU-13"
    before = agents["chip-a3"].asked
    # The third begins when the second is over.
    cluster.wait("two health checks have run", lambda: agents["chip-a3"].asked >= before + 3)
    assert reason(cluster, "chip-a3") == "new cables"


@pytest.mark.parametrize(("is_closed", "state"), [(False, "RUNNING"), (True, "PENDING")])
def test_an_agent_that_does_not_say_is_open_or_closed_as_configured(
    cluster: Cluster, agents: dict[str, Agent], *, is_closed: bool, state: str
) -> None:
    for agent in agents.values():
        agent.status, agent.words = 503, "the agent's main loop has not moved for 60 s"
    if is_closed:
        (cluster.folder / "closed").touch()
        cluster.wait("all drained", lambda: set(cluster.states().values()) == {"drained"})
        assert "does not say whether the node is fit" in reason(cluster, "chip-a1")
    job = cluster.submit("-N1")
    if not is_closed:
        cluster.wait("the job runs", lambda: cluster.job(job)["JobState"] == "RUNNING")
    assert cluster.job(job)["JobState"] == state


def test_the_prolog_refuses_and_the_job_runs_elsewhere(
    cluster: Cluster, agents: dict[str, Agent]
) -> None:
    """Between two health checks the prolog is what stands in the way."""
    pin = cluster.submit("-N4", script="exec srun sleep 1")
    cluster.wait("the nodes were used", lambda: cluster.job(pin)["JobState"] == "COMPLETED")
    agents["chip-a1"].status, agents["chip-a1"].words = 409, "chip.lost chip:GPU-77"
    job = cluster.submit("-N1")

    def is_elsewhere() -> bool:
        shown = cluster.job(job)
        return shown["JobState"] == "RUNNING" and shown["NodeList"] not in ("chip-a1", "(null)")

    # While its prolog runs, Slurm calls the job RUNNING on the node that will refuse it; after
    # that it waits for its next start as after each requeue: cred_expire, two minutes by default.
    cluster.wait("the job runs elsewhere", is_elsewhere, seconds=200)
    cluster.wait("drained", lambda: cluster.states()["chip-a1"] == "drained")
    assert reason(cluster, "chip-a1") == "chipmedic-node: chip.lost chip:GPU-77"


SICK_OR_BUSY = """\
[ "$SLURMD_NODENAME" = chip-a1 ] && exit 1
exec sleep 300
"""
"""A program that is well, on a node that is not."""


def failed(cluster: Cluster) -> list[str]:
    """The nodes of the jobs that failed."""
    return cluster.command("squeue", "-h", "-t", "F", "-o", "%N").split()


async def within(cluster: Cluster, what: str, is_so: Callable[[], bool]) -> None:
    """Wait beside the event loop."""
    await asyncio.to_thread(cluster.wait, what, is_so)


async def test_a_node_that_kills_jobs_is_stopped_after_three(
    cluster: Cluster, agents: dict[str, Agent], database: Database
) -> None:
    quick = BlackHoleSettings(poll_seconds=1.0)
    async with (
        recovering(cluster, database, black_hole=quick) as loop,
        correlating(database, loop),
    ):
        # Jobs that die of themselves say nothing of the nodes they die on.
        cluster.submit("--array=1-8", script="exit 1")
        await within(cluster, "all fail", lambda: len(failed(cluster)) == 8)
        cluster.command("scancel", cluster.submit("--array=1-8", script="exec sleep 30"))
        await within(cluster, "idle", lambda: set(cluster.states().values()) == {"idle"})
        assert rows(database, schema.incidents) == []

        shutil.rmtree(cluster.folder / "counted")  # else those count for the brake
        before = len(failed(cluster))
        cluster.submit("--array=1-20", script=SICK_OR_BUSY)
        await within(cluster, "out", lambda: cluster.states()["chip-a1"].startswith("drain"))
    await within(cluster, "all over", lambda: cluster.states()["chip-a1"] == "drained")
    assert len(failed(cluster)) - before == 3
    (fault,) = rows(database, schema.faults)
    assert (fault["node"], fault["kind"]) == ("chip-a1", "node.black_hole")
    assert reason(cluster, "chip-a1").startswith("chipmedic:inc-000001 node.black_hole")
    assert [cluster.states()[node] for node in NODES[1:]] == ["allocated"] * 3
