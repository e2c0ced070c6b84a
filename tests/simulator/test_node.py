"""A simulated node as the real collectors read it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chipmedic.host import LinuxHost
from chipmedic.metric import Metric
from chipmedic.model import ComponentKind, Scan
from chipmedic_collectors.ascend import Ascend
from chipmedic_collectors.ascend.bus import find_devices
from chipmedic_collectors.host import HostHealth
from chipmedic_collectors.nvidia.pci import gpu_addresses
from chipmedic_collectors.pcie import PcieLinks
from chipmedic_collectors.rdma import RdmaPorts
from chipmedic_simulator.host_root import set_port
from chipmedic_simulator.node import SimulatedNode, Vendor
from chipmedic_simulator.nvml.state import read_state


@pytest.fixture
def gpu_node(tmp_path: Path) -> SimulatedNode:
    return SimulatedNode.create(tmp_path / "gpu-9", Vendor.NVIDIA, 3)


@pytest.fixture
def npu_node(tmp_path: Path) -> SimulatedNode:
    return SimulatedNode.create(tmp_path / "npu-9", Vendor.ASCEND, 2)


def test_pci_shows_the_chips_that_nvml_names(gpu_node: SimulatedNode) -> None:
    host = LinuxHost(str(gpu_node.root))
    assert sorted(gpu_addresses(host)) == sorted(gpu_node.pci(chip) for chip in range(3))
    assert find_devices(host) == ()


def test_pci_shows_the_chips_that_npu_smi_names(npu_node: SimulatedNode) -> None:
    host = LinuxHost(str(npu_node.root))
    assert [d.pci for d in find_devices(host)] == [npu_node.pci(0), npu_node.pci(1)]
    assert gpu_addresses(host) == ()


def test_links_run_at_full_width(gpu_node: SimulatedNode) -> None:
    links = PcieLinks.discover(LinuxHost(str(gpu_node.root)))
    assert links is not None
    scan = links.scan()
    assert not scan.gaps
    widths = scan.values(Metric.PCIE_WIDTH)
    assert len(widths) == 4  # three chips and the InfiniBand card
    assert widths == scan.values(Metric.PCIE_WIDTH_MAX)


def _port(node: SimulatedNode) -> Scan:
    ports = RdmaPorts.discover(LinuxHost(str(node.root)))
    assert ports is not None
    return ports.scan()


def test_the_port_goes_down_and_counts_it(gpu_node: SimulatedNode) -> None:
    assert list(_port(gpu_node).values(Metric.LINK_UP).values()) == [1.0]
    set_port(gpu_node.root, is_up=False)
    scan = _port(gpu_node)
    assert list(scan.values(Metric.LINK_UP).values()) == [0.0]
    set_port(gpu_node.root, is_up=True)
    assert list(_port(gpu_node).values(Metric.LINK_DOWNED).values()) == [1.0]


def test_nothing_of_this_machine_shows_through(gpu_node: SimulatedNode) -> None:
    scan = HostHealth(LinuxHost(str(gpu_node.root))).scan()
    assert list(scan.values(Metric.HOST_MEMORY_TOTAL).values()) == [2113409024 * 1024.0]
    assert not [r for r in scan.readings if r.component.kind is ComponentKind.DISK]


def test_opened_again_it_is_the_same(gpu_node: SimulatedNode) -> None:
    assert SimulatedNode.open(gpu_node.folder) == gpu_node
    assert json.loads((gpu_node.folder / "node.json").read_text())["chips"] == 3


def test_two_nodes_have_different_chips(tmp_path: Path) -> None:
    names = ("gpu-1", "gpu-2")
    nodes = [SimulatedNode.create(tmp_path / name, Vendor.NVIDIA, 1) for name in names]
    uids = {read_state(node.nvml.path)["gpu.0.uuid"] for node in nodes}
    assert len(uids) == 2


def test_a_process_holds_the_chips_and_lets_go(gpu_node: SimulatedNode) -> None:
    gpu_node.attach(4711)
    assert read_state(gpu_node.nvml.path)["gpu.*.processes"].startswith("4711:")
    gpu_node.detach()
    assert read_state(gpu_node.nvml.path)["gpu.*.processes"] == ""


def test_npu_smi_on_path_tells_who_holds_the_chips(npu_node: SimulatedNode) -> None:
    npu_node.attach(4711)
    variables, words = npu_node.environment()
    assert words == "npu-smi is the simulated one"
    collector = Ascend.discover(LinuxHost(str(npu_node.root), {**os.environ, **variables}))
    assert collector is not None
    scan = collector.scan()
    assert len(scan.chips) == 2
    assert {process.pid for process in scan.processes} == {4711}
