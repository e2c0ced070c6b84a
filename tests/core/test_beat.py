"""A beat: what is sent, and that nothing ever comes back to the job."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chipmedic.beat import beat, encode, job_of, rank_of

MARKS = ("SLURM_JOB_ID", "SLURM_PROCID", "RANK", "CHIPMEDIC_JOB", "CHIPMEDIC_LOG")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    for name in MARKS:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "progress.sock"
    monkeypatch.setenv("CHIPMEDIC_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        yield listener


def test_what_is_told_arrives_in_one_datagram(
    agent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4400")
    monkeypatch.setenv("RANK", "3")
    assert beat(step=12, phase="train", checkpoint=10)
    assert agent.recv(2048) == b"job=slurm:4400 rank=3 step=12 phase=train checkpoint=10"


def test_blanks_in_a_value_stay_in_the_value(agent: socket.socket) -> None:
    assert beat(phase="long evaluation", log="/logs/my run.txt")
    assert agent.recv(2048) == b"phase=long%20evaluation log=/logs/my%20run.txt"


def test_without_an_agent_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIPMEDIC_SOCKET", str(tmp_path / "nobody.sock"))
    assert not beat(step=1)


@pytest.mark.parametrize("step", ["12", 1.5, object(), [1]])
def test_a_step_that_is_no_whole_number_is_not_sent_and_not_raised(
    agent: socket.socket, step: Any
) -> None:
    assert not beat(step=step)
    agent.setblocking(False)
    with pytest.raises(BlockingIOError):
        agent.recv(2048)


def test_a_full_queue_does_not_hold_up_the_job(agent: socket.socket) -> None:
    sent = [beat(step=number) for number in range(20_000)]
    assert sent[0]
    assert not sent[-1]  # nobody reads


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7", "TORCHELASTIC_RUN_ID": "run-a"}, "slurm:7"),
        ({"SLURM_JOB_ID": "7", "CHIPMEDIC_JOB": "mine"}, "slurm:7"),
        ({"CHIPMEDIC_JOB": "mine", "TORCHELASTIC_RUN_ID": "run-a"}, "local:mine"),
        ({"TORCHELASTIC_RUN_ID": "run-a"}, "torchrun:run-a"),
        (
            {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"},
            "torchrun:n1:29500",
        ),
    ],
)
def test_the_outer_scheduler_names_the_job(environ: dict[str, str], job: str | None) -> None:
    assert job_of(environ) == job


@pytest.mark.parametrize(
    ("environ", "rank"),
    [({"RANK": "5", "SLURM_PROCID": "0"}, 5), ({"SLURM_PROCID": "2"}, 2), ({"RANK": "x"}, None)],
)
def test_the_nearest_launcher_names_the_rank(environ: dict[str, str], rank: int | None) -> None:
    assert rank_of(environ) == rank


def test_a_job_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import chipmedic.beat\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(loaded - set(sys.stdlib_module_names) - {'chipmedic'}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_the_copy_in_the_documentation_works(agent: socket.socket) -> None:
    import chipmedic.beat

    text = chipmedic.beat.__doc__ or ""
    start = text.index("    import os, socket")
    copied = text[start : text.index("The datagram is text")]
    names: dict[str, Any] = {}
    exec("\n".join(line[4:] for line in copied.splitlines()), names)
    names["beat"](step=3, phase="train")
    assert agent.recv(2048) == b"step=3 phase=train"


def test_none_is_left_out() -> None:
    assert encode(step=0, phase=None, rank=0) == b"step=0 rank=0"
