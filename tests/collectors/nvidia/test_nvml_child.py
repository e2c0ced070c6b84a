"""What a hanging, crashing or undying child costs: one scan, one process, never the agent."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from chipmedic.errors import ToolBlocked, ToolFailed
from chipmedic.metric import Metric
from chipmedic_collectors.nvidia.child import Child, kill_group
from nvml_rig import simulated
from waiting import until

ANSWER_SECONDS = 0.4


@pytest.mark.parametrize("is_stand_in", [False, True])
def test_a_hang_is_blocked_in_time_and_says_where(tmp_path: Path, is_stand_in: bool) -> None:
    with simulated(tmp_path, is_stand_in=is_stand_in, answer_seconds=ANSWER_SECONDS) as rig:
        rig.scan()
        rig.nvml.hang("nvmlDeviceGetPowerUsage", 600, gpu=1)
        with pytest.raises(ToolBlocked, match="in nvmlDeviceGetPowerUsage of GPU 1"):
            rig.scan()
        assert rig.collector.wake_fd() is None


def test_the_first_answer_has_more_time_than_the_others(tmp_path: Path) -> None:
    with simulated(tmp_path, answer_seconds=0.1) as rig:
        rig.nvml.hang("nvmlDeviceGetHandleByIndex_v2", 0.2)
        assert len(rig.scan().chips) == 2


def test_no_second_child_while_the_first_is_stuck(tmp_path: Path) -> None:
    """A child in uninterruptible sleep survives SIGKILL; here the kill does nothing at first."""
    killed: list[int] = []
    with simulated(
        tmp_path, answer_seconds=ANSWER_SECONDS, kill=killed.append, restart_seconds=[0.0]
    ) as rig:
        rig.scan()
        rig.nvml.hang("nvmlDeviceGetTemperature", 600)
        with pytest.raises(ToolBlocked, match="abandoned"):
            rig.scan()
        [pid] = killed
        try:
            for _ in range(2):
                with pytest.raises(ToolBlocked, match=f"process {pid} is stuck in the kernel"):
                    rig.scan()
            assert rig.child.starts == 1
            rig.nvml.hang("nvmlDeviceGetTemperature", 0)
        finally:
            kill_group(pid)
        assert len(rig.scan().chips) == 2
        assert rig.child.starts == 2
        kill_group(_worker_pid(rig.nvml.path))


def test_restarts_wait_longer_each_time(tmp_path: Path) -> None:
    with simulated(tmp_path, answer_seconds=0.2, restart_seconds=[0.0, 30.0]) as rig:
        rig.scan()
        rig.nvml.crash("nvmlDeviceGetTemperature")
        with pytest.raises(ToolFailed):
            rig.scan()
        with pytest.raises(ToolFailed):
            rig.scan()
        starts = rig.child.starts
        rig.nvml.crash("nvmlDeviceGetTemperature", is_on=False)
        with pytest.raises(ToolFailed, match="tried again in 30 s"):
            rig.scan()
        assert rig.child.starts == starts == 2


@pytest.mark.parametrize("is_stand_in", [False, True])
def test_a_crash_costs_one_scan(tmp_path: Path, is_stand_in: bool) -> None:
    with simulated(tmp_path, is_stand_in=is_stand_in) as rig:
        chips = rig.scan().chips
        rig.nvml.crash("nvmlDeviceGetUtilizationRates", gpu=1)
        with pytest.raises(ToolFailed, match=r"SIGABRT.*nvmlDeviceGetUtilizationRates of GPU 1"):
            rig.scan()
        rig.nvml.crash("nvmlDeviceGetUtilizationRates", gpu=1, is_on=False)
        scan = rig.scan()
        assert scan.chips == chips
        assert len(scan.values(Metric.PRESENT)) == 2


def test_a_child_that_is_killed_wakes_the_scanner(tmp_path: Path) -> None:
    with simulated(tmp_path) as rig:
        rig.scan()
        os.kill(_worker_pid(rig.nvml.path), signal.SIGKILL)
        rig.wait_for_push()
        with pytest.raises(ToolFailed, match="SIGKILL"):
            rig.scan()


def test_xids_that_came_before_a_hang_are_not_lost(tmp_path: Path) -> None:
    with simulated(tmp_path, answer_seconds=ANSWER_SECONDS, restart_seconds=[0.0]) as rig:
        rig.scan()
        rig.nvml.hang("nvmlDeviceGetTemperature", 600)
        rig.host.at += 5
        injection = threading.Timer(0.1, rig.nvml.emit, (0, 95))
        injection.start()
        with pytest.raises(ToolBlocked):
            rig.collector.scan()
        injection.join()
        assert [event.code for event in rig.scan(5).events] == ["xid:95"]


def test_close_leaves_no_process_and_a_scan_opens_again(tmp_path: Path) -> None:
    with simulated(tmp_path) as rig:
        rig.scan()
        rig.collector.close()
        until(lambda: not _worker_pids(rig.nvml.path))
        rig.collector.close()
        assert len(rig.scan().chips) == 2


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    with simulated(tmp_path) as rig:
        script = (
            "import os\n"
            "from chipmedic.testing import FakeHost\n"
            "from chipmedic_collectors.nvidia import Nvidia\n"
            "collector = Nvidia(FakeHost()); collector.scan(); os.kill(os.getpid(), 9)\n"
        )
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "CHIPMEDIC_SIMULATOR_NVML_STATE": str(rig.nvml.path),
            "CHIPMEDIC_NVML_WORKER": "chipmedic_simulator.nvml.stand_in_worker",
        }
        status = os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-c", script], env)
        assert status == -signal.SIGKILL
        until(lambda: not _worker_pids(rig.nvml.path))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("print('no json', flush=True); input()", "no answer that can be read"),
        ("print('[1]', flush=True); input()", "no answer that can be read"),
        ("print('{\"id\": 99}', flush=True); input()", "no answer that can be read"),
        ("raise SystemExit(3)", "exit status 3"),
    ],
)
def test_a_child_that_speaks_nonsense_is_replaced(program: str, words: str) -> None:
    child = Child([sys.executable, "-c", program], os.environ)
    with pytest.raises(ToolFailed, match=words):
        child.ask({"id": 1, "calls": []}, deadline_seconds=10)
    child.close()


def test_a_child_that_cannot_be_started_is_said(tmp_path: Path) -> None:
    child = Child([str(tmp_path / "nothing")], os.environ)
    with pytest.raises(ToolFailed, match="cannot be started: No such file"):
        child.ask({"id": 1, "calls": []}, deadline_seconds=1)


def _worker_pids(state: Path) -> list[int]:
    """Return the workers of a simulated host, by the state that their environment names."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            is_worker = str(state).encode() in path.read_bytes()
        except OSError:
            continue
        if is_worker:
            found.append(int(path.parent.name))
    return found


def _worker_pid(state: Path) -> int:
    [pid] = _worker_pids(state)
    return pid
