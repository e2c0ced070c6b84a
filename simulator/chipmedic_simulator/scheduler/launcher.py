"""The scheduler's daemon: starts the ranks of the wanted attempt and stops those of older ones."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from chipmedic_simulator.node import SimulatedNode
from chipmedic_simulator.scheduler.state import ClusterState, Rank, edit, read_state

LOOK_SECONDS = 0.1
STOP_SECONDS = 3.0
"""From SIGTERM to SIGKILL, as KillWait of a real scheduler."""
_FOREIGN = ("SLURM_", "OMPI_", "PMI_", "PMIX_", "TORCHELASTIC_", "CHIPMEDIC_JOB")
"""Variables of a scheduler that we ourselves may run under: our ranks are not that one's."""


class Launcher:
    """Follows the state until SIGTERM."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ranks: list[subprocess.Popen[bytes]] = []
        self._attempt = -1
        self._is_stopping = False

    def run(self) -> int:
        """Work until SIGTERM or SIGINT; leaves no rank behind."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._take_over()
        while not self._is_stopping:
            self._look()
            time.sleep(LOOK_SECONDS)
        self._stop_ranks()
        return 0

    def _on_signal(self, *_: object) -> None:
        self._is_stopping = True

    def _take_over(self) -> None:
        """End the ranks of a daemon that was killed, and start their job again."""
        with edit(self._folder) as state:
            if state.job.running_attempt < state.job.attempt:
                return
            for rank in state.job.running:
                if _is_rank(rank.pid, state.job.folder):
                    os.kill(rank.pid, signal.SIGKILL)
            state.job.attempt += 1

    def _look(self) -> None:
        wanted = read_state(self._folder).job.attempt
        if self._attempt != wanted:
            self._stop_ranks()
            self._start_ranks()
        self._note_exits()

    def _start_ranks(self) -> None:
        with edit(self._folder) as state:
            placement = state.free_nodes()[: state.job.ranks]
            if len(placement) < state.job.ranks:
                return  # waits for a node, as a queue does
            ring = Path(state.job.ring_folder) / f"ring-{state.job.attempt}.sock"
            ring.unlink(missing_ok=True)
            self._attempt = state.job.running_attempt = state.job.attempt
            state.job.running = []
            for number, node in enumerate(placement):
                process = _start_rank(state, number, node, ring)
                self._ranks.append(process)
                state.job.running.append(Rank(rank=number, node=node, pid=process.pid))

    def _note_exits(self) -> None:
        ended = {p.pid: p.returncode for p in self._ranks if p.poll() is not None}
        state = read_state(self._folder)
        if all(r.pid not in ended or r.exit_status is not None for r in state.job.running):
            return
        with edit(self._folder) as state:
            for rank in state.job.running:
                if rank.pid in ended and rank.exit_status is None:
                    rank.exit_status = ended[rank.pid]
                    _detach(state.nodes[rank.node].hardware)

    def _stop_ranks(self) -> None:
        if not self._ranks:
            return
        for process in self._ranks:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._ranks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
        self._ranks = []
        state = read_state(self._folder)
        for rank in state.job.running:
            _detach(state.nodes[rank.node].hardware)


def _start_rank(state: ClusterState, number: int, name: str, ring: Path) -> subprocess.Popen[bytes]:
    """Start a rank as torchrun would, and let it hold the chips of its node."""
    job, node = state.job, state.nodes[name]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    attempt = str(job.attempt)
    environment = inherited | node.environment
    environment |= {"RANK": str(number), "WORLD_SIZE": str(job.ranks)}
    environment |= {"TORCHELASTIC_RUN_ID": job.name, "TORCHELASTIC_RESTART_COUNT": attempt}
    # In a container of Kubernetes the container names the job, and this its attempt.
    environment |= {"SLURM_RESTART_COUNT": attempt}
    hardware = SimulatedNode.open(Path(node.hardware)) if node.hardware else None
    argv = [
        *(sys.executable, "-P", "-m", "chipmedic_simulator.training.rank"),
        *("--folder", job.folder, "--ring", str(ring)),
        *("--chip-trouble", str(hardware.trouble) if hardware else os.devnull + ".none"),
        *("--step-seconds", str(job.step_seconds)),
        *("--checkpoint-every", str(job.checkpoint_every)),
    ]
    with (Path(job.folder) / f"rank-{number}.log").open("ab") as log:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    if hardware:
        hardware.attach(process.pid)
    return process


def _detach(hardware: str) -> None:
    if hardware:
        SimulatedNode.open(Path(hardware)).detach()


def _is_rank(pid: int, job_folder: str) -> bool:
    """Say whether a process is a rank of this job, and not one that has its number by now."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return "chipmedic_simulator.training.rank" in words and job_folder in words
