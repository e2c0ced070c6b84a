"""The barrier, the checkpoint and the control file of the simulated training job."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from chipmedic_simulator.training import control
from chipmedic_simulator.training.barrier import Barrier, PeerLost
from chipmedic_simulator.training.control import Control
from waiting import PATIENCE_SECONDS


class Ring:
    """Ranks as threads; what each thread returns is in `results`."""

    def __init__(self, folder: Path, ranks: int) -> None:
        self._path = folder / "ring.sock"
        self._ranks = ranks
        self._pool = ThreadPoolExecutor(ranks)

    def start(self, work: Callable[[int, Barrier], float]) -> list[Future[float]]:
        def one(rank: int) -> float:
            with Barrier(self._path, rank=rank, ranks=self._ranks) as barrier:
                return work(rank, barrier)

        return [self._pool.submit(one, rank) for rank in range(self._ranks)]


def test_every_rank_gets_the_sum(tmp_path: Path) -> None:
    def work(rank: int, barrier: Barrier) -> float:
        return sum(barrier.reduce(10.0**rank) for _ in range(3))

    assert [f.result(PATIENCE_SECONDS) for f in Ring(tmp_path, 4).start(work)] == [3333.0] * 4


@pytest.mark.parametrize("silent", [0, 1])
def test_one_silent_rank_stalls_all(tmp_path: Path, silent: int) -> None:
    arrives = threading.Event()

    def work(rank: int, barrier: Barrier) -> float:
        if rank == silent:
            arrives.wait(PATIENCE_SECONDS)
        return barrier.reduce(1.0)

    results = Ring(tmp_path, 3).start(work)
    time.sleep(0.3)
    assert not any(result.done() for result in results)
    arrives.set()
    assert [result.result(PATIENCE_SECONDS) for result in results] == [3.0] * 3


def test_a_rank_that_dies_is_an_error_for_the_others(tmp_path: Path) -> None:
    def work(rank: int, barrier: Barrier) -> float:
        return 0.0 if rank == 1 else barrier.reduce(1.0)

    results = Ring(tmp_path, 2).start(work)
    with pytest.raises(PeerLost, match="closed its connection"):
        results[0].result(PATIENCE_SECONDS)


def test_no_trouble_without_a_control_file(tmp_path: Path) -> None:
    assert control.read(tmp_path) == Control()


@pytest.mark.parametrize(
    ("of_attempt", "asking_attempt", "hang_rank"),
    [(None, 0, 1), (None, 7, 1), (2, 2, 1), (2, 3, None), (2, 1, None)],
)
def test_trouble_is_of_one_attempt(
    tmp_path: Path, of_attempt: int | None, asking_attempt: int, hang_rank: int | None
) -> None:
    control.write(tmp_path, Control(attempt=of_attempt, hang_rank=1))
    assert control.read(tmp_path, asking_attempt).hang_rank == hang_rank
    assert [path.name for path in tmp_path.iterdir()] == ["control.json"]
    assert json.loads((tmp_path / "control.json").read_text())["hang_rank"] == 1
