"""Which Ascend chips the PCI bus shows, whatever the driver and its tools say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chipmedic import Host
from chipmedic_collectors.values import normalise_pci

_CLASS_ACCELERATOR = "0x1200"
_HUAWEI = "0x19e5"
_OEM = frozenset({"0x20c6", "0x203f", "0x20e9"})
"""Board makers that put their own vendor id on Ascend chips."""
_CHIPS = frozenset({"d100", "d105", "d500", "d801", "d802", "d803", "d806"})
"""310, 310P class, 910A, 910B, A3, 950."""
_DRIVER = re.compile(r"^DRIVER=(\S+)", re.MULTILINE)
_PASSED_ON = frozenset({"vfio-pci", "pci-stub", "pciback", "xen-pciback"})
"""Drivers that hold a device for a virtual machine: the host's tools rightly do not show it."""


@dataclass(frozen=True, slots=True)
class BusDevice:
    """One Ascend chip on the PCI bus."""

    pci: str
    driver: str | None
    """None: no driver is bound, or the kernel does not say."""


def find_devices(host: Host) -> tuple[BusDevice, ...]:
    """Return the Ascend chips of this machine, by address; empty where there is no PCI bus."""
    virtual = {path.rpartition("/")[0] for path in host.glob("/sys/bus/pci/devices/*/physfn")}
    found = []
    for path in host.glob("/sys/bus/pci/devices/*/class"):
        folder = path.rpartition("/")[0]
        pci = normalise_pci(folder.rpartition("/")[2])
        if pci is None or folder in virtual or not _is_ascend(host, folder):
            continue
        driver = _DRIVER.search(_text(host, f"{folder}/uevent"))
        if driver is None or driver[1] not in _PASSED_ON:
            found.append(BusDevice(pci, driver[1] if driver else None))
    return tuple(found)


def is_container(host: Host) -> bool:
    """Say whether this process sees the machine through a container, which hides chips from it."""
    return bool(host.glob("/.dockerenv") or host.glob("/run/.containerenv"))


def _is_ascend(host: Host, folder: str) -> bool:
    if not _text(host, f"{folder}/class").startswith(_CLASS_ACCELERATOR):
        return False
    vendor = _text(host, f"{folder}/vendor")
    device = _text(host, f"{folder}/device").removeprefix("0x")
    return vendor == _HUAWEI or (vendor in _OEM and device in _CHIPS)


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path).strip().lower() if not path.endswith("uevent") else host.read(path)
    except OSError:
        return ""  # the device went away while we looked
