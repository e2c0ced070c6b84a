"""Two makers, one name: `xpu-smi` (Intel, Kunlunxin) and `rocm-smi` (AMD, Hygon), from PATH.

The PCI bus says whose chips are here; the tool's words say whose tool it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chipmedic import Metric, Scan
from chipmedic.host import LinuxHost
from chipmedic.model import collector_component
from chipmedic_collectors.amd import Amd
from chipmedic_collectors.hygon import Hygon
from chipmedic_collectors.intel import IntelGpu
from chipmedic_collectors.kunlun import Kunlun
from chipmedic_collectors.tool_collector import ToolCollector
from chipmedic_simulator import amd_tools, hygon_tools, intel_tools, kunlun_tools
from chipmedic_simulator.tool_state import STATE_VARIABLE, ToolHost, save

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Maker:
    """One of the two: its collector, its tool under the shared name, and its own name for it."""

    kind: type[ToolCollector]
    install: Callable[..., None]
    own_name: str
    pci_ids: tuple[str, str, str]
    simulated: Callable[[int], ToolHost]


INTEL = Maker(
    *(IntelGpu, intel_tools.install_tools, "xpumcli"),
    *(("0x8086", "0x038000", "0x0bd5"), ToolHost.simulated),
)
KUNLUN = Maker(
    *(Kunlun, kunlun_tools.install_tools, "xpu_smi"),
    *(("0x1d22", "0x120000", "0x3688"), ToolHost.simulated),
)
AMD = Maker(
    *(Amd, amd_tools.install_tools, "amd-smi"),
    *(("0x1002", "0x120000", "0x74a5"), ToolHost.rocm),
)
HYGON = Maker(
    *(Hygon, hygon_tools.install_tools, "hy-smi"),
    *(("0x1d94", "0x0b4000", "0x6210"), ToolHost.rocm),
)
PAIRS = {
    "Intel's xpu-smi": ("xpu-smi", INTEL, KUNLUN),
    "Kunlun's xpu-smi": ("xpu-smi", KUNLUN, INTEL),
    "AMD's rocm-smi": ("rocm-smi", AMD, HYGON),
    "Hygon's rocm-smi": ("rocm-smi", HYGON, AMD),
}


class Machine:
    """A machine where the shared name is the tool of one of the two."""

    def __init__(self, folder: Path, pair: str) -> None:
        self.name, self.owner, self.other = PAIRS[pair]
        self.state = self.owner.simulated(2)
        self._folder = folder
        save(self.state, folder / "state.json")
        self.owner.install(folder / "bin", self.name)
        env = {"PATH": f"{folder}/bin:/usr/bin:/bin", STATE_VARIABLE: str(folder / "state.json")}
        self.host = LinuxHost(root=str(folder / "root"), env=env)

    def plug(self, maker: Maker, *addresses: str) -> None:
        for address in addresses:
            device = self._folder / "root/sys/bus/pci/devices" / address
            device.mkdir(parents=True)
            for name, text in zip(("vendor", "class", "device"), maker.pci_ids, strict=True):
                (device / name).write_text(f"{text}\n", encoding="utf-8")

    def plug_owners(self) -> None:
        self.plug(self.owner, *(chip.pci for chip in self.state.chips))

    def add_own_tool(self, maker: Maker, state: ToolHost) -> None:
        """Put a tool on PATH that shows other chips than the one of the shared name."""
        maker.install(self._folder / "own", maker.own_name)
        save(state, self._folder / "own.json")
        path = self._folder / "bin" / maker.own_name
        call = f"{STATE_VARIABLE}={self._folder}/own.json exec {self._folder}/own/{maker.own_name}"
        path.write_text(f'#!/bin/sh\n{call} "$@"\n', encoding="utf-8")
        path.chmod(0o755)

    def scan(self, maker: Maker) -> Scan:
        found = maker.kind.discover(self.host)
        assert found is not None
        return found.scan()


@pytest.fixture(params=list(PAIRS))
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


def is_well(scan: Scan, state: ToolHost) -> bool:
    addresses = [chip.pci for chip in scan.chips]
    present = scan.values(Metric.PRESENT)
    return addresses == [chip.pci for chip in state.chips] and set(present.values()) == {1}


def test_the_chips_on_the_bus_decide_whose_tool_it_is(machine: Machine) -> None:
    machine.plug_owners()
    assert is_well(machine.scan(machine.owner), machine.state)
    assert machine.other.kind.discover(machine.host) is None


def test_with_both_cards_the_tool_tells_only_of_its_makers(machine: Machine) -> None:
    """The other's chips are unknown, not lost and not well: their own tool is not here."""
    machine.plug_owners()
    machine.plug(machine.other, "0000:d1:00.0", "0000:d2:00.0")
    assert is_well(machine.scan(machine.owner), machine.state)
    other = machine.scan(machine.other)
    assert (other.chips, other.readings) == ((), ())
    assert collector_component(machine.other.kind.vendor) in {gap.component for gap in other.gaps}
    assert [event.code.split(":")[0] for event in other.events] == [machine.other.kind.vendor]


def test_with_both_cards_and_both_tools_each_tells_of_its_own(machine: Machine) -> None:
    machine.plug_owners()
    state = machine.other.simulated(2)
    for chip, address in zip(state.chips, ("0000:d1:00.0", "0000:d2:00.0"), strict=True):
        chip.pci = address
        machine.plug(machine.other, address)
    machine.add_own_tool(machine.other, state)
    assert is_well(machine.scan(machine.owner), machine.state)
    assert is_well(machine.scan(machine.other), state)


def test_where_no_bus_is_seen_a_shared_name_is_no_ones(machine: Machine) -> None:
    assert machine.owner.kind.discover(machine.host) is None
    assert machine.other.kind.discover(machine.host) is None


def test_where_no_bus_is_seen_the_own_name_tells(machine: Machine) -> None:
    machine.add_own_tool(machine.owner, machine.state)
    assert is_well(machine.scan(machine.owner), machine.state)
    assert machine.other.kind.discover(machine.host) is None
