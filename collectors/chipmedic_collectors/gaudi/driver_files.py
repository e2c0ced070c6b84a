"""What the habanalabs driver tells of its devices in sysfs, without any tool.

Source: Documentation/ABI/testing/sysfs-driver-habanalabs of the kernel. The files moved from
/sys/class/habanalabs/hlN to /sys/class/accel/accelN/device when the driver joined the accel class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chipmedic import Host
from chipmedic_collectors.values import normalise_pci

_PLACES = ("/sys/class/accel/accel*/device/status", "/sys/class/habanalabs/hl*/status")
_NAME = re.compile(r"(?<=/)(?:accel|hl)\d+(?=/|$)")
_SLOT = re.compile(r"^PCI_SLOT_NAME=(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator."""

    name: str
    """What the driver calls it: `accel3`, of older drivers `hl3`."""
    status: str
    """`operational`, `in reset`, `disabled`, `needs reset`, ... in lower case."""
    resets: int
    """Hard resets since the driver was loaded."""


def read_devices(host: Host) -> dict[str, Device]:
    """Return the devices that the driver shows, by PCI address."""
    devices = {}
    for place in _PLACES:
        for path in host.glob(place):
            folder = path.rpartition("/")[0]
            status, address = _text(host, path), _address(host, folder)
            if status and address is not None:
                count = _text(host, f"{folder}/hard_reset_cnt")
                resets = int(count) if count.isdecimal() and len(count) < 10 else 0
                devices[address] = Device(_NAME.findall(folder)[0], status.lower(), resets)
    return devices


def _address(host: Host, folder: str) -> str | None:
    """Return the PCI address of a device by its uevent, or by the driver's own file."""
    for name in ("uevent", "device/uevent"):
        if slot := _SLOT.search(_text(host, f"{folder}/{name}")):
            return normalise_pci(slot[1])
    return normalise_pci(_text(host, f"{folder}/pci_addr"))


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path).strip()
    except OSError:
        return ""  # not offered by this driver, or the device went away
