"""Stories of an Ascend host, told by the simulated tools to the collector."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_story import (
    DEVICES,
    PERIOD,
    SimulatedHost,
    a_host,
    component,
    later,
    pci_files,
    started,
    uid,
)
from chipmedic import Component, ComponentKind, GapReason, Metric, Scan, Severity
from chipmedic.errors import ChipmedicError, ToolBlocked
from chipmedic.host import Answer
from chipmedic.model import collector_component
from chipmedic.testing import FakeHost
from chipmedic_collectors.ascend import Ascend
from chipmedic_collectors.ascend.collector import SUMMARY_SECONDS
from chipmedic_simulator.ascend_tools import AscendChip, AscendHost, Process
from chipmedic_simulator.ascend_tools.state import FaultCode
from fuzzing import examples

COLLECTOR = collector_component("ascend")


def gaps(scan: Scan) -> dict[tuple[Component, Metric | None], GapReason]:
    return {(gap.component, gap.metric): gap.reason for gap in scan.gaps}


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


def test_one_chip_kills_the_summary_and_the_others_are_still_read() -> None:
    host = a_host(3)
    collector = started(host)
    collector.scan()
    host.ascend.chip(0).kills_summary = True
    scan = later(collector, host)
    assert [chip.uid for chip in scan.chips] == [uid(host, 1), uid(host, 2)]
    assert not scan.is_inventory
    assert scan.values(Metric.TEMPERATURE)[component(host, 2)] == 43
    assert scan.values(Metric.HEALTH)[component(host, 2)] == 0
    assert gaps(scan)[component(host, 0), None] is GapReason.FAILED
    assert gaps(scan)[COLLECTOR, None] is GapReason.FAILED
    assert component(host, 0) not in scan.values(Metric.PRESENT)


def test_dead_summary_at_the_first_scan_asks_for_the_list() -> None:
    host = a_host(2)
    host.ascend.chip(1).kills_summary = True
    scan = started(host).scan()
    assert [chip.uid for chip in scan.chips] == [uid(host, 0)]


def test_lost_chip_while_the_summary_is_dead() -> None:
    host = a_host(3)
    collector = started(host)
    collector.scan()
    host.ascend.chip(0).kills_summary = True
    host.ascend.chip(2).is_lost = True
    scan = later(collector, host)
    assert scan.values(Metric.PRESENT) == {component(host, 1): 1.0, component(host, 2): 0.0}


def test_summary_that_hangs_is_blocked_once_and_then_the_chips_are_asked() -> None:
    host = a_host(3)
    collector = started(host)
    collector.scan()
    host.ascend.chip(1).hang_seconds = 100
    with pytest.raises(ToolBlocked):
        later(collector, host)
    host.commands()
    begun = host.at + PERIOD
    scan = later(collector, host)
    assert "npu-smi info" not in host.commands()
    assert [chip.uid for chip in scan.chips] == [uid(host, 0), uid(host, 2)]
    assert gaps(scan)[component(host, 1), None] is GapReason.TIMED_OUT
    assert gaps(scan)[COLLECTOR, None] is GapReason.FAILED
    assert component(host, 1) not in scan.values(Metric.PRESENT)
    assert host.at - begun < Ascend.deadline_seconds


def test_summary_is_asked_again_when_all_chips_answer() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    host.ascend.chip(1).hang_seconds = 100
    with pytest.raises(ToolBlocked):
        later(collector, host)
    host.ascend.chip(1).hang_seconds = 0
    assert COLLECTOR in {gap.component for gap in later(collector, host).gaps}
    scan = later(collector, host)
    assert scan.is_inventory
    assert scan.gaps == ()


def test_tool_that_hangs_from_the_first_scan_on_is_blocked() -> None:
    host = a_host(2)
    host.ascend.hang_seconds = 100
    collector = started(host)
    for _ in range(4):
        begun = host.at + PERIOD
        with pytest.raises(ToolBlocked):
            later(collector, host)
        assert host.at - begun <= 2 * SUMMARY_SECONDS


def test_nothing_is_started_beside_a_tool_that_is_stuck_in_the_kernel() -> None:
    stuck = ToolBlocked("npu-smi: no answer; abandoned", abandoned_pid=77)
    host = FakeHost(tools={"npu-smi": stuck}, files={"/proc/77/stat": "77 (npu-smi) D 1 77"})
    collector = Ascend.discover(host)
    assert collector is not None
    for _ in range(5):
        with pytest.raises(ToolBlocked):
            collector.scan()
        host.at += 100
    assert len(host.ran) == 1
    host.files = {}
    with pytest.raises(ToolBlocked):
        collector.scan()
    assert len(host.ran) == 2


def test_a_slow_question_that_hangs_costs_no_reading_and_rests() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    answer = host.run

    def hanging(
        argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        if "ecc" in argv:
            host.at += timeout_seconds
            host.ran.append(tuple(argv))
            raise ToolBlocked("npu-smi: no answer")
        return answer(argv, timeout_seconds=timeout_seconds, env=env)

    host.run = hanging  # type: ignore[method-assign]
    host.commands()
    scan = later(collector, host, 60)
    assert len(scan.chips) == 2
    assert gaps(scan)[component(host, 0), Metric.ECC_UNCORRECTED] is GapReason.TIMED_OUT
    assert [c for c in host.commands() if "ecc" in c] == ["npu-smi info -t ecc -i 0"]
    later(collector, host)
    assert [c for c in host.commands() if "ecc" in c] == ["npu-smi info -t ecc -i 1"]
    later(collector, host)
    assert [c for c in host.commands() if "ecc" in c] == []


def test_empty_output_is_unknown_for_every_chip() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    host.ascend.prints_nothing = True
    scan = later(collector, host)
    assert scan.chips == ()
    assert not scan.is_inventory
    assert scan.readings == ()
    assert gaps(scan)[component(host, 0), None] is GapReason.MALFORMED
    (event,) = scan.events
    assert (event.code, event.kind) == ("ascend:tool:malformed", "collector.failed")


def test_driver_that_dies_is_told_once_and_reminded_of() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    host.ascend.driver = "down"
    (event,) = later(collector, host).events
    assert (event.code, event.kind) == ("ascend:tool:driver_down", "driver.fault")
    assert event.severity is Severity.CRITICAL
    assert event.component == COLLECTOR
    assert "-8005" in event.message
    assert later(collector, host).events == ()
    (reminder,) = later(collector, host, 300).events
    assert reminder.id == event.id
    host.ascend.driver = "up"
    assert later(collector, host).is_inventory
    host.ascend.driver = "down"
    (again,) = later(collector, host).events
    assert again.id != event.id


@pytest.mark.parametrize(
    ("driver", "code", "kind"),
    [
        ("down", "ascend:tool:driver_down", "driver.fault"),
        ("no-library", "ascend:tool:driver_down", "driver.fault"),
        ("occupied", "ascend:tool:permission", "collector.failed"),
        ("container", "ascend:tool:permission", "collector.failed"),
    ],
)
def test_host_that_never_worked_asks_for_a_person_and_isolates_nothing(
    driver: str, code: str, kind: str
) -> None:
    host = a_host(2, driver=driver)
    scan = started(host).scan()
    (event,) = scan.events
    assert (event.code, event.kind, event.severity) == (code, kind, Severity.WARNING)
    assert (COLLECTOR, None) in gaps(scan)
    assert scan.readings == ()


def test_devices_without_a_tool_are_here() -> None:
    host = FakeHost(files=pci_files("0000:81:00.0", vendor="0x20c6"))
    collector = Ascend.discover(host)
    assert collector is not None
    scan = collector.scan()
    (event,) = scan.events
    assert (event.code, event.kind) == ("ascend:tool:tool_missing", "driver.fault")
    assert event.severity is Severity.WARNING


@pytest.mark.parametrize(
    "files",
    [
        {},
        pci_files("0000:81:00.0", vendor="0x8086", device="0x1234"),
        {f"{DEVICES}/0000:01:00.0/class": "0x020000", f"{DEVICES}/0000:01:00.0/vendor": "0x19e5"},
    ],
    ids=["nothing", "another accelerator", "a network card of the vendor"],
)
def test_host_of_another_vendor(files: dict[str, str]) -> None:
    assert Ascend.discover(FakeHost(files=files)) is None


def test_tool_on_a_host_without_chips_raises_no_alarm() -> None:
    host = SimulatedHost(AscendHost())
    scan = started(host).scan()
    assert scan.events == ()
    assert scan.is_inventory
    assert gaps(scan) == {(COLLECTOR, None): GapReason.MISSING}


def test_all_chips_gone_from_tool_and_bus() -> None:
    host = a_host(2)
    collector = started(host)
    collector.scan()
    for chip in host.ascend.chips:
        chip.is_lost = True
    host.files = {}
    scan = later(collector, host, 60)
    assert scan.values(Metric.PRESENT) == {component(host, 0): 0.0, component(host, 1): 0.0}


def test_cut_table_loses_no_chip() -> None:
    host = a_host(3)
    collector = started(host)
    collector.scan()
    host.ascend.cut_after_lines = 10
    scan = later(collector, host)
    assert [chip.uid for chip in scan.chips] == [uid(host, 0), uid(host, 1)]
    assert not scan.is_inventory
    assert component(host, 2) not in scan.values(Metric.PRESENT)
    assert gaps(scan)[component(host, 2), None] is GapReason.FAILED


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


def test_two_dies_of_a_card_and_their_ports() -> None:
    ascend = AscendHost.simulated(2, family="A3")
    first, second = ascend.chips
    second.npu, second.die = 0, 1
    for number, chip in enumerate(ascend.chips):
        chip.name, chip.phy_id = "Ascend910", 8 + number
    host = SimulatedHost(ascend)
    scan = started(host).scan()
    assert [(chip.index, chip.die) for chip in scan.chips] == [(0, 0), (0, 1)]
    assert gaps(scan) == {(component(host, 0, 1), Metric.POWER): GapReason.UNSUPPORTED}
    commands = host.commands()
    assert "hccn_tool -i 9 -link -g" in commands
    assert commands.count("npu-smi info -t ecc -i 0") == 1
    assert len(scan.values(Metric.ECC_UNCORRECTED)) == 2
    first.kills_summary = True
    with contextlib.suppress(ToolBlocked):
        scan = later(started(host), host)
    assert [chip.die for chip in scan.chips] == [1]


def test_310p_pair_on_one_address_keeps_two_names() -> None:
    zero = "00000000 00000000 00000000 00000000 00000000"
    chips = [
        AscendChip(npu=32, die=die, phy_id=die, name="310P3", pci="0000:B5:00.0", vdie=zero)
        for die in (0, 1)
    ]
    host = SimulatedHost(AscendHost(chips, family="310P"), **pci_files("0000:b5:00.0"))
    scan = started(host).scan()
    assert [chip.uid for chip in scan.chips] == ["ascend-0000:b5:00.0", "ascend-0000:b5:00.0-1"]
    assert len(scan.values(Metric.TEMPERATURE)) == 2
    assert scan.values(Metric.POWER) == {}
    assert not [command for command in host.commands() if command.startswith("hccn_tool")]


def test_restart_of_the_agent_keeps_names_and_repeats_no_code() -> None:
    boot = {"/proc/sys/kernel/random/boot_id": "b0\n"}
    host = a_host(2)
    host.files = {**host.files, **boot}
    host.ascend.chip(1).codes = [FaultCode("80E01801")]
    before = started(host)
    assert len(before.scan().events) == 1
    cursor = before.cursor()
    assert cursor is not None
    host.ascend.chip(1).has_no_values = True  # its identity cannot be asked any more
    after = started(host)
    after.resume(cursor)
    scan = after.scan()
    assert [chip.uid for chip in scan.chips] == [uid(host, 0), uid(host, 1)]
    assert scan.events == ()
    host.files = {**host.files, "/proc/sys/kernel/random/boot_id": "b1\n"}
    host.ascend.chip(1).has_no_values = False
    rebooted = started(host)
    rebooted.resume(cursor)
    assert len(rebooted.scan().events) == 1


def test_name_that_was_given_out_without_a_die_id_stays() -> None:
    host = a_host(1)
    vdie = host.ascend.chip(0).vdie
    host.ascend.chip(0).vdie = "NA"
    before = started(host)
    (chip,) = before.scan().chips
    assert chip.uid == "ascend-0000:11:00.0"
    host.ascend.chip(0).vdie = vdie
    after = started(host)
    after.resume(before.cursor() or "")
    assert [chip.uid for chip in after.scan().chips] == ["ascend-0000:11:00.0"]


def test_chip_that_was_replaced_is_lost_and_the_new_one_is_there() -> None:
    host = a_host(1)
    before = started(host)
    before.scan()
    cursor, old = before.cursor(), uid(host, 0)
    host.ascend.chip(0).vdie = "5A17C0DE 0000FFFF 13572468 86427531 100002F3"
    after = started(host)
    after.resume(cursor or "")
    assert [chip.uid for chip in after.scan().chips] == [uid(host, 0)]
    assert uid(host, 0) != old


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"uids": 3, "codes": {}, "boot": ""}',
        '{"uids": {}, "codes": {"a": 1}}',
    ],
)
def test_cursor_that_cannot_be_read_is_a_first_start(cursor: str) -> None:
    host = a_host(1)
    collector = started(host)
    collector.resume(cursor)
    assert collector.scan().is_inventory
    assert json.loads(collector.cursor() or "")["uids"]


def test_sixteen_slow_chips_are_named_over_several_scans_within_the_deadline() -> None:
    host = a_host(16)
    for chip in host.ascend.chips:
        chip.hang_seconds = 0.5
    collector = started(host)
    named = 0
    for _ in range(6):
        begun = host.at + PERIOD
        scan = later(collector, host)
        assert host.at - begun < Ascend.deadline_seconds
        assert len(scan.chips) >= named
        named = len(scan.chips)
        assert scan.is_inventory is (named == 16)
    assert named == 16


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
