"""One Xid, told by NVML's event set and by the kernel log: the whole way from both to the book.

The collectors, the inventory, the detectors and the fault book are the real ones; NVML is the fake
library in a child, the kernel log the simulator's file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from chipmedic.host import LinuxHost
from chipmedic.model import Change, Chip, Fault, Raised, Scan
from chipmedic_agent.detectors import DetectorSettings, builtin_detectors
from chipmedic_agent.pipeline import Pipeline
from chipmedic_collectors.kernel_log import KernelLog
from chipmedic_simulator.kernel_log import SimulatedKernelLog
from nvml_rig import Rig, simulated
from waiting import until

NVML, KERNEL = "nvml", "kernel"


@dataclass(slots=True)
class Node:
    """One node with both sources, and everything that was told."""

    rig: Rig
    log: SimulatedKernelLog
    kernel: KernelLog
    pipeline: Pipeline
    told: list[Change]

    @property
    def chip(self) -> Chip:
        """The chip that the Xids are of."""
        return next(one.chip for one in self.pipeline.inventory.known() if one.chip.index == 1)

    def look(self, source: str, *, late_seconds: float = 0.0) -> None:
        """Scan a source, and let the agent take the scan in so much later."""
        if source == NVML:
            self.rig.host.at = time.time()
            scan = self.rig.collector.scan()
        else:
            scan = self.kernel.scan()
        self.take(replace(scan, at=scan.at + late_seconds))

    def take(self, scan: Scan) -> None:
        changes, _ = self.pipeline.consume(scan)
        self.told += changes

    def say(self, source: str, xid: int = 48, at: float | None = None) -> None:
        """Let a source tell of an Xid of GPU 1."""
        if source == NVML:
            self.rig.nvml.emit(1, xid)
            self.rig.wait_for_push()
        else:
            bus = str(self.chip.pci).rpartition(".")[0]
            words = "pid=4711, name=python, An uncorrectable double bit error (DBE)"
            self.log.write(f"NVRM: Xid (PCI:{bus}): {xid}, {words}", at=at)

    def fault(self) -> Fault:
        """Return the one fault that is open, which was raised once."""
        assert sum(isinstance(change, Raised) for change in self.told) == 1
        [fault] = self.pipeline.book.open()
        return fault


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    log = SimulatedKernelLog(tmp_path)
    log.reboot(at=time.time() - 3600)
    kernel = KernelLog.discover(LinuxHost(str(tmp_path)))
    assert kernel is not None
    pipeline = Pipeline(builtin_detectors(DetectorSettings()), boot_id="boot-1")
    with simulated(tmp_path) as rig:
        yield Node(rig, log, kernel, pipeline, [])
    kernel.close()


@pytest.mark.parametrize("order", [(NVML, KERNEL), (KERNEL, NVML)])
def test_one_xid_of_two_sources_is_one_fault_in_either_order(
    node: Node, order: tuple[str, str]
) -> None:
    node.look(NVML)
    for source in order:
        node.say(source)
        node.look(source)
    fault = node.fault()
    assert fault.component == node.chip.component
    assert (fault.kind, fault.codes, fault.count) == ("memory.uncorrectable", ("xid:48",), 1)
    assert len(fault.evidence) == 2, "both words, the richer one too"


@pytest.mark.parametrize("order", [(NVML, KERNEL), (KERNEL, NVML)])
def test_a_source_that_was_held_up_for_a_minute_tells_the_same_xid(
    node: Node, order: tuple[str, str]
) -> None:
    node.look(NVML)
    for source in (NVML, KERNEL):
        node.say(source)
    node.look(order[0])
    node.look(order[1], late_seconds=60)
    assert node.fault().count == 1


@pytest.mark.parametrize("order", [(NVML, KERNEL), (KERNEL, NVML)])
def test_xids_forty_seconds_apart_are_one_fault_seen_twice(
    node: Node, order: tuple[str, str]
) -> None:
    node.look(NVML)
    node.say(NVML)
    node.say(KERNEL, at=time.time() - 40)
    for source in order:
        node.look(source)
    assert node.fault().count == 2


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_kernel_log_whose_clock_has_drifted_tells_the_same_xid(node: Node, minutes: int) -> None:
    node.look(NVML)
    node.look(KERNEL)
    node.say(NVML)
    node.look(NVML)
    node.say(KERNEL, at=time.time() + 60 * minutes)
    node.look(KERNEL)
    assert node.fault().count == 1


def test_the_event_set_is_open_again_after_the_driver_was_let_go(node: Node) -> None:
    node.look(NVML)
    node.rig.collector.close()  # as for a reset of the chip or a new driver
    node.look(NVML)
    node.say(NVML)
    node.look(NVML)
    assert node.fault().codes == ("xid:48",)


def test_an_event_set_that_broke_is_made_anew(node: Node) -> None:
    node.look(NVML)
    node.rig.nvml.fail("nvmlEventSetWait_v2", 999)

    def is_said() -> bool:
        node.rig.host.at += 5
        scan = node.rig.collector.scan()
        return any("no Xid events from NVML" in gap.detail for gap in scan.gaps)

    until(is_said)
    node.rig.nvml.fail("nvmlEventSetWait_v2", 0)
    until(lambda: not is_said())
    node.say(NVML)
    node.look(NVML)
    assert node.fault().codes == ("xid:48",)
