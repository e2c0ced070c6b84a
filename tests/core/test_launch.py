"""The exit contract of a launcher: 93 is `do not start this again here`, and nothing eats it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chipmedic.job_files import CheckpointRequests, checkpoint_file


def launch(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chipmedic.launch", *argv],
        env={**os.environ, "CHIPMEDIC_JOBS": str(folder)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (("--", "sh", "-c", "exit 0"), 0, ""),
        (("sh", "-c", "exit 7"), 7, ""),
        (("sh", "-c", "exit 93"), 93, ""),
        (("sh", "-c", "kill -9 $$"), 128 + 9, ""),
        (("/no/such/torchrun",), 127, "not found"),
        (("/",), 126, "cannot be started"),
        ((), 2, "usage"),
    ],
)
def test_the_status_is_the_launchers(
    tmp_path: Path, argv: tuple[str, ...], status: int, said: str
) -> None:
    ended = launch(tmp_path, *argv)
    assert ended.returncode == status
    assert said in ended.stderr


def test_nothing_starts_on_a_node_that_is_kept_out(tmp_path: Path) -> None:
    (tmp_path / "keep_out").write_text("chipmedic:inc-000007 chip.lost\nmore\n")
    ended = launch(tmp_path, "--", "sh", "-c", f"touch {tmp_path}/started")
    assert ended.returncode == 93
    assert "chipmedic:inc-000007 chip.lost;" in ended.stderr
    assert not (tmp_path / "started").exists()


def test_a_launcher_that_was_told_to_leave_ends_with_93_whatever_it_says(tmp_path: Path) -> None:
    ended = launch(tmp_path, "sh", "-c", f"echo out > {tmp_path}/keep_out; kill -TERM $$")
    assert ended.returncode == 93
    assert "has ended with 143" in ended.stderr


def test_a_signal_goes_on_to_the_launcher(tmp_path: Path) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [sys.executable, "-m", "chipmedic.launch", "sh", "-c", script],
        env={**os.environ, "CHIPMEDIC_JOBS": str(tmp_path)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 5


def test_a_request_from_before_is_none_and_a_new_one_counts_once(tmp_path: Path) -> None:
    path = tmp_path / checkpoint_file("torchrun:a/b c")
    path.write_text("old")
    requests = CheckpointRequests("torchrun:a/b c", directory=str(tmp_path))
    assert path.parent == tmp_path
    assert not requests.is_new()
    os.utime(path, ns=(1, 2))
    assert requests.is_new()
    assert not requests.is_new()


def test_without_a_job_or_a_folder_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_JOBID", "CHIPMEDIC_JOB", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHIPMEDIC_JOBS", str(tmp_path / "none"))
    assert not CheckpointRequests().is_new()
    assert not CheckpointRequests("torchrun:a").is_new()
