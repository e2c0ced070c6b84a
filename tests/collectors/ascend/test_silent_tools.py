"""Tools of an Ascend host that hang, die, say nothing or are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ascend_story import (
    COLLECTOR,
    DEVICES,
    PERIOD,
    SimulatedHost,
    a_host,
    component,
    gaps,
    later,
    pci_files,
    started,
    uid,
)
from chipmedic import GapReason, Metric, Severity
from chipmedic.errors import ToolBlocked
from chipmedic.host import Answer
from chipmedic.testing import FakeHost
from chipmedic_collectors.ascend import Ascend
from chipmedic_collectors.ascend.collector import SUMMARY_SECONDS
from chipmedic_simulator.ascend_tools import AscendHost


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
