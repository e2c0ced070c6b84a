"""A simulated NVIDIA host: the collector over the fake library, or its stand-in, in a child."""

from __future__ import annotations

import os
import select
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from chipmedic.errors import ToolMissing
from chipmedic.model import Scan
from chipmedic.testing import FakeHost
from chipmedic_collectors.nvidia.child import RESTART_SECONDS, Child, kill_group
from chipmedic_collectors.nvidia.collector import Nvidia, worker_argv, worker_environment
from chipmedic_simulator.nvml.build import build
from chipmedic_simulator.nvml.environment import (
    STAND_IN_WORKER,
    library_environment,
    stand_in_environment,
)
from chipmedic_simulator.nvml.state import SimulatedNvml, create
from waiting import PATIENCE_SECONDS

EVERY_GROUP_SECONDS = 60.0


@cache
def library() -> Path:
    """Return the fake library, compiled once; skips the test where there is no C compiler."""
    try:
        return build(Path(tempfile.gettempdir()) / f"chipmedic-test-{os.getuid()}")
    except ToolMissing as e:
        pytest.skip(str(e))


@dataclass(slots=True)
class Rig:
    """A simulated host, its clock and its collector."""

    nvml: SimulatedNvml
    host: FakeHost
    child: Child
    collector: Nvidia

    def scan(self, after_seconds: float = EVERY_GROUP_SECONDS) -> Scan:
        """Let time pass, by default so much that every group of calls is due, and scan."""
        self.host.at += after_seconds
        return self.collector.scan()

    def wait_for_push(self) -> None:
        """Wait until the collector wants to be scanned."""
        descriptor = self.collector.wake_fd()
        assert descriptor is not None
        assert select.select([descriptor], [], [], PATIENCE_SECONDS)[0], "nothing was pushed"


@contextmanager
def simulated(
    folder: Path,
    *,
    is_stand_in: bool = False,
    gpus: int = 2,
    profile: str = "h100",
    answer_seconds: float = PATIENCE_SECONDS,
    kill: Callable[[int], None] = kill_group,
    restart_seconds: Sequence[float] = RESTART_SECONDS,
    host: FakeHost | None = None,
) -> Iterator[Rig]:
    """Yield a simulated host; ends its child."""
    nvml = create(folder / "nvml.state", gpus=gpus, profile=profile)
    if is_stand_in:
        extra = stand_in_environment(nvml.path)
    else:
        extra = library_environment(nvml.path, library())
    child = Child(
        worker_argv(STAND_IN_WORKER if is_stand_in else None),
        worker_environment({**os.environ, **extra}),
        kill=kill,
        restart_seconds=restart_seconds,
    )
    host = host or FakeHost()
    collector = Nvidia(
        host, child=child, answer_seconds=answer_seconds, first_answer_seconds=PATIENCE_SECONDS
    )
    try:
        yield Rig(nvml, host, child, collector)
    finally:
        nvml.path.unlink()
        collector.close()
