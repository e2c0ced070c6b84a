"""Hangs: what is one, how soon it is seen, and everything slow that is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from chipmedic.model import Gap, GapReason, JobStatus, Scan, collector_component
from detector_story import detector, first, run, words

LOOK_SECONDS = 2.0


@dataclass
class Job:
    """A job as the tracker shows it, looked at every two seconds."""

    name: str = "slurm:88"
    at: float = 0.0
    step: int | None = None
    step_at: float | None = None
    phase: str | None = None
    attempt: int = 0
    pids: tuple[int, ...] = (100, 101)
    labels: dict[str, str] = field(default_factory=dict)
    told: float = 0.0

    def status(self, at: float) -> JobStatus:
        return JobStatus(
            job=self.name,
            at=at,
            chips=("GPU-7c1e",) if self.pids else (),
            pids=self.pids,
            step=self.step,
            step_at=self.step_at,
            phase=self.phase,
            attempt=self.attempt,
            labels=dict(self.labels),
        )

    def wait(self, seconds: float) -> Iterator[Scan]:
        """Yield the looks of a time in which nothing is told."""
        end = self.at + seconds
        while self.told + LOOK_SECONDS <= end:
            self.told += LOOK_SECONDS
            yield Scan(source="jobs", at=self.told, jobs=(self.status(self.told),))
        self.at = end

    def train(self, steps: int, each_seconds: float) -> Iterator[Scan]:
        for _ in range(steps):
            yield from self.wait(each_seconds)
            self.step = 0 if self.step is None else self.step + 1
            self.step_at = self.at

    def enter(self, phase: str, seconds: float = 0.0) -> Iterator[Scan]:
        self.phase = phase
        yield from self.wait(seconds)


def story(scans: Iterable[Scan]) -> str:
    return words(run(detector("hang"), scans), with_kind=True)


@pytest.mark.parametrize("step_seconds", [0.1, 0.5, 1.7, 3.0, 12.0])
def test_a_hang_in_training_is_seen_within_ten_seconds_or_five_steps(step_seconds: float) -> None:
    job = Job(phase="train")
    scans = [*job.train(200, step_seconds), *job.wait(300)]
    told = run(detector("hang"), scans)
    assert words(told, with_kind=True).startswith("job.hung:raised@")
    assert job.step_at is not None
    assert told[0][0] - job.step_at <= max(10.0, 5 * step_seconds) + LOOK_SECONDS
    assert first(told).since == pytest.approx(job.step_at)
    assert first(told).job == "slurm:88"
    assert "step 199" in first(told).summary


def test_it_is_over_when_the_job_moves_again() -> None:
    job = Job(phase="train")
    scans = [*job.train(50, 1.0), *job.wait(40), *job.train(3, 1.0), *job.wait(2)]
    assert [word.partition("@")[0] for word in story(scans).split()] == [
        "job.hung:raised",
        "job.hung:cleared",
    ]


@pytest.mark.parametrize("phase", ["checkpoint", "evaluate", "compile", "upload_weights"])
def test_a_long_phase_that_the_job_names_is_no_hang(phase: str) -> None:
    job = Job(phase="train")
    scans = [
        *job.train(100, 0.5),
        *job.enter(phase, 1200),
        *job.enter("train"),
        *job.train(100, 0.5),
    ]
    assert story(scans) == ""


def test_a_phase_that_takes_far_longer_than_it_ever_did_is_a_hang() -> None:
    job = Job(phase="train")
    scans: list[Scan] = []
    for _ in range(3):
        scans += [*job.train(20, 1.0), *job.enter("checkpoint", 30), *job.enter("train")]
    scans += job.train(20, 1.0)
    begun_at = job.at
    scans += job.enter("checkpoint", 600)
    told = run(detector("hang"), scans)
    assert 150 <= told[0][0] - begun_at <= 170
    assert "checkpoint" in first(told).summary


@pytest.mark.parametrize("named", [None, "init", "train"])
def test_a_slow_start_is_no_hang_for_half_an_hour(named: str | None) -> None:
    job = Job(phase=named)
    assert story([*job.wait(1700), *job.train(5, 1.0)]) == ""
    slow_first_step = Job(phase=named, step=0, step_at=0.0)
    assert story([*slow_first_step.wait(1500), *slow_first_step.train(10, 1.0)]) == ""


def test_a_start_that_never_ends_is_a_hang() -> None:
    job = Job(phase="train")
    assert story(job.wait(2000)) == "job.hung:raised@1802"


def test_a_job_without_any_word_of_progress_is_not_judged() -> None:
    assert story(Job().wait(100_000)) == ""


def test_a_job_that_names_no_phase_gets_a_longer_floor_and_its_pauses_are_learnt() -> None:
    job = Job()
    scans = [*job.train(100, 1.0), *job.wait(50), *job.train(100, 1.0)]
    assert story(scans) == ""
    hung_at = job.at
    told = run(detector("hang"), [*scans, *job.wait(300)])
    assert 60 <= told[0][0] - hung_at <= 80


def test_a_job_that_names_its_start_alone_may_not_name_its_evaluation() -> None:
    job = Job(phase="init")
    scans = [*job.wait(60), *job.enter("step"), *job.train(100, 1.0), *job.wait(50)]
    assert story([*scans, *job.train(10, 1.0)]) == ""


def test_pauses_that_come_again_belong_to_the_job_and_one_accident_does_not() -> None:
    def after(pauses: int) -> float:
        job = Job(phase="train")
        scans: list[Scan] = []
        for _ in range(pauses):
            scans += [*job.train(50, 0.5), *job.wait(9)]
        scans += job.train(50, 0.5)
        hung_at = job.at
        told = run(detector("hang"), [*scans, *job.wait(100)])
        return told[0][0] - hung_at

    assert after(1) <= 12
    assert 13 <= after(3) <= 17


def test_a_restart_of_the_job_gets_the_grace_of_a_start_and_ends_the_hang() -> None:
    job = Job(phase="train")
    scans = [*job.train(50, 1.0), *job.wait(30)]
    job.attempt, job.step, job.step_at = 1, None, None
    scans += [*job.wait(600), *job.train(20, 1.0)]
    told = run(detector("hang"), scans)
    assert [type(change).__name__ for _, change in told] == ["Raised", "Cleared"]


def test_a_job_that_goes_back_to_its_checkpoint_has_started_anew() -> None:
    job = Job(phase="train")
    scans = list(job.train(50, 1.0))
    job.step, job.step_at = 20, job.at
    assert story([*scans, *job.wait(200), *job.train(10, 1.0)]) == ""


def test_a_job_that_is_done_or_gone_does_not_hang() -> None:
    job = Job(phase="train")
    scans = [*job.train(50, 1.0), *job.enter("done", 900)]
    assert story(scans) == ""
    gone = Job(phase="train")
    scans = list(gone.train(50, 1.0))
    gone.pids = ()
    assert story([*scans, *gone.wait(500)]) == ""


def test_the_end_of_a_hung_job_ends_the_fault() -> None:
    job = Job(phase="train")
    scans = [*job.train(50, 1.0), *job.wait(20)]
    ended = Scan(source="jobs", at=job.told + 2)
    assert story([*scans, ended]).endswith(f"job.hung:cleared@{job.told + 2:g}")


def test_a_rank_whose_process_is_gone_while_the_others_wait_is_a_crash() -> None:
    job = Job(phase="train")
    scans = list(job.train(50, 1.0))
    job.labels = {"gone_ranks": "3 (pid 4711)", "behind": "3 (at step 48)"}
    fault = first(run(detector("hang"), [*scans, *job.wait(30)]))
    assert fault.kind == "job.crashed"
    assert any("3 (pid 4711)" in line for line in fault.evidence)


def test_the_evidence_names_who_did_not_arrive() -> None:
    job = Job(phase="train")
    scans = list(job.train(50, 1.0))
    job.labels = {"behind": "5 (at step 48)", "processes": "pid 9 rank 5 state D in nfs_wait"}
    evidence = " | ".join(first(run(detector("hang"), [*scans, *job.wait(30)])).evidence)
    assert "ranks that did not arrive: 5 (at step 48)" in evidence
    assert "state D in nfs_wait" in evidence


def test_an_agent_that_was_away_distrusts_its_clock() -> None:
    job = Job(phase="train")
    scans = list(job.train(50, 1.0))
    job.at, job.told = job.at + 7200, job.told + 7200  # stopped, or the clock was set
    assert story([*scans, *job.wait(6), *job.train(10, 1.0)]) == ""


def test_jobs_that_could_not_be_looked_at_do_not_end() -> None:
    job = Job(phase="train")
    scans = [*job.train(50, 1.0), *job.wait(20)]
    gap = Gap(collector_component("jobs"), None, GapReason.TIMED_OUT, "stuck")
    scans.append(Scan(source="jobs", at=job.told + 2, gaps=(gap,)))
    assert story(scans).count("@") == 1


def test_a_job_known_by_its_log_alone_gets_minutes() -> None:
    job = Job()
    scans: list[Scan] = []
    for _ in range(30):
        job.labels = {"log_at": f"{job.at:.0f}"}
        scans += job.wait(20)
    written_at = job.at - 20
    told = run(detector("hang"), [*scans, *job.wait(1000)])
    assert 300 <= told[0][0] - written_at <= 304


def test_a_silent_log_does_not_matter_while_steps_advance() -> None:
    job = Job(phase="train", labels={"log_at": "1"})
    assert story(job.train(1000, 1.0)) == ""
