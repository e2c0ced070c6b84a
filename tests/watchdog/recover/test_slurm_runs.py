"""Which jobs ran where, read from what squeue of Slurm 22.05 prints."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.recoverer import JobRun, RunOutcome
from chipmedic_watchdog.recover.slurm.runs import (
    needs_names,
    read_names,
    read_runs,
    with_families,
)

SHOWN = """\
41|FAILED|1795976073|1795976075|1001|41|N/A|256|n[1-2]|
44|FAILED|1795976192|1795976194|1001|43|1|256|n1|
45|RUNNING|1795976192|NONE|1001|43|2|0|n2|
46|CANCELLED|1795976200|1795976201|1002|46|N/A|15|n1|
47|COMPLETED|1795976210|1795976219|1002|47|N/A|0|n1|
48|PENDING|N/A|N/A|1002|48|N/A|0||
49|COMPLETING|1795976210|1795976219|1002|49|N/A|256|n1|
51|COMPLETING|1795976210|1795976219|1002|51|N/A|0|n1|
50|FAILED|1795976220|1795976221|1002|50|N/A|15|n1|
"""


def test_runs() -> None:
    runs = {run.job: run for run in read_runs(SHOWN)}
    assert runs["slurm:41"] == JobRun(
        job="slurm:41",
        family="",
        user="1001",
        nodes=("n1", "n2"),
        started_at=1795976073.0,
        ended_at=1795976075.0,
        outcome=RunOutcome.FAILED,
    )
    assert (runs["slurm:43_1"].family, runs["slurm:43_2"].ended_at) == ("array:43", None)
    assert {job: run.outcome.value for job, run in runs.items()} == {
        "slurm:41": "failed",
        "slurm:43_1": "failed",
        "slurm:43_2": "running",
        "slurm:46": "stopped",
        "slurm:47": "well",
        "slurm:49": "failed",  # its epilog works
        "slurm:50": "stopped",  # by SIGTERM, which is somebody's word
    }


@pytest.mark.parametrize(
    "line",
    ["", "n1", "41|FAILED|Unknown|NONE|1|41|N/A|0|n1|", "x|FAILED|1|2|1|41|N/A|0|n1|",
     "41|FAILED|1|2|1|41|N/A|0|n[1|"],
)  # fmt: skip
def test_a_line_that_is_no_run_costs_no_other(line: str) -> None:
    assert len(read_runs(f"{line}\n{SHOWN}")) == len(read_runs(SHOWN))


def test_a_name_cannot_speak_for_another_job() -> None:
    assert read_names("41|train\n46|evil\n47|mine\n47|eval\n") == {"41": "train", "46": "evil"}


def test_jobs_of_one_user_and_name_are_of_one_program() -> None:
    runs = with_families(read_runs(SHOWN), {"41": "train", "43": "train", "47": "train"})
    families = {run.job: run.family for run in runs}
    assert families["slurm:41"] == "name:1001:train"
    assert families["slurm:47"] == "name:1002:train"
    assert families["slurm:43_1"] == "array:43"
    assert not needs_names(runs)


@given(st.text(st.sampled_from("0123456789|[]-,\nFAILEDn"), max_size=200))
def test_any_output_is_read(text: str) -> None:
    runs = read_runs(text)
    assert len(runs) <= len(text.splitlines())
    for run in runs:
        assert (run.ended_at is None) == (run.outcome is RunOutcome.RUNNING)
        assert math.isfinite(run.started_at)
        assert run.job.startswith("slurm:")
    assert read_runs(f"{text}\n{SHOWN}") == [*runs, *read_runs(SHOWN)]


@given(st.lists(st.sampled_from([*SHOWN.splitlines(), "x", "41|FAILED|"]), max_size=12))
def test_what_is_no_run_costs_no_other_and_the_order_stays(lines: list[str]) -> None:
    alone = [run for line in lines for run in read_runs(line)]
    assert read_runs("\n".join(lines)) == alone
