"""One rank of the training job: `python -m chipmedic_simulator.training.rank`.

The environment names the rank as torchrun does (RANK, WORLD_SIZE); the job's folder holds the
control file, the checkpoint and a lock that only one attempt can hold.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chipmedic.beat import beat
from chipmedic_simulator.training import control
from chipmedic_simulator.training.barrier import Barrier, PeerLost

CHECKPOINT = "checkpoint.json"
LOCK = "checkpoint.lock"
EXIT_CHIP = 134
"""As a process ends that CUDA aborted (SIGABRT)."""
EXIT_PEER = 1
EXIT_CRASH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one rank has to do."""

    folder: Path
    rank: int
    ranks: int
    ring: Path
    chip_trouble: Path
    """While this file exists the rank's chip has an uncorrectable error."""
    step_seconds: float
    checkpoint_every: int
    init_seconds: float
    steps: int


def train(task: Task) -> int:
    """Run until the last step; return the exit status."""
    beat(phase="init")
    lock = _lock(task)
    time.sleep(task.init_seconds)
    step, value = _load(task.folder)
    barrier = Barrier(task.ring, rank=task.rank, ranks=task.ranks)
    _say(task, f"starts after step {step}")
    while step < task.steps:
        trouble = control.read(task.folder)
        if trouble.hang_rank == task.rank:
            _hang(task)
        if trouble.crash_rank == task.rank:
            raise RuntimeError("loss is NaN")
        time.sleep(
            task.step_seconds + (trouble.slow_seconds if trouble.slow_rank == task.rank else 0.0)
        )
        if task.chip_trouble.exists():
            _say(task, "CUDA error: uncorrectable ECC error encountered")
            return EXIT_CHIP
        value += barrier.reduce(float(step))
        step += 1
        beat(step=step, phase="train")
        if step % task.checkpoint_every == 0:
            _save(task, step, value)
    beat(step=step, phase="done")
    if lock:
        lock.close()
    return 0


def _lock(task: Task) -> IO[str] | None:
    """Let only one attempt write the checkpoint, whatever else still runs."""
    if task.rank != 0:
        return None
    lock = (task.folder / LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _load(folder: Path) -> tuple[int, float]:
    try:
        saved = json.loads((folder / CHECKPOINT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0, 0.0
    return int(saved["step"]), float(saved["value"])


def _save(task: Task, step: int, value: float) -> None:
    if task.rank == 0:
        beat(step=step, phase="checkpoint")
        fresh = task.folder / f"{CHECKPOINT}.new"
        fresh.write_text(json.dumps({"step": step, "value": value}), encoding="utf-8")
        fresh.rename(task.folder / CHECKPOINT)
    beat(step=step, phase="train", checkpoint=step)


def _hang(task: Task) -> None:
    """Stop as a rank does that waits for ever: alive, silent, never at the barrier."""
    while control.read(task.folder).hang_rank == task.rank:
        time.sleep(0.2)


def _say(task: Task, text: str) -> None:
    sys.stderr.write(f"rank {task.rank}: {text}\n")
    sys.stderr.flush()


def _task() -> Task:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--ring", type=Path, required=True)
    parser.add_argument("--chip-trouble", type=Path, required=True)
    parser.add_argument("--step-seconds", type=float, default=0.2)
    parser.add_argument("--checkpoint-every", type=int, default=10)
    parser.add_argument("--init-seconds", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=1_000_000)
    given = parser.parse_args()
    return Task(rank=int(os.environ["RANK"]), ranks=int(os.environ["WORLD_SIZE"]), **vars(given))


def main() -> int:
    """Run one rank; a lost peer and a crash are exit statuses."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    task = _task()
    try:
        return train(task)
    except PeerLost as e:
        _say(task, f"collective failed: {e}")
        return EXIT_PEER
    except RuntimeError as e:
        _say(task, f"crashed: {e}")
        return EXIT_CRASH


if __name__ == "__main__":
    sys.exit(main())
