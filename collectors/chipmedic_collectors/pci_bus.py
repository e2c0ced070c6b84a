"""Which chips of a vendor the PCI bus shows, whatever the driver and its tools say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chipmedic import Host
from chipmedic_collectors.values import normalise_pci

_DEVICES = "/sys/bus/pci/devices/*"
_LIST = "/proc/bus/pci/devices"
"""The whole bus as the kernel keeps it, a line a device: address, vendor and device id."""
ACCELERATORS = ("0x12", "0x03", "0x0b40")
"""Beginnings of the classes that accelerators have: processing accelerator, display, co-processor.
The sound function of a card with a display socket is none of them."""
_DRIVER = re.compile(r"^DRIVER=(\S+)", re.MULTILINE)
_ID = re.compile(r"[0-9a-fA-F]{8}")
_PASSED_ON = frozenset({"vfio-pci", "pci-stub", "pciback", "xen-pciback"})
"""Drivers that hold a device for a virtual machine: the host's tools rightly do not show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PciPattern:
    """How the chips of one vendor look on the bus."""

    vendors: frozenset[str]
    """Vendor ids as sysfs prints them: `0x1002`."""
    classes: tuple[str, ...]
    """Beginnings of the class: `0x1200` accelerator, `0x0302` 3D, `0x0380` other display."""
    devices: frozenset[str] | None = None
    """Device ids without `0x`; None: every device of these vendors and classes."""
    foreign_drivers: frozenset[str] = frozenset()
    """Drivers of devices that the vendor's tool does not show (an older family, a desktop card)."""


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One chip on the PCI bus."""

    pci: str
    driver: str | None
    """None: no driver is bound, or the kernel does not say."""

    @property
    def words(self) -> str:
        """Where it is and who drives it, for a person."""
        return f"{self.pci} ({f'driver {self.driver}' if self.driver else 'no driver is bound'})"


def find_devices(host: Host, pattern: PciPattern) -> tuple[PciDevice, ...]:
    """Return the chips that fit, by address; virtual functions and passed-on devices do not.

    A bus without the vendor costs one file: a dozen vendors are looked for on every node, again
    and again. Else it is a list of the bus and a file of each device; more of this vendor's alone.
    """
    on_bus = _vendors(host)
    if on_bus is not None and not on_bus & pattern.vendors:
        return ()
    found = []
    for folder in host.glob(_DEVICES):
        if not _fits(host, folder, pattern) or host.glob(f"{folder}/physfn"):
            continue
        pci = normalise_pci(folder.rpartition("/")[2])
        driver = _DRIVER.search(_text(host, f"{folder}/uevent"))
        name = driver[1] if driver else None
        if pci and name not in _PASSED_ON and name not in pattern.foreign_drivers:
            found.append(PciDevice(pci, name))
    return tuple(found)


def is_visible(host: Host) -> bool:
    """Say whether this process sees a PCI bus at all."""
    return bool(host.glob(_DEVICES))


def vendor_of(host: Host, pci: str) -> str | None:
    """Return the vendor id of a device as sysfs prints it; None where the bus does not show it."""
    return _text(host, f"{_DEVICES.removesuffix('*')}{pci}/vendor").strip().lower() or None


def is_container(host: Host) -> bool:
    """Say whether this process sees the machine through a container, which hides chips from it."""
    return bool(host.glob("/.dockerenv") or host.glob("/run/.containerenv"))


def without_function(pci: str) -> str:
    """Return an address without its function: partitions of a chip may have one each."""
    return pci.partition(".")[0]


def _vendors(host: Host) -> frozenset[str] | None:
    """Return the vendor ids of the bus as sysfs prints them; None where the list cannot be read.

    The list has no PCI domains, so it tells which vendors are there and not where.
    """
    lines = [line.split(maxsplit=2) for line in _text(host, _LIST).splitlines()]
    ids = [fields[1].lower() for fields in lines if len(fields) > 1 and _ID.fullmatch(fields[1])]
    return frozenset(f"0x{each[:4]}" for each in ids) if ids and len(ids) == len(lines) else None


def _fits(host: Host, folder: str, pattern: PciPattern) -> bool:
    if _text(host, f"{folder}/vendor").strip().lower() not in pattern.vendors:
        return False
    if not _text(host, f"{folder}/class").strip().lower().startswith(pattern.classes):
        return False
    device = _text(host, f"{folder}/device").strip().lower().removeprefix("0x")
    return pattern.devices is None or device in pattern.devices


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path)
    except OSError:
        return ""  # the device went away while we looked
