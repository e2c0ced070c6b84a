"""A node of eight chips of any vendor whose tool shows each chip well, silent, or not at all.

The tools of five vendors are the simulator's; those of the others are rows in the tool's own form.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from chipmedic.host import Answer
from chipmedic.testing import FakeHost
from chipmedic_collectors.amd import Amd
from chipmedic_collectors.biren import Biren
from chipmedic_collectors.cambricon import Cambricon
from chipmedic_collectors.enflame import Enflame
from chipmedic_collectors.gaudi import Gaudi
from chipmedic_collectors.hygon import Hygon
from chipmedic_collectors.iluvatar import Iluvatar
from chipmedic_collectors.intel import IntelGpu
from chipmedic_collectors.kunlun import Kunlun
from chipmedic_collectors.metax import MetaX
from chipmedic_collectors.mthreads import MooreThreads
from chipmedic_collectors.tool_collector import ToolCollector
from chipmedic_simulator import amd_tools, gaudi_tools, hygon_tools, intel_tools, kunlun_tools
from chipmedic_simulator.tool_state import ToolHost

COUNT = 8


@dataclass
class Rack:
    """What is wrong with the node now."""

    silent: set[int] = field(default_factory=set)
    """Chips whose row holds no value."""
    hidden: set[int] = field(default_factory=set)
    """Chips that the tool leaves out."""
    off_the_bus: set[int] = field(default_factory=set)
    """Chips that the PCI bus does not show either."""
    prints_nothing: bool = False
    """Empty output and exit status 0."""
    driver_is_down: bool = False

    def shown(self) -> list[int]:
        return [n for n in range(COUNT) if n not in self.hidden | self.off_the_bus]


def address(number: int) -> str:
    return f"0000:{0x15 + 0x1D * number:02x}:00.0"


Tool = Callable[[Sequence[str], Rack], Answer]


def _simulated(run: Callable[..., int], make: Callable[[int], ToolHost]) -> Tool:
    def answer(argv: Sequence[str], rack: Rack) -> Answer:
        host = make(COUNT)
        for number, chip in enumerate(host.chips):
            chip.pci = address(number)
            chip.is_lost = number not in rack.shown()
            chip.is_dead = number in rack.silent
        host.prints_nothing = rack.prints_nothing
        host.driver = "down" if rack.driver_is_down else "up"
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(list(argv[1:]), host=host)
        return Answer(out.getvalue(), err.getvalue(), status)

    return answer


def _printed(table: Callable[[Sequence[str], Rack], str], complaint: str) -> Tool:
    def answer(argv: Sequence[str], rack: Rack) -> Answer:
        if rack.driver_is_down:
            return Answer("", f"{complaint}\n", 1)
        return Answer("" if rack.prints_nothing else table(argv, rack), "", 0)

    return answer


def _cnmon(argv: Sequence[str], rack: Rack) -> str:
    rule = "+-------------------------------+----------------------+-----------------------+"
    lines = [
        "+------------------------------------------------------------------------------+",
        "| CNMON v6.5.30                                                 Driver v6.5.30 |",
        rule,
        "| Card  VF  Name       Firmware |               Bus-Id | Util        Ecc-Error |",
        "| Fan   Temp      Pwr:Usage/Cap |         Memory-Usage | Mode     Compute-Mode |",
        rule.replace("-", "="),
    ]
    for n in rack.shown():
        values = ("87%                 0", f"{40 + n}C        311 W/ 550 W", "40210 MiB/ 81920 MiB")
        if n in rack.silent:
            values = ("N/A               N/A", "N/A        N/A  / 550 W", "N/A     / N/A       ")
        lines += [
            f"| {n}     /   MLU590-M9DG  v1.1.9 |         {address(n)} | {values[0]} |",
            f"|  0%   {values[1]} | {values[2]} | FULL          Default |",
            rule,
        ]
    return "\n".join([*lines, ""])


def _mx_smi(argv: Sequence[str], rack: Rack) -> str:
    head = f"mx-smi  version: 2.2.9\n\nAttached GPUs      : {len(rack.shown())}\n"
    if len(argv) > 1:
        state = {True: "Not Available", False: "Available"}
        rows = [
            f"GPU#{n} MXC500 {address(n)} {state[n in rack.silent]} (UUID: GPU-{n:04d})"
            for n in rack.shown()
        ]
        return head + "\n".join([*rows, "", "End of Log", ""])
    rule = "+------------------------------------+---------------------+----------------------+"
    lines = [
        "| MX-SMI 2.2.9                        Kernel Mode Driver Version: 2.14.9          |",
        rule,
        "| GPU         NAME                   | Bus-id              | GPU-Util             |",
        "| Temp        Pwr:Usage/Cap          | Memory-Usage        | GPU-State            |",
        rule.replace("-", "="),
    ]
    for n in rack.shown():
        values = ("12% ", f"{40 + n}C         61W / 350W ", "1858/65536 MiB ", "Available  ")
        if n in rack.silent:
            values = ("NA  ", "NA          NA / NA    ", "NA/NA          ", "Unavailable")
        lines += [
            f"| {n}           MetaX C500             | {address(n)}        | {values[0]}         |",
            f"| {values[1]}            | {values[2]}     | {values[3]}          |",
            rule,
        ]
    return "\n".join([head, rule, *lines, "", "End of Log", ""])


def _gmi(argv: Sequence[str], rack: Rack) -> str:
    lines = [
        "---------------------------------------------------------------------",
        "    mthreads-gmi:2.4.3           Driver Version:5.1.2-server",
        "---------------------------------------------------------------------",
        "ID   Name                 |PCIe                |%GPU  Mem",
        "     Device Type          |Pcie Lane Width     |Temp  MPC Capable",
        "                                               |      ECC Mode",
        "+-------------------------------------------------------------------+",
    ]
    for n in rack.shown():
        values = ("77%   71020MiB(81920MiB)", f"{40 + n}C   YES")
        if n in rack.silent:
            values = ("N/A   N/A(N/A)", "N/A   YES")
        lines += [
            f"{n}    MTT S5000            |0000{address(n)}    |{values[0]}",
            f"     Physical             |16x(16x)            |{values[1]}",
            "                                               |      On-die, EDC",
            "+-------------------------------------------------------------------+",
        ]
    return "\n".join([*lines, ""])


def _ixsmi(argv: Sequence[str], rack: Rack) -> str:
    parts = [f"<attached_gpus>{len(rack.shown())}</attached_gpus>"]
    for n in rack.shown():
        heat, use, memory = f"{40 + n} C", "41 %", "68 MiB"
        if n in rack.silent:
            heat = use = memory = "N/A"
        parts.append(
            f'<gpu id="0000{address(n)}"><product_name>Iluvatar MR-V100</product_name>'
            f"<uuid>GPU-{n:04d}</uuid><minor_number>{n}</minor_number>"
            f"<memory_usage><total>{memory}</total><used>{memory}</used></memory_usage>"
            f"<utilization><gpu_util>{use}</gpu_util></utilization>"
            f"<temperature><gpu_temp>{heat}</gpu_temp></temperature></gpu>"
        )
    return f"<ixsmi_log><driver_version>4.4.2</driver_version>{''.join(parts)}</ixsmi_log>\n"


def _efsmi(argv: Sequence[str], rack: Rack) -> str:
    rule = "+-----------------------------+-------------------+---------------------------+"
    lines = [
        "--------------------- Enflame System Management Interface ---------------------",
        "+2026-02-03, 10:50:14 CST-----------------------------------------------------+",
        "| EFSMI: 1.6.4.1           Driver Ver: 1.6.4.0                                |",
        rule,
        "| DEV    NAME                 | FW VER            | BUS-ID      ECC           |",
        "| TEMP   Lpm   Pwr(Usage/Cap) | Mem      GCU Virt | DUsed       SN            |",
        "|=============================================================================|",
    ]
    for n in rack.shown():
        values = (f"{40 + n}C    LP0      75W/150W", "23552MiB  SRIOV  ", "7%       ")
        if n in rack.silent:
            values = ("N/A    N/A      N/A     ", "N/A       N/A    ", "N/A      ")
        lines += [
            f"| {n}      Enflame S60G         | 31.5.4            | "
            f"{address(n)[2:]}  Disable       |",
            f"| {values[0]}   | {values[1]} | {values[2]}   A099K3052{n:04d} |",
            rule,
        ]
    return "" if len(argv) > 1 else "\n".join([*lines, ""])


def _brsmi(argv: Sequence[str], rack: Rack) -> str:
    def row(n: int) -> str:
        values = "N/A, N/A, N/A, N/A" if n in rack.silent else f"50, 100, 65536, {40 + n}"
        return f"{n}, Biren 166M, BR-{n:04d}, 0000{address(n)}, {values}\n"

    return "".join(map(row, rack.shown()))


@dataclass(frozen=True)
class Vendor:
    """A vendor's collector, its tool, and what the PCI bus says of its chips."""

    kind: type[ToolCollector]
    program: str
    tool: Tool
    pci_vendor: str
    pci_class: str = "0x120000"
    pci_device: str = "0x0bd5"


