"""Kernel lines that name a chip in the driver's way, from the log to the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascend_story import SimulatedHost, a_host, later, started, uid
from chipmedic.host import LinuxHost
from chipmedic.model import HOST, Chip, Component, ComponentKind, Event, Fault, Raised, Scan
from chipmedic_agent.detectors import builtin_detectors
from chipmedic_agent.detectors.settings import DetectorSettings
from chipmedic_agent.inventory import Inventory
from chipmedic_agent.pipeline import Pipeline
from chipmedic_collectors.kernel_log import KernelLog
from chipmedic_simulator.ascend_tools import AscendHost
from chipmedic_simulator.kernel_log import SimulatedKernelLog

LOST = (
    "[ascend] [ERROR] [drv_soft_fault] [heart_beat_judge 318] <kworker/1:1,77> Heartbeat lost! "
    "(device={number}; old_count=7; new_count=7; lost_count=4; total_lost_count=4)"
)


def an_a3_card() -> SimulatedHost:
    """One card of two dies, which the driver numbers 8 and 9."""
    ascend = AscendHost.simulated(2, family="A3")
    ascend.chips[1].npu, ascend.chips[1].die = 0, 1
    for number, chip in enumerate(ascend.chips):
        chip.name, chip.phy_id = "Ascend910", 8 + number
    return SimulatedHost(ascend)


def opened(host: SimulatedHost, root: Path, *lines: str) -> list[Fault]:
    """Let a host be watched, write lines to its kernel log, and return the faults of that log."""
    pipeline = Pipeline(builtin_detectors(DetectorSettings()), boot_id="b")
    collector = started(host)
    pipeline.consume(collector.scan())
    pipeline.consume(later(collector, host))
    log = SimulatedKernelLog(root)
    kernel = KernelLog.discover(LinuxHost(str(root)))
    assert kernel is not None
    kernel.resume("")
    for line in lines:
        log.write(line)
    changes, _ = pipeline.consume(kernel.scan())
    return [change.fault for change in changes if isinstance(change, Raised)]


def test_the_driver_number_is_the_chip(tmp_path: Path) -> None:
    host = an_a3_card()
    (fault,) = opened(host, tmp_path, LOST.format(number=9))
    assert fault.component == Component(ComponentKind.CHIP, uid(host, 0, 1))
    assert fault.kind == "chip.lost"
    assert "npu:" not in fault.summary


@pytest.mark.parametrize("number", [0, 7, 16])
def test_a_number_that_no_chip_has_stays_with_the_host(tmp_path: Path, number: int) -> None:
    (fault,) = opened(an_a3_card(), tmp_path, LOST.format(number=number))
    assert fault.component == HOST
    assert fault.summary.startswith(f"npu:{number}: ")


def test_a_line_without_a_number_stays_with_the_host(tmp_path: Path) -> None:
    line = "[ascend] [ERROR] [drv_pcie] [probe 12] <init:1,1> Device is abnormal."
    (fault,) = opened(a_host(2), tmp_path, line)
    assert fault.component == HOST
    assert not fault.summary.startswith("npu:")


def test_a_lost_chip_keeps_its_number(tmp_path: Path) -> None:
    host = a_host(3)
    collector = started(host)
    inventory = Inventory()
    inventory.complete(collector.scan())
    inventory.complete(later(collector, host))
    host.ascend.chip(1).is_lost = True
    inventory.complete(later(collector, host))
    event = Event(component=HOST, code="kernel:x", message="", at=host.at, device="npu:1")
    scan, _ = inventory.complete(Scan(source="kernel_log", at=host.at, events=(event,)))
    assert scan.events[0].component.name == uid(host, 1)


def test_a_number_of_two_chips_names_neither() -> None:
    chips = [
        Chip(uid=name, vendor="acme", model="A", index=0, kernel_names=("npu:0",)) for name in "AB"
    ]
    inventory = Inventory()
    inventory.complete(Scan(source="acme", at=0.0, chips=tuple(chips), is_inventory=True))
    event = Event(component=HOST, code="kernel:x", message="", at=1.0, device="npu:0")
    scan, _ = inventory.complete(Scan(source="kernel_log", at=1.0, events=(event,)))
    assert scan.events[0].component == HOST
