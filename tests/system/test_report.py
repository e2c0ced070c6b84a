"""The ledger from the stream to the command line: a real watchdog, a node that tells its job."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chipmedic.model import JobStatus
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from fake_agent import FakeAgent
from waiting import PATIENCE_SECONDS
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
        timeout=60,
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


async def fail_once(watchdog: WatchdogProcess) -> float:
    """Step, lose steps, step again; returns when the job last stepped before the loss."""
    async with FakeAgent(watchdog.address, node="n1") as agent:
        for step in range(10):
            last = time.time()
            await tell(agent, step, 0, last)
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)
        await tell(agent, None, 1, 0.0)
        await asyncio.sleep(1.0)
        for step in range(5, 20):
            await tell(agent, step, 1, time.time())
            await asyncio.sleep(0.1)
        await agent.goodbye()
    return last


def test_a_loss_reaches_the_command_line(watchdog: WatchdogProcess, tmp_path: Path) -> None:
    stepped_at = asyncio.run(fail_once(watchdog))
    answer = chipmedic("report", "--job", JOB, "--json", at=watchdog.http)
    found = json.loads(answer.stdout)
    assert sum(found["seconds"].values()) == found["wall_seconds"]
    (loss,) = found["losses"]
    assert abs(loss["start_at"] - stepped_at) < 0.2, "the last step before it, not its report"
    assert [stage["phase"] for stage in loss["stages"]] == ["unexplained", "restart", "recompute"]
    seconds = [stage["seconds"] for stage in loss["stages"]]
    assert [round(s, 0) for s in seconds[:2]] == [2, 1]
    assert abs(seconds[2] - 0.45) < 0.25, "steps 5 to 9 were made twice"

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
    asyncio.run(fail_once(watchdog))
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        rows = httpx.get(f"{watchdog.http}/api/v1/ledger", params={"job": JOB}).json()["items"]
        if len(rows) == 3 and all(row["end_at"] for row in rows):
            break
        time.sleep(0.2)
    assert sorted(row["phase"] for row in rows) == ["recompute", "restart", "unexplained"]
    page = httpx.get(f"{watchdog.http}/metrics").text
    lost = next(
        line for line in page.splitlines()
        if line.startswith('chipmedic_lost_seconds{cause="unexplained",phase="unexplained"}')
    )  # fmt: skip
    assert 1.4 < float(lost.split()[1]) < 3
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
