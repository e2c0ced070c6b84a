"""What is injected is seen where the real thing is seen: by the real collectors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chipmedic.errors import ChipmedicError
from chipmedic.host import LinuxHost
from chipmedic.metric import Metric
from chipmedic.model import Scan
from chipmedic_agent.config import load_settings as load_agent
from chipmedic_collectors.ascend import Ascend
from chipmedic_collectors.kernel_log import KernelLog
from chipmedic_collectors.rdma import RdmaPorts
from chipmedic_simulator.cluster import create
from chipmedic_simulator.configuration import watchdog_config
from chipmedic_simulator.faults import INJECTIONS, inject
from chipmedic_simulator.layout import Layout
from chipmedic_simulator.node import Vendor
from chipmedic_simulator.nvml.state import read_state
from chipmedic_simulator.scheduler.state import Rank, edit
from chipmedic_simulator.training import control
from chipmedic_watchdog.config import load_settings as load_watchdog


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    folder = tmp_path / "demo"
    folder.mkdir()
    return create(folder, language="zh", is_temporary=False)


def kernel_codes(layout: Layout, node: str) -> dict[str, str | None]:
    log = KernelLog.discover(LinuxHost(str(layout.node(node).root)))
    assert log is not None
    try:
        return {event.code: event.kind for event in log.scan().events}
    finally:
        log.close()


def npu_scan(layout: Layout) -> Scan:
    node = layout.node("npu-1")
    variables, _ = node.environment()
    collector = Ascend.discover(LinuxHost(str(node.root), {**os.environ, **variables}))
    assert collector is not None
    return collector.scan()


class TestNvidia:
    def test_an_uncorrectable_error_shows_everywhere(self, layout: Layout) -> None:
        inject(layout, "memory-uncorrectable", "gpu-1", 1)
        assert {"xid:48", "xid:63", "xid:154"} == kernel_codes(layout, "gpu-1").keys()
        state = read_state(layout.node("gpu-1").nvml.path)
        assert [state[f"gpu.1.{key}"] for key in ("ecc_uncorrected", "recovery_action")] == [
            "2",
            "4",
        ]
        assert state["event.1"] == "1,8,48"  # what NVML's listeners are told
        assert "gpu.0.ecc_uncorrected" not in state
        assert "uncorrectable ECC" in layout.node("gpu-1").trouble.read_text()

    def test_a_repair_is_a_reset_and_keeps_the_history(self, layout: Layout) -> None:
        for name in ("memory-uncorrectable", "thermal", "driver-hang", "link-down"):
            inject(layout, name, "gpu-1", 0)
        inject(layout, "clear", "gpu-1", 0)
        node = layout.node("gpu-1")
        state = read_state(node.nvml.path)
        assert not [key for key in state if key.startswith(("hang.", "fail.", "gpu.0.link."))]
        assert state["gpu.0.ecc_uncorrected"] == "2"  # of the chip's life
        assert state["gpu.0.remapped_uncorrected"] == "1"
        assert "gpu.0.recovery_action" not in state
        assert kernel_codes(layout, "gpu-1")["xid:154"] == "info"  # the driver's wish is over
        assert not node.trouble.exists()
        assert state["gpu.0.uuid"].startswith("GPU-")

    def test_a_lost_chip(self, layout: Layout) -> None:
        inject(layout, "chip-lost", "gpu-2", 0)
        assert "xid:79" in kernel_codes(layout, "gpu-2")
        assert read_state(layout.node("gpu-2").nvml.path)["gpu.0.lost"] == "1"

    @pytest.mark.parametrize(
        ("fault", "code"),
        [("firmware", "xid:119"), ("link-down", "xid:74"), ("program-fault", "xid:31")],
    )
    def test_codes(self, layout: Layout, fault: str, code: str) -> None:
        inject(layout, fault, "gpu-1", 0)
        assert code in kernel_codes(layout, "gpu-1")


class TestAscend:
    def test_an_uncorrectable_error(self, layout: Layout) -> None:
        before = npu_scan(layout)
        assert not before.events
        inject(layout, "memory-uncorrectable", "npu-1", 1)
        scan = npu_scan(layout)
        assert {event.code for event in scan.events} == {"ascend:80E18008"}
        (unwell,) = [c for c, v in scan.values(Metric.HEALTH).items() if v == 2]
        assert unwell == scan.chips[1].component
        inject(layout, "clear", "npu-1", 0)
        assert not npu_scan(layout).events

    def test_a_lost_chip(self, layout: Layout) -> None:
        inject(layout, "chip-lost", "npu-1", 0)
        assert len(npu_scan(layout).chips) == 1

    def test_an_alarm(self, layout: Layout) -> None:
        inject(layout, "npu-alarm", "npu-1", 0)
        assert {event.code for event in npu_scan(layout).events} == {"ascend:80E18000"}


def test_a_port_goes_down(layout: Layout) -> None:
    inject(layout, "nic-down", "npu-1", 0)
    ports = RdmaPorts.discover(LinuxHost(str(layout.node("npu-1").root)))
    assert ports is not None
    assert list(ports.scan().values(Metric.LINK_UP).values()) == [0.0]


def test_a_hang_is_of_the_rank_on_the_node_and_of_this_attempt(layout: Layout) -> None:
    with edit(layout.scheduler) as state:
        state.job.attempt = state.job.running_attempt = 3
        state.job.running = [Rank(rank=0, node="npu-1", pid=1), Rank(rank=1, node="gpu-2", pid=1)]
    inject(layout, "hang", "gpu-2", 0)
    assert control.read(layout.job, 3).hang_rank == 1
    assert control.read(layout.job, 4).hang_rank is None


@pytest.mark.parametrize(
    ("fault", "node", "chip", "words"),
    [
        ("earthquake", "gpu-1", 0, "no such fault; chipmedic inject --list"),
        ("thermal", "gpu-9", 0, "no such node; there are: gpu-1, gpu-2, npu-1"),
        ("thermal", "gpu-1", 2, "--chip 2: gpu-1 has chips 0 to 1"),
        ("thermal", "gpu-1", -1, "--chip -1: gpu-1 has chips 0 to 1"),
        ("npu-alarm", "gpu-1", 0, "gpu-1 has nvidia chips; this is of ascend"),
        ("hang", "gpu-1", 0, "no rank of the job runs on gpu-1"),
        ("agent-killed", "gpu-1", 0, "no agent of gpu-1 runs"),
    ],
)
def test_what_cannot_be_is_one_line(
    layout: Layout, fault: str, node: str, chip: int, words: str
) -> None:
    with pytest.raises(ChipmedicError, match=words):
        inject(layout, fault, node, chip)


@pytest.mark.parametrize("name", [n for n, i in INJECTIONS.items() if len(i.vendors) == 2])
def test_what_is_for_all_vendors_is_for_each(layout: Layout, name: str) -> None:
    """Nothing but a part that is not there may refuse; a defect would raise something else."""
    for node in ("gpu-1", "npu-1"):
        try:
            inject(layout, name, node, 0)
        except ChipmedicError as e:
            assert "runs" in str(e)  # noqa: PT017 - no job and no agent run here


def test_the_daemons_accept_their_files(layout: Layout) -> None:
    settings = load_watchdog(layout.watchdog_config)
    assert settings.notify.language == "zh"
    assert settings.recover.exec is not None
    for node in layout.node_names():
        agent = load_agent(layout.agent_config(node), {"nvidia", "ascend", "jobs", "kernel_log"})
        assert agent.node == node
        other = Vendor.ASCEND if layout.node(node).vendor is Vendor.NVIDIA else Vendor.NVIDIA
        assert not agent.for_collector(other.value).enabled


def test_a_folder_with_odd_letters(tmp_path: Path) -> None:
    folder = tmp_path / 'a {b} "c" \\ é'
    folder.mkdir()
    layout = create(folder, language="en", is_temporary=False)
    settings = load_watchdog(layout.watchdog_config)
    assert settings.recover.exec is not None
    words = [word.format(node="n", reason="r") for word in settings.recover.exec.isolate]
    assert str(layout.scheduler) in words
    assert layout.secret.stat().st_mode & 0o077 == 0
    assert watchdog_config(layout, layout.addresses, "en") == layout.watchdog_config.read_text()


def test_sockets_have_short_paths_in_any_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    layout = create(folder, language="en", is_temporary=False)
    path = layout.addresses.progress_socket("a-node-with-a-name")
    assert len(str(path)) < 108
    Path(layout.addresses.sockets).rmdir()
