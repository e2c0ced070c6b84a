"""One rank of the training job: `python -m chipmedic_simulator.training.rank`.

The environment names the rank as torchrun does (RANK, WORLD_SIZE, TORCHELASTIC_RESTART_COUNT); the
job's folder holds the control file, the checkpoint and a lock that only one attempt can hold.

A beat says that the rank's own part of a step is done and is sent before it waits for the others:
so the rank that never came to the barrier is the one whose step is behind.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chipmedic.beat import beat
from chipmedic_simulator.training import control
from chipmedic_simulator.training.barrier import Barrier, PeerLost

CHECKPOINT = "checkpoint.json"
LOCK = "checkpoint.lock"
EXIT_CHIP = 134
"""As a process ends that CUDA aborted (SIGABRT)."""
EXIT_PEER = 1
EXIT_CRASH = 3


class ChipFailed(Exception):
    """The chip's runtime aborts the program; the text is what it prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one rank has to do."""

    folder: Path
    rank: int
    ranks: int
    ring: Path
    attempt: int
    chip_trouble: Path
    """While this file exists the rank's chip fails every program, with the words in the file."""
    peer_seconds: float
    """How long a rank whose peer has died waits before it gives up (NCCL: 600 s)."""
    step_seconds: float
    checkpoint_every: int
    init_seconds: float
    steps: int


def train(task: Task) -> int:
    """Run until the last step; return the exit status."""
    beat(phase="init")
    with _only_attempt(task):
        time.sleep(task.init_seconds)
        step, value = _load(task.folder)
        with Barrier(task.ring, rank=task.rank, ranks=task.ranks) as barrier:
            _say(task, f"starts after step {step}")
            step = _steps(task, barrier, step, value)
    beat(step=step, phase="done")
    return 0


def _steps(task: Task, barrier: Barrier, step: int, value: float) -> int:
    """Train from a checkpoint on; return the last step."""
    safe = step or None
    while step < task.steps:
        _compute(task)
        beat(step=step + 1, phase="train", checkpoint=safe)
        value += barrier.reduce(float(step))
        if step and step % task.checkpoint_every == 0:
            safe = step  # rank 0 came to this barrier, so it has saved the step before
        step += 1
        if task.rank == 0 and step % task.checkpoint_every == 0:
            beat(step=step, phase="checkpoint")
            _save(task.folder, step, value)
            safe = step
            beat(step=step, phase="train", checkpoint=safe)
    return step


def _compute(task: Task) -> None:
    """Do the rank's own part of a step.

    Raises:
        ChipFailed: the chip does not compute any more.
        RuntimeError: the program itself fails.
    """
    trouble = control.read(task.folder, task.attempt)
    if trouble.hang_rank == task.rank:
        _hang(task)
    if trouble.crash_rank == task.rank:
        raise RuntimeError("loss is NaN")
    extra_seconds = trouble.slow_seconds if trouble.slow_rank == task.rank else 0.0
    time.sleep(task.step_seconds + extra_seconds)
    if task.chip_trouble.exists():
        raise ChipFailed(task.chip_trouble.read_text(encoding="utf-8").strip())


@contextmanager
def _only_attempt(task: Task) -> Iterator[None]:
    """Let only one attempt write the checkpoint, whatever else still runs."""
    if task.rank != 0:
        yield
        return
    with (task.folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _load(folder: Path) -> tuple[int, float]:
    try:
        saved = json.loads((folder / CHECKPOINT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0, 0.0
    return int(saved["step"]), float(saved["value"])


def _save(folder: Path, step: int, value: float) -> None:
    """Replace the checkpoint in one step: a rank that dies while it saves leaves the old one."""
    fresh = folder / f"{CHECKPOINT}.new"
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({"step": step, "value": value}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(folder / CHECKPOINT)


def _hang(task: Task) -> None:
    """Stop as a rank does that waits for ever: alive, silent, never at the barrier."""
    while control.read(task.folder, task.attempt).hang_rank == task.rank:
        time.sleep(0.2)


def _say(task: Task, text: str) -> None:
    sys.stderr.write(f"rank {task.rank}: {text}\n")
    sys.stderr.flush()


def _take_name() -> None:
    """Show up in `ps` and in the driver's log under the job's name, as real programs do."""
    if name := os.environ.get("TORCHELASTIC_RUN_ID"):
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text(name, encoding="utf-8")


def _task() -> Task:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--ring", type=Path, required=True)
    parser.add_argument("--chip-trouble", type=Path, required=True)
    parser.add_argument("--step-seconds", type=float, default=0.2)
    parser.add_argument("--checkpoint-every", type=int, default=10)
    parser.add_argument("--init-seconds", type=float, default=0.5)
    parser.add_argument("--peer-seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=1_000_000)
    given = parser.parse_args()
    return Task(
        rank=int(os.environ["RANK"]),
        ranks=int(os.environ["WORLD_SIZE"]),
        attempt=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        **vars(given),
    )


def main() -> int:
    """Run one rank; a failed chip, a lost peer and a crash are exit statuses."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _take_name()
    task = _task()
    try:
        return train(task)
    except ChipFailed as e:
        _say(task, str(e))
        return EXIT_CHIP
    except PeerLost as e:
        _say(task, f"waits in a collective: {e}")
        time.sleep(task.peer_seconds)
        _say(task, f"collective timed out after {task.peer_seconds:g} s")
        return EXIT_PEER
    except RuntimeError as e:
        _say(task, f"crashed: {e}")
        return EXIT_CRASH


if __name__ == "__main__":
    sys.exit(main())
