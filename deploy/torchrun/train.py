r"""A training loop that chipmedic can look after: beats, checkpoints on request, resume.

It trains nothing of interest; what matters is marked with (1) to (5). Start it by

    python -m chipmedic.launch -- torchrun --nnodes=2:3 --nproc-per-node=8 --rdzv-id=example \
        --rdzv-backend=c10d --rdzv-endpoint=HOST:29400 --rdzv-conf=is_host=0 \
        train.py --folder /shared/example

on every node, the spare ones too.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist

from chipmedic.beat import beat
from chipmedic.job_files import CheckpointRequests

EVERY = 50
"""Steps between two checkpoints that nobody asked for."""


def main() -> None:
    """Train until the given step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--step-seconds", type=float, default=0.05)
    given = parser.parse_args()

    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGUSR1, ask)  # (1) from now on the signal does not end this process
    requests = CheckpointRequests()
    beat(phase="init")
    dist.init_process_group(backend="gloo")  # nccl, hccl ... on chips
    rank = dist.get_rank()
    path = given.folder / "checkpoint.pt"
    weights = torch.zeros(4)
    first = 0
    if path.exists():  # (2) every start goes on from the newest checkpoint, whoever takes part
        saved = torch.load(path, weights_only=True)
        first, weights = int(saved["step"]), saved["weights"]
    print(f"rank {rank} of {dist.get_world_size()} starts after step {first}", flush=True)
    for step in range(first + 1, given.steps + 1):
        # (3) ranks must agree about an extra checkpoint: the wish travels with a collective.
        wish = torch.tensor([1.0 if requests.is_new() or asked else 0.0])
        gradient = torch.full((4,), 1.0 / dist.get_world_size())
        dist.all_reduce(gradient)
        dist.all_reduce(wish)
        weights += gradient
        time.sleep(given.step_seconds)
        beat(step=step, phase="train")  # (4) says that it moves
        if wish.item() > 0 or step % EVERY == 0:
            asked = False
            if rank == 0:
                beat(step=step, phase="checkpoint")
                save(path, step, weights)
                beat(step=step, phase="train", checkpoint=step)  # (5) and what is safe on disk
    beat(phase="done")
    dist.destroy_process_group()


def save(path: Path, step: int, weights: torch.Tensor) -> None:
    """Write a checkpoint whole or not at all."""
    fresh = path.with_suffix(f".{os.getpid()}")
    torch.save({"step": step, "weights": weights}, fresh)
    fresh.replace(path)


if __name__ == "__main__":
    main()
