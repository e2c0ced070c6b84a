"""Which chips of a vendor the bus shows, and what it costs to learn that there are none."""

from __future__ import annotations

import pytest

from chipmedic.testing import FakeHost
from chipmedic_collectors.pci_bus import PciDevice, PciPattern, find_devices

OURS = PciPattern(vendors=frozenset({"0x1d94"}), classes=("0x12",))
LIST = "/proc/bus/pci/devices"
FILES = {
    "/sys/bus/pci/devices/0000:3b:00.0/vendor": "0x1d94\n",
    "/sys/bus/pci/devices/0000:3b:00.0/class": "0x120000\n",
    "/sys/bus/pci/devices/0000:3b:00.0/device": "0x54b7\n",
    "/sys/bus/pci/devices/0000:3b:00.0/uevent": "DRIVER=hydcu\n",
}
BRIDGE = "0008\t8086352a\t0\t               0\t pcieport\n"
CHIP = "3b00\t1D9454b7\t40\t        c0000000\thydcu\n"
FOUND = (PciDevice("0000:3b:00.0", "hydcu"),)


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        (None, FOUND),  # a container may hide the list
        (BRIDGE + CHIP, FOUND),
        (BRIDGE, ()),
        ("", FOUND),  # a list that tells nothing proves nothing
        (f"{BRIDGE}0010\tnothing that is known\n", FOUND),
        (f"{BRIDGE}\n", FOUND),
    ],
)
def test_the_kernels_list_of_the_bus_spares_a_look_at_each_device(
    listed: str | None, found: tuple[PciDevice, ...]
) -> None:
    files = FILES if listed is None else FILES | {LIST: listed}
    assert find_devices(FakeHost(files=files), OURS) == found
