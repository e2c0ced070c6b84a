"""How Ascend chips look on the PCI bus."""

from __future__ import annotations

from chipmedic import Host
from chipmedic_collectors import pci_bus
from chipmedic_collectors.pci_bus import PciDevice, PciPattern

_ACCELERATOR = ("0x1200",)
_PATTERNS = (
    PciPattern(vendors=frozenset({"0x19e5"}), classes=_ACCELERATOR),
    PciPattern(
        # Board makers that put their own vendor id on the chips: 310, 310P class, 910A, 910B, A3,
        # 950.
        vendors=frozenset({"0x20c6", "0x203f", "0x20e9"}),
        classes=_ACCELERATOR,
        devices=frozenset({"d100", "d105", "d500", "d801", "d802", "d803", "d806"}),
    ),
)


def find_devices(host: Host) -> tuple[PciDevice, ...]:
    """Return the Ascend chips of this machine; empty where there is no PCI bus."""
    return tuple(d for pattern in _PATTERNS for d in pci_bus.find_devices(host, pattern))