VENDORS: Mapping[str, Vendor] = {
    "amd": Vendor(Amd, "amd-smi", _simulated(amd_tools.amd_smi, ToolHost.rocm), "0x1002"),
    "amd, old name": Vendor(
        Amd, "rocm-smi", _simulated(amd_tools.rocm_smi, ToolHost.rocm), "0x1002", "0x038000"
    ),
    "hygon": Vendor(Hygon, "hy-smi", _simulated(hygon_tools.hy_smi, ToolHost.rocm), "0x1d94"),
    "kunlun": Vendor(
        *(Kunlun, "xpu_smi", _simulated(kunlun_tools.xpu_smi, ToolHost.simulated)),
        *("0x1d22", "0x120000", "0x3688"),
    ),
    "intel": Vendor(
        *(IntelGpu, "xpu-smi", _simulated(intel_tools.xpu_smi, ToolHost.simulated)),
        *("0x8086", "0x038000"),
    ),
    "gaudi": Vendor(Gaudi, "hl-smi", _simulated(gaudi_tools.hl_smi, ToolHost.simulated), "0x1da3"),
    "cambricon": Vendor(
        Cambricon, "cnmon", _printed(_cnmon, "Failed to init cndev: driver not loaded"), "0xcabc"
    ),
    "metax": Vendor(
        MetaX, "mx-smi", _printed(_mx_smi, "mxSmlInit failed: MetaX driver is not loaded"), "0x9999"
    ),
    "mthreads": Vendor(
        *(MooreThreads, "mthreads-gmi"),
        *(_printed(_gmi, "Error: failed to initialize MTML: driver not loaded"), "0x1ed5"),
    ),
    "iluvatar": Vendor(
        *(Iluvatar, "ixsmi"),
        *(_printed(_ixsmi, "Failed to initialize IXML: Driver/library version mismatch"), "0x1e3e"),
    ),
    "enflame": Vendor(
        Enflame, "efsmi", _printed(_efsmi, "Failed to initialize efml: driver not loaded"), "0x1e36"
    ),
    "biren": Vendor(
        Biren, "brsmi", _printed(_brsmi, "Failed to initialize BRML: driver not loaded"), "0x1ee0"
    ),
}


class RackHost(FakeHost):
    """A machine with the vendor's tool and its chips on the PCI bus."""

    def __init__(self, vendor: Vendor) -> None:
        super().__init__({vendor.program: ""})
        self.rack = Rack()
        self._vendor = vendor
        self.replug()

    def replug(self) -> None:
        """Let the PCI bus show what the rack says."""
        self.files = {
            f"/sys/bus/pci/devices/{address(number)}/{name}": text
            for number in range(COUNT)
            if number not in self.rack.off_the_bus
            for name, text in (
                ("vendor", self._vendor.pci_vendor),
                ("class", self._vendor.pci_class),
                ("device", self._vendor.pci_device),
                ("uevent", ""),
            )
        }

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        """See `Host.run`."""
        if argv[0] != self._vendor.program:
            return super().run(argv, timeout_seconds=timeout_seconds, env=env)
        return self._vendor.tool(argv, self.rack)
