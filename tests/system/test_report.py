"""The ledger from the stream to the command line: a real watchdog, a node that tells its job."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from chipmedic.model import JobStatus
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from fake_agent import FakeAgent
from waiting import PATIENCE_SECONDS, until
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

CHIPMEDIC = Path(sys.executable).with_name("chipmedic")
JOB = "slurm:4711"


@pytest.fixture
def watchdog(tmp_path: Path) -> Iterator[WatchdogProcess]:
    process = WatchdogProcess(tmp_path / "watchdog")
    process.start()
    yield process
    process.close()


def chipmedic(*arguments: str, at: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHIPMEDIC, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "CHIPMEDIC_WATCHDOG": at},
    )


async def tell(agent: FakeAgent, step: int | None, attempt: int, step_at: float) -> None:
    now = time.time()
    status = JobStatus(
        job=JOB, at=now, pids=(os.getpid(),), step=step, step_at=step_at, attempt=attempt,
        phase="train",
    )  # fmt: skip
    await agent.send(heartbeat=pb.Heartbeat(at=now, jobs=[codec.job_to_message(status)]))


@dataclass(frozen=True)
class Moment:
    """When something was told, and by when the watchdog knew it: a busy machine takes its time."""

    told: float
    known: float

    def until(self, later: Moment) -> tuple[float, float]:
        """The least and the most seconds that can be between two moments."""
        return later.told - self.known, later.known - self.told


async def told(
    watchdog: WatchdogProcess, agent: FakeAgent, step: int | None, attempt: int
) -> Moment:
    """Tell how far the job is, and wait until that is known."""
    begun = time.time()
    await tell(agent, step, attempt, begun if step is not None else 0.0)

    def is_known() -> bool:
        jobs = httpx.get(f"{watchdog.http}/api/v1/jobs", timeout=60).json()["items"]
        return [(job["attempt"], job["step"]) for job in jobs] == [(attempt, step)]

    await asyncio.to_thread(until, is_known)
    return Moment(begun, time.time())


@dataclass(frozen=True)
class Story:
    """The moments of a job that lost steps."""

    last: Moment
    failed: Moment
    stepped: Moment
    ended: Moment


async def fail_once(watchdog: WatchdogProcess) -> Story:
    """Step, lose steps, step again."""
    async with FakeAgent(watchdog.address, node="n1") as agent:
        for step in range(9):
            await tell(agent, step, 0, time.time())
            await asyncio.sleep(0.1)
        last = await told(watchdog, agent, 9, 0)
        await asyncio.sleep(1.5)
        failed = await told(watchdog, agent, None, 1)
        await asyncio.sleep(1.0)
        stepped = await told(watchdog, agent, 5, 1)
        for step in range(6, 19):
            await asyncio.sleep(0.1)
            await tell(agent, step, 1, time.time())
        ended = await told(watchdog, agent, 19, 1)
        await agent.goodbye()
    return Story(last, failed, stepped, ended)


def test_a_loss_reaches_the_command_line(watchdog: WatchdogProcess, tmp_path: Path) -> None:
    story = asyncio.run(fail_once(watchdog))
    answer = chipmedic("report", "--job", JOB, "--json", at=watchdog.http)
    found = json.loads(answer.stdout)
    assert sum(found["seconds"].values()) == found["wall_seconds"]
    (loss,) = found["losses"]
    assert story.last.told - 0.05 <= loss["start_at"] <= story.last.known, "the last step before it"
    assert [stage["phase"] for stage in loss["stages"]] == ["unexplained", "restart", "recompute"]
    seconds = [stage["seconds"] for stage in loss["stages"]]
    for found, (least, most) in zip(
        seconds,
        (
            story.last.until(story.failed),
            story.failed.until(story.stepped),
            (0.0, story.stepped.until(story.ended)[1]),  # steps 5 to 9 were made twice
        ),
        strict=True,
    ):
        assert least - 0.05 <= found <= most + 0.05

    table = chipmedic("report", "--since", "1h", at=watchdog.http)
    assert table.returncode == 0
    assert JOB in table.stdout
    text = chipmedic("report", "--job", JOB, "--language", "zh", at=watchdog.http)
    assert "有效训练" in text.stdout
    page = tmp_path / "report.html"
    written = chipmedic("report", "--job", JOB, "--html", str(page), at=watchdog.http)
    assert (written.returncode, written.stdout) == (0, f"written: {page}\n")
    assert "<svg" in page.read_text(encoding="utf-8")


def test_the_ledger_is_in_the_store_and_in_the_metrics(watchdog: WatchdogProcess) -> None:
    story = asyncio.run(fail_once(watchdog))

    def phases() -> list[str]:
        answer = httpx.get(f"{watchdog.http}/api/v1/ledger", params={"job": JOB}, timeout=60)
        return sorted(row["phase"] for row in answer.json()["items"] if row["end_at"])

    until(lambda: phases() == ["recompute", "restart", "unexplained"], "the ledger")
    page = httpx.get(f"{watchdog.http}/metrics").text
    lost = next(
        line for line in page.splitlines()
        if line.startswith('chipmedic_lost_seconds{cause="unexplained",phase="unexplained"}')
    )  # fmt: skip
    least, most = story.last.until(story.failed)
    assert least - 0.05 <= float(lost.split()[1]) <= most + 0.05
    assert f'chipmedic_job_effective_ratio{{job="{JOB}"}}' in page
    assert 'chipmedic_effective_ratio{window="30d"}' in page


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--job", "slurm:1"], 1, "there is no job 'slurm:1'"),
        (["--since", "ages"], 2, "not a time like"),
        (["--job", "slurm:1", "--since", "3d"], 2, "does not go with --job"),
        (["--language", "xx"], 2, "allowed are en, zh"),
        (["--html", "/nowhere/x.html"], 1, "--html /nowhere/x.html: No such file"),
        (["--html", "x.html", "--json"], 2, "does not go with --json"),
    ],
)
def test_refusals_are_one_line(
    watchdog: WatchdogProcess, arguments: list[str], code: int, words: str
) -> None:
    answer = chipmedic("report", *arguments, at=watchdog.http)
    assert (answer.returncode, answer.stderr.count("\n")) == (code, 1)
    assert words in answer.stderr
