"""One rank of the benchmark's training job; it runs on a simulated node of a real Slurm.

    python slurm_rank.py FOLDER

It makes a step, tells the agent of its node and waits for the other ranks, as data-parallel
training does: one that does not come stalls all. Steps since the last checkpoint are made again
after a restart. Rank 0 writes down each step with its time: that is what the benchmark measures.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from chipmedic.beat import beat

STEP_SECONDS = 0.5
CHECKPOINT_EVERY = 10
LOOK_SECONDS = 0.1


def main() -> None:
    """Train until somebody ends it."""
    environ = os.environ
    folder, node = Path(sys.argv[1]), environ["SLURMD_NODENAME"]
    attempt = int(environ.get("SLURM_RESTART_COUNT", "0"))
    rank, ranks = int(environ["SLURM_PROCID"]), int(environ["SLURM_NTASKS"])
    here = folder / "nodes" / node
    # The agent sees of the machine what lies below its node's root.
    for path in (here / "root/proc" / str(os.getpid()),):
        with suppress(FileExistsError):
            path.symlink_to(f"/proc/{os.getpid()}")
    (here / f"rank-{environ['SLURM_JOB_ID']}").write_text(str(os.getpid()))
    job = folder / "jobs" / environ["SLURM_JOB_ID"]
    meet = job / f"attempt-{attempt}"
    meet.mkdir(parents=True, exist_ok=True)
    told = str(here / "beats")
    beat(phase="init", rank=rank, socket_path=told)
    checkpoint = job / "checkpoint"
    step = int(checkpoint.read_text() or 0) if checkpoint.exists() else 0
    while True:
        time.sleep(STEP_SECONDS)
        step += 1
        beat(step=step, phase="train", rank=rank, socket_path=told)
        (meet / str(rank)).write_text(str(step))
        while any(_step_of(meet / str(other)) < step for other in range(ranks)):
            time.sleep(LOOK_SECONDS)
        if rank == 0:
            with (job / "steps").open("a") as steps:
                steps.write(f"{time.time():.3f} {attempt} {step} {environ['SLURM_JOB_NODELIST']}\n")
            if step % CHECKPOINT_EVERY == 0:
                new = job / "checkpoint.new"
                new.write_text(str(step))
                new.replace(checkpoint)


def _step_of(path: Path) -> int:
    try:
        return int(path.read_text() or -1)
    except OSError:
        return -1


if __name__ == "__main__":
    main()
