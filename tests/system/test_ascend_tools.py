"""The collector of Ascend chips against the simulated tools, run from PATH as the real ones are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chipmedic import Component, ComponentKind, GapReason, Metric
from chipmedic.errors import ToolBlocked
from chipmedic_collectors.ascend import Ascend
from chipmedic_simulator.ascend_tools import AscendHost, Process, install, save
from chipmedic_simulator.ascend_tools.state import STATE_VARIABLE, FaultCode
from tool_bench import SteppingHost, no_tool_is_left

pytestmark = pytest.mark.system


class Bench:
    """A folder with the tools, a simulated PCI bus, and the state that both follow."""

    def __init__(self, folder: Path, count: int = 2) -> None:
        self.ascend = AscendHost.simulated(count)
        self._state = folder / "ascend.json"
        self.save()
        install(folder / "bin")
        for chip in self.ascend.chips:
            device = folder / "root/sys/bus/pci/devices" / chip.pci.lower()
            device.mkdir(parents=True)
            for name, text in (("class", "0x120000"), ("vendor", "0x19e5"), ("device", "0xd802")):
                (device / name).write_text(text + "\n", encoding="utf-8")
        env = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", STATE_VARIABLE: str(self._state)}
        self.host = SteppingHost(folder / "root", env)

    def save(self) -> None:
        save(self.ascend, self._state)

    def collector(self) -> Ascend:
        found = Ascend.discover(self.host)
        assert found is not None
        return found

    def chip(self, npu: int) -> Component:
        uid = self.ascend.chip(npu).vdie.replace(" ", "-")
        return Component(ComponentKind.CHIP, uid)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)
    no_tool_is_left(str(tmp_path))


def test_healthy(bench: Bench) -> None:
    bench.ascend.chip(1).processes = [Process(17)]
    bench.save()
    scan = bench.collector().scan()
    assert scan.is_inventory
    assert scan.gaps == ()
    assert [chip.component for chip in scan.chips] == [bench.chip(0), bench.chip(1)]
    assert scan.values(Metric.HEALTH) == {bench.chip(0): 0.0, bench.chip(1): 0.0}
    assert [process.pid for process in scan.processes] == [17]
    up = scan.values(Metric.LINK_UP)
    assert {name.rpartition("/")[2] for name in (part.name for part in up)} == {
        "0",
        *(f"hccs{number}" for number in range(7)),
    }
    assert set(up.values()) == {1.0}


def test_chip_is_lost(bench: Bench) -> None:
    collector = bench.collector()
    collector.scan()
    bench.ascend.chip(1).is_lost = True
    bench.save()
    scan = collector.scan()
    assert scan.values(Metric.PRESENT) == {bench.chip(0): 1.0, bench.chip(1): 0.0}


def test_summary_fails(bench: Bench) -> None:
    collector = bench.collector()
    collector.scan()
    bench.ascend.chip(1).kills_summary = True
    bench.save()
    scan = collector.scan()
    assert scan.values(Metric.TEMPERATURE).keys() == {bench.chip(0)}
    assert scan.values(Metric.PRESENT) == {bench.chip(0): 1.0}


def test_codes(bench: Bench) -> None:
    bench.ascend.chip(0).health = "Critical"
    bench.ascend.chip(0).codes = [FaultCode("80E18402", "64 rows"), FaultCode("80E01801", "ECC")]
    bench.save()
    scan = bench.collector().scan()
    assert [event.code for event in scan.events] == ["ascend:80E18402", "ascend:80E01801"]
    assert scan.values(Metric.HEALTH)[bench.chip(0)] == 2


@pytest.mark.parametrize(
    ("driver", "prints_nothing", "code"),
    [
        ("down", False, "ascend:tool:driver_down"),
        ("no-library", False, "ascend:tool:driver_down"),
        ("occupied", False, "ascend:tool:permission"),
        ("up", True, "ascend:tool:malformed"),
    ],
)
def test_nothing_to_read(bench: Bench, driver: str, prints_nothing: bool, code: str) -> None:
    collector = bench.collector()
    collector.scan()
    bench.ascend.driver = driver
    bench.ascend.prints_nothing = prints_nothing
    bench.save()
    scan = collector.scan()
    assert [event.code for event in scan.events] == [code]
    assert scan.readings == ()
    assert {gap.component for gap in scan.gaps} >= {bench.chip(0), bench.chip(1)}


def test_hang_ends_in_time_and_leaves_no_process(bench: Bench) -> None:
    collector = bench.collector()
    collector.scan()
    bench.ascend.hang_seconds = 600
    bench.save()
    bench.host.limit_seconds = 1.0
    with pytest.raises(ToolBlocked):
        collector.scan()


def test_one_chip_hangs_and_the_other_is_read(bench: Bench) -> None:
    collector = bench.collector()
    collector.scan()
    bench.ascend.chip(1).hang_seconds = 600
    bench.save()
    bench.host.limit_seconds = 3.0
    with pytest.raises(ToolBlocked):
        collector.scan()
    scan = collector.scan()
    assert [chip.component for chip in scan.chips] == [bench.chip(0)]
    (gap,) = [gap for gap in scan.gaps if gap.component == bench.chip(1)]
    assert gap.reason is GapReason.TIMED_OUT


def test_tools_are_uninstalled(bench: Bench, tmp_path: Path) -> None:
    collector = bench.collector()
    collector.scan()
    for tool in (tmp_path / "bin").iterdir():
        tool.unlink()
    scan = collector.scan()
    assert [event.code for event in scan.events] == ["ascend:tool:tool_missing"]
