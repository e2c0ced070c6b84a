"""PCI Express links of accelerators and NICs, from sysfs: width, speed and AER counters.

Source: Documentation/ABI/testing/sysfs-bus-pci and sysfs-bus-pci-devices-aer_stats of the kernel.
What a device could have is the lesser of its own and its slot's maximum: a board for 16 lanes in a
slot of 8 is no defect. In a virtual machine the links are the hypervisor's invention, so they are
not read.
"""

from __future__ import annotations

import re
from typing import ClassVar, Self

from chipmedic.collector import Collector
from chipmedic.host import Host
from chipmedic.metric import Metric
from chipmedic.model import HOST, Component, ComponentKind, Gap, GapReason, Reading, Scan
from chipmedic_collectors.host import Found, reason_of
from chipmedic_collectors.values import normalise_pci

DEVICES = "/sys/bus/pci/devices"
CLASSES = frozenset({"0300", "0302", "1200", "0200", "0207"})
"""Display and 3D controllers, processing accelerators, Ethernet and InfiniBand controllers."""
CLASSES_SECONDS = 600.0
"""How often the class of a device is read that was there at each look before: while it is on the
bus it does not change, and a host has hundreds of devices that are none of ours."""
_WIDTH_UNKNOWN = 255
"""What the kernel prints for a link that is down or not there (0xff)."""
_SPEED = re.compile(r"(\d{1,6}(?:\.\d+)?) GT/s")
_AER = {
    "aer_dev_correctable": ("TOTAL_ERR_COR", Metric.PCIE_ERRORS_CORRECTABLE),
    "aer_dev_nonfatal": ("TOTAL_ERR_NONFATAL", Metric.PCIE_ERRORS_NONFATAL),
    "aer_dev_fatal": ("TOTAL_ERR_FATAL", Metric.PCIE_ERRORS_FATAL),
}


def read_width(text: str) -> float | None:
    """Read a link width in lanes; None where there is no link."""
    bare = text.strip()
    if not bare.isdecimal() or not 0 < int(bare) < _WIDTH_UNKNOWN:
        return None
    return float(bare)


def read_speed(text: str) -> float | None:
    """Read a link speed: `16.0 GT/s PCIe` is 16e9 transfers per second; `Unknown` is None."""
    match = _SPEED.match(text.strip())
    return None if match is None else float(match[1]) * 1e9


def read_total(text: str, name: str) -> float | None:
    """Return the total of one AER file, whose lines are `<name> <count>`."""
    match = re.search(rf"^{name} (\d{{1,20}})$", text, re.MULTILINE)
    return None if match is None else float(match[1])


class PcieLinks(Collector):
    """Reads the links of accelerators and NICs."""

    vendor: ClassVar[str] = "host"
    period_seconds: ClassVar[float] = 60.0
    deadline_seconds: ClassVar[float] = 10.0

    def __init__(self, host: Host) -> None:
        self._host = host
        self._is_virtual = _is_virtual(host)
        self._watched: dict[str, bool | None] = {}
        """Of each device on the bus, by folder: whether its link is watched; None: not known."""
        self._classes_at: float | None = None

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        """See `Collector.discover`: here when the host has an accelerator or NIC on PCI."""
        return (
            cls(host)
            if any(_is_watched(host, folder) for folder in host.glob(f"{DEVICES}/*"))
            else None
        )

    def scan(self) -> Scan:
        """See `Collector.scan`."""
        found = Found()
        if self._is_virtual:
            why = "virtual machine: the links that it shows are not the real ones"
            found.gaps.append(Gap(HOST, Metric.PCIE_WIDTH, GapReason.UNSUPPORTED, why))
        for address in self._addresses():
            component = Component(ComponentKind.PCI, normalise_pci(address) or address.lower())
            if not self._is_virtual:
                self._add_link(found, component, address)
            for name, (total, metric) in _AER.items():
                self._add_total(found, component, f"{DEVICES}/{address}/{name}", total, metric)
        return Scan(
            source="pcie",
            at=self._host.now(),
            readings=tuple(found.readings),
            gaps=tuple(found.gaps),
        )

    def _addresses(self) -> list[str]:
        """Return what is watched; a device that is new to the bus is looked at, at times each."""
        now = self._host.now()
        if self._classes_at is None or not 0 <= now - self._classes_at < CLASSES_SECONDS:
            self._classes_at, self._watched = now, {}
        folders = self._host.glob(f"{DEVICES}/*")
        before = self._watched
        self._watched = {}
        for folder in folders:
            known = before.get(folder)
            self._watched[folder] = _is_watched(self._host, folder) if known is None else known
        return [folder.rpartition("/")[2] for folder in folders if self._watched[folder]]

    def _add_link(self, found: Found, component: Component, address: str) -> None:
        for name, read, metric, metric_max in (
            ("width", read_width, Metric.PCIE_WIDTH, Metric.PCIE_WIDTH_MAX),
            ("speed", read_speed, Metric.PCIE_SPEED, Metric.PCIE_SPEED_MAX),
        ):
            folder = f"{DEVICES}/{address}"
            try:
                now = read(self._host.read(f"{folder}/current_link_{name}"))
                own_max = read(self._host.read(f"{folder}/max_link_{name}"))
            except OSError as e:
                found.gaps.append(Gap(component, metric, reason_of(e), f"{name}: {e.strerror}"))
                continue
            if now is None or own_max is None:
                found.gaps.append(Gap(component, metric, GapReason.UNSUPPORTED, f"no link {name}"))
                continue
            slot_max = self._slot_max(folder, name)
            best = own_max if slot_max is None else min(own_max, slot_max)
            found.readings.append(Reading(component, metric, now))
            found.readings.append(Reading(component, metric_max, best))

    def _slot_max(self, folder: str, name: str) -> float | None:
        """Return what the port above the device can do; None on a root bus, which does not tell."""
        read = read_width if name == "width" else read_speed
        try:
            return read(self._host.read(f"{folder}/../max_link_{name}"))
        except OSError:
            return None

    def _add_total(
        self, found: Found, component: Component, path: str, name: str, metric: Metric
    ) -> None:
        """Read one AER file; a device without AER has none, which is no news."""
        try:
            total = read_total(self._host.read(path), name)
        except OSError as e:
            if reason_of(e) is not GapReason.UNSUPPORTED:
                found.gaps.append(Gap(component, metric, reason_of(e), f"{path}: {e.strerror}"))
            return
        if total is None:
            found.gaps.append(Gap(component, metric, GapReason.MALFORMED, f"{path}: no {name}"))
        else:
            found.readings.append(Reading(component, metric, total))


def _is_watched(host: Host, folder: str) -> bool | None:
    """Say whether a PCI device is a physical accelerator or NIC; None: it does not tell."""
    try:
        code = host.read(f"{folder}/class").strip().removeprefix("0x")
    except OSError:
        return None
    return code[:4] in CLASSES and not host.glob(f"{folder}/physfn")


def _is_virtual(host: Host) -> bool:
    """Say whether this host is a virtual machine.

    On x86 every hypervisor sets a CPU flag; elsewhere the firmware's name of the machine tells.
    """
    for path, pattern in (
        ("/proc/cpuinfo", r"^flags\s*:.*\bhypervisor\b"),
        ("/sys/class/dmi/id/product_name", r"KVM|QEMU|Virtual Machine|VMware"),
    ):
        try:
            if re.search(pattern, host.read(path), re.MULTILINE):
                return True
        except OSError:
            continue
    return False
