"""The files of the kernel that collectors read on a node: PCI devices, an InfiniBand port, memory.

Everything lies below a root of the node's own, so that it looks the same on every machine that the
simulation runs on, and nothing of that machine shows through. Names and contents as in
Documentation/ABI/testing/sysfs-bus-pci and sysfs-class-infiniband of the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BUS_LIST = "proc/bus/pci/devices"
"""The kernel's own list of the bus."""
PORT = "sys/class/infiniband/mlx5_0/ports/1"
PORT_UP = {"state": "4: ACTIVE", "phys_state": "5: LinkUp"}
PORT_DOWN = {"state": "1: DOWN", "phys_state": "3: Disabled"}
_NIC_ADDRESS = "0000:9a:00.0"
_AER = ("correctable", "nonfatal", "fatal")
_TOTALS = {
    "correctable": "TOTAL_ERR_COR",
    "nonfatal": "TOTAL_ERR_NONFATAL",
    "fatal": "TOTAL_ERR_FATAL",
}
_COUNTERS = (
    "link_downed",
    "symbol_error",
    "link_error_recovery",
    "port_rcv_errors",
    "local_link_integrity_errors",
    "excessive_buffer_overrun_errors",
)
_PROC: Mapping[str, str] = {
    "proc/meminfo": "MemTotal:       2113409024 kB\nMemFree:        1650021888 kB\n"
    "MemAvailable:   1874213120 kB\n",
    "proc/vmstat": "pgfault 811\noom_kill 0\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "proc/self/mountinfo": "22 1 0:21 / /proc rw,nosuid - proc proc rw\n",
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme msr pae\n",
}


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One device on the bus."""

    address: str
    vendor: str
    device: str
    pci_class: str
    driver: str


def gpu(address: str) -> PciDevice:
    """Return an NVIDIA H100 (SXM5, 80 GB)."""
    return PciDevice(address, "0x10de", "0x2330", "0x030200", "nvidia")


def npu(address: str) -> PciDevice:
    """Return an Ascend 910B."""
    return PciDevice(address.lower(), "0x19e5", "0xd802", "0x120000", "devdrv_device_driver")


def make_root(root: Path, devices: Sequence[PciDevice]) -> None:
    """Write the files of a healthy node with these chips and one InfiniBand card."""
    nic = PciDevice(_NIC_ADDRESS, "0x15b3", "0x1021", "0x020700", "mlx5_core")
    for device in (*devices, nic):
        _write_device(root, device)
    write(root / BUS_LIST, "".join(bus_line(d.vendor, d.device) for d in (*devices, nic)))
    for path, text in _PROC.items():
        write(root / path, text)
    write(root / PORT / "link_layer", "InfiniBand\n")
    write(root / PORT / "rate", "400 Gb/sec (4X NDR)\n")
    for name in _COUNTERS:
        write(root / PORT / "counters" / name, "0\n")
    set_port(root, is_up=True)


def bus_line(vendor: str, device: str) -> str:
    """Return a device's line in the kernel's list of the bus, cut after what anybody reads."""
    return f"0000\t{vendor.removeprefix('0x')}{device.removeprefix('0x')}\t0\n"


def set_port(root: Path, *, is_up: bool) -> None:
    """Let the InfiniBand port be up or down; a down is counted, as its firmware does."""
    for name, text in (PORT_UP if is_up else PORT_DOWN).items():
        write(root / PORT / name, f"{text}\n")
    if not is_up:
        counter = root / PORT / "counters/link_downed"
        write(counter, f"{int(counter.read_text(encoding='ascii')) + 1}\n")


def write(path: Path, text: str) -> None:
    """Replace a file in one step, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(path)


def _write_device(root: Path, device: PciDevice) -> None:
    folder = root / "sys/bus/pci/devices" / device.address
    for name, text in (
        ("vendor", device.vendor),
        ("device", device.device),
        ("class", device.pci_class),
        ("uevent", f"DRIVER={device.driver}\nPCI_SLOT_NAME={device.address}"),
        ("current_link_width", "16"),
        ("max_link_width", "16"),
        ("current_link_speed", "32.0 GT/s PCIe"),
        ("max_link_speed", "32.0 GT/s PCIe"),
    ):
        write(folder / name, f"{text}\n")
    for kind in _AER:
        write(folder / f"aer_dev_{kind}", f"Undefined 0\n{_TOTALS[kind]} 0\n")
