"""Loss is seen, whoever made the chip: from the vendor's tool to the fault book.

Each case is held for five minutes. Whatever the tool does, a chip that does not answer is never
healthy, and it hides none of the other seven.
"""

from __future__ import annotations

import pytest

from chipmedic.metric import Metric
from chipmedic.model import Component, Coverage, Fault, Severity, Verdict, collector_component
from chipmedic_agent.coverage import judge, look_at
from chipmedic_agent.detectors import DetectorSettings, builtin_detectors
from chipmedic_agent.pipeline import Pipeline
from vendor_racks import COUNT, VENDORS, RackHost, address

PERIOD_SECONDS = 15.0
DEAD = 3


class Node:
    """A node of one vendor, read by its collector and judged by the agent."""

    def __init__(self, name: str) -> None:
        vendor = VENDORS[name]
        self.vendor = vendor.kind.vendor
        self.host = RackHost(vendor)
        self.rack = self.host.rack
        found = vendor.kind.discover(self.host)
        assert found is not None
        self.collector = found
        self.pipeline = Pipeline(builtin_detectors(DetectorSettings()), boot_id="boot-1")
        self.look(minutes=2)
        self.chips = {
            int(one.chip.pci.split(":")[1], 16): one.chip.component
            for one in self.pipeline.inventory.known()
            if one.chip.pci is not None
        }

    def look(self, minutes: float) -> None:
        """Scan for so long; the bus shows from now on what the rack says."""
        self.host.replug()
        end = self.host.at + minutes * 60
        while self.host.at < end:
            self.host.at += PERIOD_SECONDS
            scan = self.collector.scan()
            self.last = look_at(scan)
            self.pipeline.consume(scan, period_seconds=PERIOD_SECONDS)

    def chip(self, number: int) -> Component:
        return self.chips[int(address(number).split(":")[1], 16)]

    def others(self) -> set[Component]:
        return {self.chip(number) for number in range(COUNT) if number != DEAD}

    def values(self, metric: Metric) -> dict[Component, float]:
        current = self.pipeline.readings.current(self.host.at)
        return {component: one.value for component, found, one in current if found is metric}

    def answering(self) -> set[Component]:
        """Return the chips that are said to be here, or of which anything else is known."""
        present = {chip for chip, value in self.values(Metric.PRESENT).items() if value == 1}
        healthy = {chip for chip, value in self.values(Metric.HEALTH).items() if value == 0}
        return present | healthy | self.values(Metric.TEMPERATURE).keys()

    def look_at_coverage(self) -> Coverage:
        """Return the verdict of the vendor's check, as `/healthz` and the watchdog have it."""
        return judge(
            self.vendor,
            self.last,
            now=self.host.at,
            period_seconds=PERIOD_SECONDS,
            is_open=self.pipeline.is_open_for(self.vendor),
        )

    def faults(self) -> dict[tuple[Component, str], Fault]:
        return {(fault.component, fault.kind): fault for fault in self.pipeline.book.open()}

    @property
    def source(self) -> Component:
        return collector_component(self.vendor)


@pytest.fixture(params=list(VENDORS))
def node(request: pytest.FixtureRequest) -> Node:
    node = Node(request.param)
    assert node.faults() == {}
    assert node.answering() == {node.chip(number) for number in range(COUNT)}
    assert node.look_at_coverage().verdict is Verdict.OK
    return node


def test_a_chip_that_the_bus_does_not_show_either_is_lost_and_hides_no_other(node: Node) -> None:
    node.rack.off_the_bus = {DEAD}
    node.look(minutes=5)
    assert set(node.faults()) == {(node.chip(DEAD), "chip.lost")}
    assert node.answering() == node.others()
    node.rack.off_the_bus = set()
    node.look(minutes=3)
    assert node.faults() == {}
    assert node.answering() == node.others() | {node.chip(DEAD)}


def test_a_chip_on_the_bus_that_the_tool_leaves_out_is_lost(node: Node) -> None:
    node.rack.hidden = {DEAD}
    node.look(minutes=5)
    assert set(node.faults()) == {(node.chip(DEAD), "chip.lost")}
    assert node.answering() == node.others()


def test_a_row_without_values_is_no_healthy_chip(node: Node) -> None:
    node.rack.silent = {DEAD}
    node.look(minutes=5)
    assert node.answering() == node.others()
    assert {component for component, _ in node.faults()} <= {node.chip(DEAD)}
    coverage = node.look_at_coverage()
    assert coverage.verdict is not Verdict.OK
    assert str(node.chip(DEAD)) in coverage.detail or node.faults()


def test_all_rows_without_values_are_no_healthy_node(node: Node) -> None:
    node.rack.silent = set(range(COUNT))
    node.look(minutes=5)
    assert node.answering() == set()
    assert node.look_at_coverage().verdict is not Verdict.OK


def test_success_without_a_word_is_unknown(node: Node) -> None:
    node.rack.prints_nothing = True
    node.look(minutes=5)
    assert node.answering() == set()
    assert {component for component, _ in node.faults()} == {node.source}


def test_a_driver_that_has_to_be_loaded_again_is_a_fault(node: Node) -> None:
    node.rack.driver_is_down = True
    node.look(minutes=5)
    assert node.answering() == set()
    fault = node.faults()[node.source, "driver.fault"]
    assert fault.severity is Severity.CRITICAL
    node.rack.driver_is_down = False
    node.look(minutes=3)
    assert node.answering() == {node.chip(number) for number in range(COUNT)}
    assert node.faults() == {}
