"""The collectors of Kunlunxin, Intel and Gaudi chips against the simulated tools, from PATH."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chipmedic import Component, ComponentKind, GapReason, Metric, Scan, Severity
from chipmedic.model import collector_component
from chipmedic_collectors.gaudi import Gaudi
from chipmedic_collectors.intel import IntelGpu
from chipmedic_collectors.kunlun import Kunlun
from chipmedic_collectors.tool_collector import ToolCollector
from chipmedic_simulator import gaudi_tools, intel_tools, kunlun_tools
from chipmedic_simulator.tool_state import STATE_VARIABLE, ToolHost, save
from tool_bench import SteppingHost, no_tool_is_left

pytestmark = pytest.mark.system

KINDS: dict[str, tuple[type[ToolCollector], Callable[..., None], tuple[str, ...], tuple[str, ...]]]
KINDS = {
    "xpu_smi": (Kunlun, kunlun_tools.install_tools, (), ("0x1d22", "0x120000", "0x3688")),
    "kunlun xpu-smi": (
        Kunlun,
        kunlun_tools.install_tools,
        ("xpu-smi",),
        ("0x1d22", "0x120000", "0x3688"),
    ),
    "intel xpu-smi": (IntelGpu, intel_tools.install_tools, (), ("0x8086", "0x038000", "0x0bd5")),
    "xpumcli": (
        IntelGpu,
        intel_tools.install_tools,
        ("xpumcli",),
        ("0x8086", "0x038000", "0x0bd5"),
    ),
    "hl-smi": (Gaudi, gaudi_tools.install_tools, (), ("0x1da3", "0x120000", "0x1020")),
}


class Bench:
    """A folder with the tool, a simulated PCI bus, and the state that both follow."""

    def __init__(self, folder: Path, kind: str, count: int = 3) -> None:
        self.kind, install, names, pci_ids = KINDS[kind]
        self.state = ToolHost.simulated(count)
        self.root = folder / "root"
        self._state_file = folder / "state.json"
        self.save()
        self.bin = folder / "bin"
        install(self.bin, *names)
        for chip in self.state.chips:
            for name, text in zip(("vendor", "class", "device"), pci_ids, strict=True):
                self.write(f"sys/bus/pci/devices/{chip.pci}/{name}", text)
        env = {"PATH": f"{self.bin}:/usr/bin:/bin", STATE_VARIABLE: str(self._state_file)}
        self.host = SteppingHost(self.root, env)
        found = self.kind.discover(self.host)
        assert found is not None
        self.collector = found

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text + "\n", encoding="utf-8")

    def save(self) -> None:
        save(self.state, self._state_file)

    def hang(self, *numbers: int) -> None:
        """Let the tool wait for these chips, and nobody wait long for the tool."""
        for number in numbers:
            self.state.chips[number].hang_seconds = 600.0
        self.save()
        self.host.limit_seconds = 3.0

    def scan(self, after_seconds: float = 15.0) -> Scan:
        self.host.ahead += after_seconds
        return self.collector.scan()

    def chip(self, number: int) -> Component:
        chip = self.state.chips[number]
        uid = chip.serial if self.kind is Kunlun else chip.uuid
        return Component(ComponentKind.CHIP, uid)

    def all_chips(self) -> set[Component]:
        return {self.chip(number) for number in range(len(self.state.chips))}

    @property
    def component(self) -> Component:
        return collector_component(self.kind.vendor)


@pytest.fixture(params=list(KINDS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path, request.param)
    no_tool_is_left(str(tmp_path))


@pytest.fixture
def kunlun(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path, "xpu_smi")
    no_tool_is_left(str(tmp_path))


@pytest.fixture
def intel(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path, "intel xpu-smi")
    no_tool_is_left(str(tmp_path))


@pytest.fixture
def gaudi(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path, "hl-smi")
    no_tool_is_left(str(tmp_path))


def test_healthy(bench: Bench) -> None:
    scan = bench.scan()
    assert scan.is_inventory
    assert [chip.component for chip in scan.chips] == [bench.chip(number) for number in range(3)]
    assert [chip.pci for chip in scan.chips] == [chip.pci for chip in bench.state.chips]
    assert scan.values(Metric.PRESENT) == dict.fromkeys(bench.all_chips(), 1.0)
    assert scan.values(Metric.TEMPERATURE) == {bench.chip(n): 41.0 + n for n in range(3)}
    assert scan.values(Metric.POWER)[bench.chip(2)] == 92
    assert scan.values(Metric.MEMORY_USED)[bench.chip(0)] == 768 * 1048576
    assert scan.values(Metric.MEMORY_TOTAL)[bench.chip(0)] == 98304 * 1048576
    assert scan.values(Metric.ECC_UNCORRECTED) == dict.fromkeys(bench.all_chips(), 0.0)
    assert scan.gaps == ()
    assert scan.events == ()


def test_processes_are_found(bench: Bench) -> None:
    bench.state.chips[1].pids = [4711]
    bench.save()
    scan = bench.scan()
    assert [(p.chip, p.pid) for p in scan.processes] == [(bench.chip(1).name, 4711)]


def test_errors_are_counted(bench: Bench) -> None:
    bench.scan()
    bench.state.chips[2].uncorrected = 3
    bench.state.chips[2].corrected = 41
    bench.save()
    scan = bench.scan(after_seconds=90.0)
    assert scan.values(Metric.ECC_UNCORRECTED)[bench.chip(2)] == 3
    assert scan.values(Metric.ECC_CORRECTED)[bench.chip(2)] == 41


def test_chip_is_lost_and_the_others_are_renumbered(bench: Bench) -> None:
    bench.scan()
    bench.state.chips[0].is_lost = True
    bench.save()
    scan = bench.scan()
    present = {bench.chip(0): 0.0, bench.chip(1): 1.0, bench.chip(2): 1.0}
    assert scan.values(Metric.PRESENT) == present
    assert scan.values(Metric.TEMPERATURE) == {bench.chip(1): 42.0, bench.chip(2): 43.0}
    (gap,) = [gap for gap in scan.gaps if gap.reason is GapReason.MISSING]
    assert gap.component == bench.chip(0)


def test_chip_that_was_never_shown_is_missing(bench: Bench) -> None:
    bench.state.chips[2].is_lost = True
    bench.save()
    scan = bench.scan()
    lost = Component(ComponentKind.CHIP, f"{bench.kind.vendor}-{bench.state.chips[2].pci}")
    assert scan.values(Metric.PRESENT)[lost] == 0.0


def test_dead_chip_is_not_healthy(bench: Bench) -> None:
    bench.scan()
    bench.state.chips[1].is_dead = True
    bench.save()
    scan = bench.scan()
    dead = bench.chip(1)
    assert (dead, None) in {(gap.component, gap.metric) for gap in scan.gaps}
    assert dead not in scan.values(Metric.PRESENT)
    assert dead not in scan.values(Metric.TEMPERATURE)
    assert dead not in scan.values(Metric.HEALTH)
    assert scan.values(Metric.TEMPERATURE).keys() == {bench.chip(0), bench.chip(2)}


@pytest.mark.parametrize("driver", ["down", "gone"])
def test_driver_that_dies_is_told(bench: Bench, driver: str) -> None:
    bench.scan()
    bench.state.driver = driver
    bench.save()
    scan = bench.scan()
    (event,) = scan.events
    kind = "driver_down" if driver == "down" else "no_devices"
    assert event.code == f"{bench.kind.vendor}:tool:{kind}"
    assert (event.component, event.kind) == (bench.component, "driver.fault")
    assert event.severity is Severity.CRITICAL
    assert scan.values(Metric.TEMPERATURE) == {}
    assert {gap.component for gap in scan.gaps} >= bench.all_chips()


def test_empty_answer_with_success_is_no_health(bench: Bench) -> None:
    bench.scan()
    bench.state.prints_nothing = True
    bench.save()
    scan = bench.scan()
    assert scan.readings == ()
    assert not scan.is_inventory
    assert [event.code for event in scan.events] == [f"{bench.kind.vendor}:tool:malformed"]
    assert {gap.component for gap in scan.gaps} >= bench.all_chips()


def test_answer_that_is_cut_loses_no_chip(bench: Bench) -> None:
    bench.scan()
    bench.state.cut_after = 250
    bench.save()
    scan = bench.scan()
    assert not scan.is_inventory
    assert 0.0 not in scan.values(Metric.PRESENT).values()
    assert bench.component in {gap.component for gap in scan.gaps}
    assert scan.events == ()


def test_tool_is_uninstalled(bench: Bench) -> None:
    bench.scan()
    for tool in bench.bin.iterdir():
        tool.unlink()
    scan = bench.scan()
    assert [event.code for event in scan.events] == [f"{bench.kind.vendor}:tool:tool_missing"]
    assert bench.kind.discover(bench.host) is not None  # the chips are on the bus


def test_hang_ends_in_time_and_hides_only_the_chip_that_hangs(bench: Bench) -> None:
    bench.scan()
    bench.hang(1)
    scan = bench.scan()
    assert {gap.reason for gap in scan.gaps} == {GapReason.TIMED_OUT}
    scan = bench.scan(after_seconds=120.0)
    assert scan.values(Metric.TEMPERATURE).keys() == {bench.chip(0), bench.chip(2)}
    assert [g.reason for g in scan.gaps if g.component == bench.chip(1)] == [GapReason.TIMED_OUT]


def test_no_chip_on_the_bus_is_not_this_vendor(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "other"
    other = SteppingHost(root, {"PATH": f"{bench.bin}:/usr/bin:/bin"})
    folder = root / "sys/bus/pci/devices/0000:01:00.0"
    folder.mkdir(parents=True)
    for name, text in (("vendor", "0x8086"), ("class", "0x030000"), ("device", "0x4680")):
        (folder / name).write_text(text, encoding="utf-8")
    assert bench.kind.discover(other) is None


# -- Kunlunxin


def test_kunlun_driver_names_a_device_in_error(kunlun: Bench) -> None:
    for number in range(3):
        kunlun.write(f"proc/xpu/dev{number}/state", "RUNNING")
        kunlun.write(f"proc/xpu/dev{number}/reset_count", "1")
    scan = kunlun.scan()
    assert scan.values(Metric.HEALTH) == dict.fromkeys(kunlun.all_chips(), 0.0)
    kunlun.write("proc/xpu/dev1/state", "ERROR")
    kunlun.write("proc/xpu/dev1/errinfo", "cdnn timeout\n engine 3")
    kunlun.write("proc/xpu/dev2/reset_count", "2")
    scan = kunlun.scan()
    assert scan.values(Metric.HEALTH)[kunlun.chip(1)] == 2.0
    error, reset = scan.events
    assert (error.component, error.code) == (kunlun.chip(1), "kunlun:state:ERROR")
    assert (error.kind, error.severity) == ("chip.reset_required", Severity.CRITICAL)
    assert "cdnn timeout engine 3" in error.message
    assert (reset.component, reset.kind) == (kunlun.chip(2), "chip.reset")
    assert kunlun.scan().events == ()  # told once


def test_kunlun_driver_is_read_when_the_tool_hangs(kunlun: Bench) -> None:
    kunlun.scan()
    kunlun.hang(0, 1, 2)
    kunlun.write("proc/xpu/dev1/state", "ERROR")
    scan = kunlun.scan()
    assert scan.values(Metric.HEALTH) == {kunlun.chip(1): 2.0}
    assert [event.code for event in scan.events] == ["kunlun:state:ERROR"]


def test_kunlun_old_board_is_two_chips(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "xpu_smi", count=2)
    first, second = bench.state.chips
    second.pci, second.serial = first.pci, first.serial
    first.power_watts = second.power_watts = 41250  # milliwatts
    bench.save()
    scans = [bench.scan(), bench.scan()]
    for scan in scans:
        assert len({chip.uid for chip in scan.chips}) == 2
        assert set(scan.values(Metric.POWER).values()) == {41.25}
    assert scans[0].chips == scans[1].chips


# -- Intel


@pytest.mark.parametrize(("word", "code"), [("Warning", 1.0), ("Critical", 2.0)])
def test_intel_health(intel: Bench, word: str, code: float) -> None:
    intel.state.chips[1].health = word
    intel.save()
    assert intel.scan().values(Metric.HEALTH)[intel.chip(1)] == code


def test_intel_health_that_the_tool_does_not_know_is_a_gap(intel: Bench) -> None:
    intel.state.chips[1].health = "Unknown"
    intel.save()
    scan = intel.scan()
    assert intel.chip(1) not in scan.values(Metric.HEALTH)
    assert (intel.chip(1), Metric.HEALTH) in {(gap.component, gap.metric) for gap in scan.gaps}


def test_intel_question_that_a_version_does_not_know_is_no_alarm(intel: Bench) -> None:
    intel.state.unknown_words = ["health", "29,30"]
    intel.save()
    scan = intel.scan()
    assert len(scan.values(Metric.TEMPERATURE)) == 3
    assert {gap.reason for gap in scan.gaps} == {GapReason.UNSUPPORTED}
    assert scan.events == ()


# -- Gaudi


def test_gaudi_query_that_a_version_does_not_know_falls_back_to_the_table(gaudi: Bench) -> None:
    gaudi.state.unknown_words = ["serial"]
    gaudi.save()
    scan = gaudi.scan()
    assert scan.is_inventory
    assert set(scan.values(Metric.TEMPERATURE).values()) == {41.0, 42.0, 43.0}
    # The table counts volatile events, 2 on each idle card: another counter than this one.
    assert set(scan.values(Metric.ECC_UNCORRECTED).values()) == {0.0}


def test_gaudi_ports_are_told_but_for_those_that_are_not_cabled(gaudi: Bench) -> None:
    gaudi.state.chips[0].down_ports = [5]
    gaudi.save()
    up: dict[Component, float] = {}
    for _ in range(3):  # one chip is asked in each scan
        up |= gaudi.scan().values(Metric.LINK_UP)
    assert len(up) == 3 * 21
    down = [component for component, value in up.items() if value == 0.0]
    assert down == [Component(ComponentKind.LINK, f"{gaudi.chip(0).name}/5")]


def test_gaudi_driver_tells_the_state_of_a_chip_that_the_tool_omits(gaudi: Bench) -> None:
    for number, chip in enumerate(gaudi.state.chips):
        folder = f"sys/class/accel/accel{number}/device"
        gaudi.write(f"{folder}/uevent", f"DRIVER=habanalabs\nPCI_SLOT_NAME={chip.pci}")
        gaudi.write(f"{folder}/status", "operational")
        gaudi.write(f"{folder}/hard_reset_cnt", "0")
    assert gaudi.scan().values(Metric.HEALTH) == dict.fromkeys(gaudi.all_chips(), 0.0)
    gaudi.write("sys/class/accel/accel1/device/status", "in reset")
    gaudi.write("sys/class/accel/accel1/device/hard_reset_cnt", "1")
    gaudi.write("sys/class/accel/accel2/device/status", "needs reset")
    scan = gaudi.scan()
    health = scan.values(Metric.HEALTH)
    assert [health[gaudi.chip(number)] for number in range(3)] == [0.0, 1.0, 2.0]
    (event,) = scan.events
    assert (event.component, event.kind) == (gaudi.chip(1), "chip.reset")
    assert [chip.kernel_names for chip in scan.chips] == [(f"accel{n}",) for n in range(3)]
