"""The collectors of AMD and Hygon chips against the simulated tools, run from PATH."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chipmedic import Component, ComponentKind, GapReason, Metric, Scan, Severity
from chipmedic.model import collector_component
from chipmedic_collectors.amd import Amd
from chipmedic_collectors.hygon import Hygon
from chipmedic_collectors.tool_collector import ToolCollector
from chipmedic_simulator import amd_tools, hygon_tools
from chipmedic_simulator.tool_state import STATE_VARIABLE, ToolHost, save
from tool_bench import SteppingHost, no_tool_is_left

pytestmark = pytest.mark.system

KINDS: dict[str, tuple[type[ToolCollector], Callable[..., None], tuple[str, ...], str, str]] = {
    "amd-smi": (Amd, amd_tools.install_tools, (), "0x1002", "0x120000"),
    "rocm-smi": (Amd, amd_tools.install_tools, ("rocm-smi",), "0x1002", "0x038000"),
    "hy-smi": (Hygon, hygon_tools.install_tools, (), "0x1d94", "0x0b4000"),
    "dtk rocm-smi": (Hygon, hygon_tools.install_tools, ("rocm-smi",), "0x1d94", "0x038000"),
}


class Bench:
    """A folder with the tools, a simulated PCI bus, and the state that both follow."""

    def __init__(self, folder: Path, kind: str, count: int = 3) -> None:
        self.kind, install, names, vendor, pci_class = KINDS[kind]
        self.rocm = ToolHost.rocm(count)
        self._folder = folder
        self.save()
        self.bin = folder / "bin"
        install(self.bin, *names)
        for chip in self.rocm.chips:
            device = self.device(chip.pci)
            device.mkdir(parents=True)
            for name, text in (("class", pci_class), ("vendor", vendor), ("device", "0x74a5")):
                (device / name).write_text(text + "\n", encoding="utf-8")
            (device / "uevent").write_text("DRIVER=amdgpu\n", encoding="utf-8")
        self.clock = 0.0
        env = {"PATH": f"{self.bin}:/usr/bin:/bin", STATE_VARIABLE: str(folder / "rocm.json")}
        self.host = SteppingHost(folder / "root", env)
        found = self.kind.discover(self.host)
        assert found is not None
        self.collector = found

    def device(self, pci: str) -> Path:
        return self._folder / "root/sys/bus/pci/devices" / pci

    def pull_out(self, pci: str) -> None:
        for path in self.device(pci).iterdir():
            path.unlink()
        self.device(pci).rmdir()

    def save(self) -> None:
        save(self.rocm, self._folder / "rocm.json")

    def hang(self, number: int) -> None:
        """Let the tool wait for a chip, and nobody wait long for the tool."""
        self.rocm.chips[number].hang_seconds = 600
        self.save()
        self.host.limit_seconds = 3.0

    def scan(self, after_seconds: float = 15.0) -> Scan:
        self.host.ahead += after_seconds
        return self.collector.scan()

    def uid(self, number: int) -> str:
        uuid = self.rocm.chips[number].uuid
        is_old_name = self.kind is Amd and not (self.bin / "amd-smi").exists()
        return f"0x{uuid}" if is_old_name else uuid

    def chip(self, number: int) -> Component:
        return Component(ComponentKind.CHIP, self.uid(number))

    @property
    def component(self) -> Component:
        return collector_component(self.kind.vendor)


@pytest.fixture(params=list(KINDS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path, request.param)
    no_tool_is_left(str(tmp_path))


def test_healthy(bench: Bench) -> None:
    bench.rocm.chips[1].pids = [4711]
    bench.save()
    scan = bench.scan()
    assert scan.is_inventory
    assert [chip.uid for chip in scan.chips] == [bench.uid(number) for number in range(3)]
    assert [chip.pci for chip in scan.chips] == [chip.pci for chip in bench.rocm.chips]
    assert {chip.model for chip in scan.chips} == {"AMD Instinct MI325X"}
    assert scan.values(Metric.PRESENT) == {bench.chip(number): 1.0 for number in range(3)}
    assert scan.values(Metric.TEMPERATURE) == {
        bench.chip(number): 44.0 + number for number in range(3)
    }
    assert scan.values(Metric.POWER)[bench.chip(2)] == 153.0
    assert scan.values(Metric.MEMORY_USED)[bench.chip(0)] == 291 * 1048576
    assert scan.values(Metric.ECC_UNCORRECTED) == {bench.chip(number): 0.0 for number in range(3)}
    assert [(p.chip, p.pid) for p in scan.processes] == [(bench.uid(1), 4711)]
    assert [gap for gap in scan.gaps if gap.reason is not GapReason.UNSUPPORTED] == []


def test_errors_are_counted(bench: Bench) -> None:
    bench.scan()
    bench.rocm.chips[2].uncorrected = 3
    bench.rocm.chips[2].corrected = 41
    bench.save()
    assert not bench.scan().values(Metric.ECC_UNCORRECTED)  # asked slowly: asking has side effects
    scan = bench.scan(after_seconds=300.0)
    assert scan.values(Metric.ECC_UNCORRECTED)[bench.chip(2)] == 3
    assert scan.values(Metric.ECC_CORRECTED)[bench.chip(2)] == 41


def test_chip_is_lost_and_the_others_are_renumbered(bench: Bench) -> None:
    bench.scan()
    bench.rocm.chips[0].is_lost = True
    bench.save()
    scan = bench.scan()
    present = {bench.chip(0): 0.0, bench.chip(1): 1.0, bench.chip(2): 1.0}
    assert scan.values(Metric.PRESENT) == present
    assert scan.values(Metric.TEMPERATURE) == {bench.chip(1): 45.0, bench.chip(2): 46.0}
    (gap,) = [gap for gap in scan.gaps if gap.reason is GapReason.MISSING]
    assert gap.component == bench.chip(0)
    assert bench.rocm.chips[0].pci in gap.detail


def test_dead_chip_is_not_idle(bench: Bench) -> None:
    bench.scan()
    bench.rocm.chips[1].is_dead = True
    bench.save()
    scan = bench.scan()
    assert bench.chip(1) not in scan.values(Metric.UTILIZATION)
    assert bench.chip(1) not in scan.values(Metric.PRESENT)
    (gap,) = [g for g in scan.gaps if g.component == bench.chip(1) and g.metric is None]
    assert gap.reason is GapReason.FAILED
    assert set(scan.values(Metric.TEMPERATURE)) == {bench.chip(0), bench.chip(2)}


@pytest.mark.parametrize("driver", ["down", "gone"])
def test_driver_goes_down(bench: Bench, driver: str) -> None:
    bench.scan()
    bench.rocm.driver = driver
    bench.save()
    scan = bench.scan()
    assert scan.readings == ()
    (event,) = scan.events
    assert event.code in {
        f"{bench.kind.vendor}:tool:{kind}" for kind in ("driver_down", "no_devices")
    }
    assert event.kind == "driver.fault"
    assert event.severity is Severity.CRITICAL
    assert {gap.component for gap in scan.gaps} == {bench.component, *map(bench.chip, range(3))}
    assert bench.scan().events == ()  # told once


def test_empty_answer_is_not_health(bench: Bench) -> None:
    bench.scan()
    bench.rocm.prints_nothing = True
    bench.save()
    scan = bench.scan()
    assert scan.readings == ()
    assert not scan.is_inventory
    assert [event.code for event in scan.events] == [f"{bench.kind.vendor}:tool:malformed"]


def test_cut_answer_loses_no_chip(bench: Bench) -> None:
    bench.scan()
    bench.rocm.cut_after = 500
    bench.save()
    scan = bench.scan()
    assert 0.0 not in scan.values(Metric.PRESENT).values()
    assert not scan.is_inventory
    assert bench.component in {gap.component for gap in scan.gaps}


def test_hang_ends_in_time_and_the_other_chips_are_read(
    bench: Bench,
) -> None:
    bench.scan()
    bench.hang(1)
    scan = bench.scan()
    assert {gap.reason for gap in scan.gaps} == {GapReason.TIMED_OUT}
    assert {gap.component for gap in scan.gaps} == {bench.component, *map(bench.chip, range(3))}
    scan = bench.scan()
    assert set(scan.values(Metric.TEMPERATURE)) == {bench.chip(0), bench.chip(2)}
    (gap,) = [gap for gap in scan.gaps if gap.component == bench.chip(1)]
    assert gap.reason is GapReason.TIMED_OUT


def test_device_falls_off_the_bus_while_the_tool_hangs(
    bench: Bench,
) -> None:
    bench.scan()
    bench.hang(2)
    bench.pull_out(bench.rocm.chips[2].pci)
    scan = bench.scan(after_seconds=60.0)
    assert scan.values(Metric.PRESENT) == {bench.chip(2): 0.0}


def test_tools_are_uninstalled(bench: Bench) -> None:
    bench.scan()
    for tool in bench.bin.iterdir():
        tool.unlink()
    scan = bench.scan()
    assert [event.code for event in scan.events] == [f"{bench.kind.vendor}:tool:tool_missing"]


def test_restart_keeps_the_names(bench: Bench) -> None:
    uids = [chip.uid for chip in bench.scan().chips]
    cursor = bench.collector.cursor()
    bench.collector = bench.kind(bench.host)
    assert cursor is not None
    bench.collector.resume(cursor)
    assert [chip.uid for chip in bench.scan().chips] == uids


def test_partitions_and_links(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "amd-smi", count=2)
    bench.pull_out(bench.rocm.chips[1].pci)
    bench.rocm.chips[1].pci = bench.rocm.chips[0].pci.replace(".0", ".1")
    bench.rocm.chips[1].uuid = bench.rocm.chips[0].uuid
    bench.rocm.chips[1].partition = 1
    bench.rocm.chips[0].links = "UDX"
    bench.rocm.chips[0].is_hot = True
    bench.save()
    scan = bench.scan()
    assert len({chip.uid for chip in scan.chips}) == 2
    assert sorted(scan.values(Metric.PRESENT).values()) == [1.0, 1.0]
    first = Component(ComponentKind.CHIP, scan.chips[0].uid)
    ports = {
        component.name.rpartition("/")[2]: up
        for component, up in scan.values(Metric.LINK_UP).items()
        if component.name.startswith(f"{first.name}/")
    }
    assert ports == {"0": 1.0, "1": 0.0}
    assert scan.values(Metric.THROTTLE_THERMAL)[first] == 1.0
    assert scan.values(Metric.THROTTLE_POWER)[first] == 0.0


def test_an_old_version_lacks_options(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "amd-smi")
    bench.rocm.unknown_words = ["--link-status", "--throttle"]
    bench.save()
    scan = bench.scan()
    assert len(scan.values(Metric.TEMPERATURE)) == 3
    assert not scan.values(Metric.LINK_UP)
    assert [event.code for event in scan.events] == []


def test_a_login_node_has_tools_and_no_chip(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "amd-smi", count=1)
    folder = bench.device(bench.rocm.chips[0].pci)
    (folder / "vendor").write_text("0x15b3\n", encoding="utf-8")
    assert Amd.discover(bench.host) is None


def test_pages_at_the_limit_send_a_chip_back_though_the_tool_does_not_say_so(
    tmp_path: Path,
) -> None:
    """The simulated answer says that the limit of 128 is not exceeded."""
    bench = Bench(tmp_path, "amd-smi")
    bench.rocm.chips[0].retired_pages = 127
    bench.rocm.chips[1].retired_pages = 128
    bench.save()
    scan = bench.scan()
    assert scan.values(Metric.RETIRED_PAGES)[bench.chip(1)] == 128
    assert scan.values(Metric.REMAP_FAILED) == {
        bench.chip(0): 0.0,
        bench.chip(1): 1.0,
        bench.chip(2): 0.0,
    }


def test_deferred_errors_are_counted_apart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "amd-smi")
    bench.rocm.chips[2].deferred = 3
    bench.save()
    scan = bench.scan()
    assert scan.values(Metric.ECC_DEFERRED)[bench.chip(2)] == 3
    assert scan.values(Metric.ECC_DEFERRED)[bench.chip(0)] == 0
    assert scan.values(Metric.ECC_UNCORRECTED)[bench.chip(2)] == 0
