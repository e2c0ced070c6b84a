"""Stories of an Ascend host, told by the simulated tools to the collector."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_story import (
    DEVICES,
    a_host,
    component,
    gaps,
    later,
    pci_files,
    started,
    uid,
)
from chipmedic import Component, ComponentKind, GapReason, Metric
from chipmedic.errors import ChipmedicError
from chipmedic.host import Answer
from chipmedic.testing import FakeHost
from chipmedic_collectors.ascend import Ascend
from chipmedic_simulator.ascend_tools import Process
from chipmedic_simulator.ascend_tools.state import FaultCode
from fuzzing import examples


def test_healthy_host_is_read_whole() -> None:
    host = a_host(3)
    host.ascend.chip(1).processes = [Process(4242, memory_mb=100)]
    scan = started(host).scan()
    assert [chip.uid for chip in scan.chips] == [uid(host, npu) for npu in range(3)]
    assert {chip.pci for chip in scan.chips} == {"0000:11:00.0", "0000:19:00.0", "0000:21:00.0"}
    assert scan.is_inventory
    assert set(scan.values(Metric.PRESENT).values()) == {1.0}
    assert set(scan.values(Metric.HEALTH).values()) == {0.0}
    assert scan.values(Metric.TEMPERATURE)[component(host, 2)] == 43
    assert scan.values(Metric.MEMORY_TOTAL)[component(host, 2)] == 65536 * 1048576
    assert set(scan.values(Metric.ECC_UNCORRECTED).values()) == {0.0}
    assert [(p.chip, p.pid, p.memory_bytes) for p in scan.processes] == [
        (uid(host, 1), 4242, 100 * 1048576)
    ]
    port = Component(ComponentKind.LINK, f"{uid(host, 0)}/0")
    assert scan.values(Metric.LINK_UP)[port] == 1
    assert scan.values(Metric.LINK_DOWNED)[port] == 1
    assert scan.gaps == ()
    assert scan.events == ()


def test_slow_questions_are_asked_each_minute_and_the_summary_each_scan() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    host.commands()
    later(collector, host)
    assert host.commands() == ["npu-smi info"]
    later(collector, host, 60)
    commands = host.commands()
    assert commands.count("npu-smi info -t ecc -i 1") == 1
    assert commands.count("hccn_tool -i 0 -link -g") == 1
    assert not [command for command in commands if "board" in command or command.endswith("-m")]


def test_serial_numbers_come_with_the_second_scan() -> None:
    host = a_host(1)
    collector = started(host)
    collector.scan()
    (chip,) = later(collector, host).chips
    assert chip.serial == host.ascend.chip(0).serial


def test_lost_chip_hides_no_other_and_is_named() -> None:
    host = a_host(3)
    collector = started(host)
    collector.scan()
    host.ascend.chip(1).is_lost = True
    scan = later(collector, host)
    assert [chip.uid for chip in scan.chips] == [uid(host, 0), uid(host, 2)]
    assert scan.is_inventory
    assert scan.values(Metric.PRESENT)[component(host, 1)] == 0
    assert component(host, 1) not in scan.values(Metric.HEALTH)
    assert gaps(scan)[component(host, 1), None] is GapReason.MISSING
    (gap,) = [gap for gap in scan.gaps if gap.component == component(host, 1)]
    assert "0000:19:00.0" in gap.detail


def test_chip_that_left_the_bus_too_is_said_to() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    host.ascend.chip(1).is_lost = True
    host.files = pci_files("0000:11:00.0")
    scan = later(collector, host, 60)
    (gap,) = [gap for gap in scan.gaps if gap.reason is GapReason.MISSING]
    assert "off the PCI bus" in gap.detail


def test_chip_that_only_the_bus_shows_is_missing() -> None:
    host = a_host(2)
    host.ascend.chip(1).is_lost = True
    scan = started(host).scan()
    unseen = Component(ComponentKind.CHIP, "ascend-0000:19:00.0")
    assert scan.values(Metric.PRESENT)[unseen] == 0
    assert gaps(scan)[unseen, None] is GapReason.MISSING


@pytest.mark.parametrize(
    "files",
    [
        {"/.dockerenv": ""},
        {f"{DEVICES}/0000:19:00.0/uevent": "DRIVER=vfio-pci\n"},
        {f"{DEVICES}/0000:19:00.0/physfn/class": "0x120000\n"},
    ],
    ids=["container", "passed to a virtual machine", "virtual function"],
)
def test_chips_that_are_not_ours_to_see_are_not_missing(files: dict[str, str]) -> None:
    host = a_host(2)
    host.ascend.chip(1).is_lost = True
    host.files = {**host.files, **files}
    scan = started(host).scan()
    assert set(scan.values(Metric.PRESENT).values()) == {1.0}


def test_dead_row_is_unknown_and_never_healthy() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    host.ascend.chip(1).has_no_values = True
    scan = later(collector, host)
    assert component(host, 1) not in scan.values(Metric.HEALTH)
    assert component(host, 1) not in scan.values(Metric.PRESENT)
    assert component(host, 1) not in scan.values(Metric.TEMPERATURE)
    assert gaps(scan)[component(host, 1), None] is GapReason.FAILED
    assert scan.values(Metric.PRESENT)[component(host, 0)] == 1


def test_all_chips_gone_from_tool_and_bus() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    for chip in host.ascend.chips:
        chip.is_lost = True
    host.files = {}
    scan = later(collector, host, 60)
    assert scan.values(Metric.PRESENT) == {component(host, 0): 0.0, component(host, 1): 0.0}


@pytest.mark.parametrize("has_fault_events", [True, False])
def test_error_codes_are_told_when_they_begin(has_fault_events: bool) -> None:
    host = a_host(2, has_fault_events=has_fault_events)
    collector = started(host)
    collector.scan()
    sick = host.ascend.chip(1)
    sick.health = "Alarm"
    sick.codes = [FaultCode("80E01801", "node type=HBM, multi bit error")]
    scan = later(collector, host)
    (event,) = scan.events
    assert (event.code, event.component) == ("ascend:80E01801", component(host, 1))
    assert ("multi bit" in event.message) is not has_fault_events
    assert scan.values(Metric.HEALTH)[component(host, 1)] == 2
    assert later(collector, host).events == ()
    sick.codes.append(FaultCode("80CB8009", "node type=AIV, bus error"))
    (second,) = later(collector, host).events
    assert second.code == "ascend:80CB8009"
    sick.codes.clear()
    assert later(collector, host).events == ()
    sick.codes = [FaultCode("80E01801")]
    (again,) = later(collector, host).events
    assert again.id != event.id


def test_codes_of_a_chip_that_is_called_healthy_are_found_within_a_minute() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    host.ascend.chip(0).codes = [FaultCode("80E18005")]
    scans = [later(collector, host) for _ in range(4)]
    assert [event.code for scan in scans for event in scan.events] == ["ascend:80E18005"]


def test_alarm_without_codes_stays_an_alarm_though_a_second_answer_says_ok() -> None:
    host = a_host(1)
    host.ascend.chip(0).health = "Critical"
    scan = started(host).scan()
    assert scan.values(Metric.HEALTH) == {component(host, 0): 2.0}


def test_unknown_state_is_a_gap() -> None:
    host = a_host(1)
    host.ascend.chip(0).health = "UNKNOWN"
    scan = started(host).scan()
    assert scan.values(Metric.HEALTH) == {}
    assert gaps(scan)[component(host, 0), Metric.HEALTH] is GapReason.FAILED


def test_ecc_counts() -> None:
    host = a_host(1)
    collector = started(host)
    collector.scan()
    chip = host.ascend.chip(0)
    chip.ecc_single, chip.ecc_double, chip.isolated_pages, chip.next_isolated_pages = 9, 4, 2, 1
    scan = later(collector, host, 60)
    values = {r.metric: r.value for r in scan.readings if r.component == component(host, 0)}
    assert values[Metric.ECC_CORRECTED] == 9
    assert values[Metric.ECC_UNCORRECTED] == 4
    assert values[Metric.RETIRED_PAGES] == 2
    assert values[Metric.REMAP_PENDING] == 1


def test_port_that_goes_down_and_tool_that_is_busy() -> None:
    host = a_host(1)
    collector = started(host)
    collector.scan()
    port = Component(ComponentKind.LINK, f"{uid(host, 0)}/0")
    host.ascend.chip(0).link = "DOWN"
    host.ascend.chip(0).link_downs = 2
    scan = later(collector, host, 60)
    assert scan.values(Metric.LINK_UP)[port] == 0
    assert scan.values(Metric.LINK_DOWNED)[port] == 2
    host.ascend.is_hccn_busy = True
    scan = later(collector, host, 60)
    assert scan.values(Metric.LINK_UP) == {}
    assert gaps(scan)[port, Metric.LINK_UP] is GapReason.FAILED


OUTPUTS = st.one_of(
    st.text(max_size=200),
    st.sampled_from(sorted(Path(__file__).parents[2].glob("recorded/npu-smi-*.txt"))).map(
        lambda path: path.read_text(encoding="utf-8")
    ),
    st.integers(0, 10**400).map(
        lambda number: (
            f"\tNPU ID : 4\n\tHBM Double Bit Aggregate Total Err Cnt : {number}\n"
            f"\tTemperature(C) : {number}\n\tError Code : {number}\n"
        )
    ),
)
COMMANDS = ("info", "info -m", *(f"info -t {t}" for t in ("board", "ecc", "health", "common")))


@settings(max_examples=examples(200))
@given(st.lists(OUTPUTS, min_size=7, max_size=7), st.integers(0, 255), st.text(max_size=80))
def test_no_answer_of_the_tools_breaks_a_scan(
    outputs: list[str], exit_code: int, stderr: str
) -> None:
    tools: dict[str, str | Answer | ChipmedicError] = {
        f"npu-smi {command}": Answer(output, stderr, exit_code)
        for command, output in zip(COMMANDS, outputs, strict=False)
    }
    tools["hccn_tool"] = outputs[-1]
    host = FakeHost(tools=tools, files=pci_files("0000:b5:00.0"))
    collector = Ascend.discover(host)
    assert collector is not None
    for _ in range(2):
        scan = collector.scan()
        assert scan.chips or scan.gaps
        dark = {gap.component for gap in scan.gaps if gap.metric is None}
        assert not dark & {part for part, here in scan.values(Metric.PRESENT).items() if here}
        host.at += 60
    again = Ascend(host)
    again.resume(collector.cursor() or "")


def test_a_clock_that_is_set_back_puts_no_question_off() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    later(collector, host, -5 * 3600)
    host.commands()
    later(collector, host, 60)
    assert host.commands().count("npu-smi info -t ecc -i 1") == 1
