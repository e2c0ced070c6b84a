"""A job is asked to save before it is restarted; it never keeps the recovery from going on."""

from __future__ import annotations

import asyncio

import pytest

from chipmedic.recoverer import RecoveryRequest, Rung, Step, StepKind
from chipmedic_watchdog.recover.agents import Agents
from chipmedic_watchdog.recover.checkpoint import Checkpoint, before_restarts
from chipmedic_watchdog.recover.order_book import Answer
from chipmedic_watchdog.recover.settings import CheckpointSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.elastic import JOB, ElasticJob
from watchdog.recover.story import NOW, put, put_fault, rows

REQUEST = RecoveryRequest(incident="inc-000001", reason="why", nodes=("n2",), jobs=(JOB,))
SETTINGS = CheckpointSettings(timeout_seconds=6.0, stall_seconds=3.0)


class Time:
    """Passes only while somebody sleeps; then the job may change."""

    def __init__(self, job: ElasticJob, stalls_at: float) -> None:
        self.at = 0.0
        self._job = job
        self._stalls_at = stalls_at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        if self.at >= self._stalls_at:
            self._job.step_age_seconds = self.at
            self._job.report()


async def ask(job: ElasticJob, stalls_at: float = 1e9) -> str:
    agents = Agents(job.database, now=lambda: NOW)
    agents.attach()
    time = Time(job, stalls_at)
    checkpoint = Checkpoint(SETTINGS, agents, monotonic=time.monotonic, sleep=time.sleep)
    (step,) = checkpoint.plan(REQUEST)
    async with job.obeying():
        result = await asyncio.to_thread(checkpoint.do, step)
    assert result.is_done, "it never keeps the recovery from going on"
    assert checkpoint.confirm(step).is_done
    assert rows(job.database, schema.agent_orders) == []
    return result.detail


@pytest.fixture
def job(database: Database) -> ElasticJob:
    job = ElasticJob(database)
    job.start("n1", "n2")
    return job


async def test_a_job_that_steps_is_asked_on_every_node_and_saves(job: ElasticJob) -> None:
    job.saves_at = 120
    assert await ask(job) == "saved at step 120, 0 s after it was asked"
    assert sorted(job.acts) == ["checkpoint n1", "checkpoint n2"]


async def test_a_job_that_stands_still_is_not_asked(job: ElasticJob) -> None:
    job.step_age_seconds = 30.0
    job.report()
    assert (await ask(job)).startswith("not asked: it has made no step for 3 s")
    assert job.acts == []


@pytest.mark.parametrize(
    ("kind", "state", "is_asked"),
    [
        ("job.hung", "open", False),
        ("job.crashed", "open", False),
        ("job.hung", "cleared", True),
        ("chip.lost", "open", True),
    ],
)
async def test_a_job_that_is_said_to_stand_still_is_not_asked(
    job: ElasticJob, kind: str, state: str, *, is_asked: bool
) -> None:
    put_fault(job.database, kind=kind, state=state, job=JOB)
    job.saves_at = 120
    assert (await ask(job)).startswith("saved at" if is_asked else f"not asked: {kind} is open")


async def test_a_job_that_reports_no_steps_is_not_asked(job: ElasticJob) -> None:
    job.step_age_seconds = None
    job.report()
    assert (await ask(job)).startswith("not asked")


async def test_a_job_with_long_steps_is_given_two_of_them(job: ElasticJob) -> None:
    def progress(step: int) -> dict[str, object]:
        return {
            "at": NOW - 60 + 20.0 * step, "step": step, "checkpoint_step": None, "attempt": 0,
            "phase": "train", "checkpoint_seconds": 0.0, "other_seconds": 0.0, "mark": "",
        }  # fmt: skip

    body = {"start": progress(0), "kept": progress(3), "newest": progress(3), "written_at": NOW,
            "highest_before": -1, "pausing": {}}  # fmt: skip
    put(job.database, schema.job_tracks, job=JOB, body=body, written_at=NOW)
    job.step_age_seconds = 30.0
    job.report()
    job.saves_at = 120
    assert (await ask(job)).startswith("saved at step 120")


async def test_a_job_of_which_nothing_lives_is_not_asked(job: ElasticJob) -> None:
    job.nodes = {"n1": [], "n2": []}
    job.report()
    assert await ask(job) == "not asked: no node reports a process of it"


async def test_a_job_that_stops_stepping_is_not_waited_for(job: ElasticJob) -> None:
    said = await ask(job, stalls_at=2.0)
    assert said == "it has made no step for 3 s since: goes on without a new checkpoint"


async def test_a_job_that_says_that_it_saves_has_the_whole_time(job: ElasticJob) -> None:
    job.phase = "checkpoint"
    said = await ask(job, stalls_at=0.0)
    assert said == "not saved within 6 s: goes on without a new checkpoint"


async def test_nodes_that_refuse_are_said(job: ElasticJob) -> None:
    job.answers["n2"] = Answer(is_ok=False, detail="not allowed", is_final=True)
    job.saves_at = 120
    assert (await ask(job)).endswith("; not asked: n2: not allowed")
    job.answers["n1"] = job.answers["n2"]
    said = await ask(job)
    assert said == "goes on without a new checkpoint: n1: not allowed; n2: not allowed"


def test_it_stands_in_front_of_the_first_restart() -> None:
    def step(kind: StepKind, target: str, rung: Rung | None = None) -> Step:
        return Step(kind=kind, target=target, description="", timeout_seconds=1.0, rung=rung)

    isolate, restart = step(StepKind.ISOLATE, "n2"), step(StepKind.RESTART, JOB)
    asked, other = step(StepKind.CHECKPOINT, JOB), step(StepKind.CHECKPOINT, "slurm:9")
    assert before_restarts([isolate, restart], [asked, other]) == [isolate, asked, restart]
    assert before_restarts([isolate], [asked]) == [isolate]
    held = step(StepKind.RESTART, JOB, Rung.HOLD)
    assert before_restarts([isolate, held], [asked]) == [isolate, held], "nothing is done to it"
