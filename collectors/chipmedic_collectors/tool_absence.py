"""Chips that a tool does not show: gone from its answer, off the PCI bus, or both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from chipmedic import Chip, GapReason
from chipmedic.model import chip_component
from chipmedic_collectors.pci_bus import PciDevice, without_function
from chipmedic_collectors.report_scan import ScanDraft


class KnownChips(Protocol):
    """Every chip that a tool has shown."""

    def __iter__(self) -> Iterator[Chip]: ...

    def others(self, seen: Collection[str]) -> list[Chip]:
        """Return the chips that are not among `seen`."""

    def uid_at(self, pci: str) -> str:
        """Return the uid of the chip at a PCI address that no tool shows."""


def report_missing(
    roster: KnownChips,
    seen: Collection[str],
    devices: Sequence[PciDevice],
    draft: ScanDraft,
    *,
    is_whole: bool,
) -> None:
    """Note the known chips that a summary does not show; after a cut one they are unknown."""
    on_bus = {without_function(device.pci) for device in devices}
    for chip in roster.others(seen):
        name = f"{chip.vendor} {chip.index} ({chip.pci or 'no PCI address'})"
        if not is_whole:
            draft.gap(chip.component, None, GapReason.FAILED, f"{name}: the answer was cut")
            continue
        is_off = chip.pci is not None and without_function(chip.pci) not in on_bus
        also = ", and is off the PCI bus" if is_off and devices else ""
        draft.lost(chip.component, f"the tool no longer shows {name}{also}")


def report_not_shown(roster: KnownChips, devices: Sequence[PciDevice], draft: ScanDraft) -> None:
    """Note the chips of the bus that a whole summary does not show.

    Where it prints no addresses they are counted: how many are missing, not which.
    """
    addresses = [chip.pci for chip in roster]
    if None in addresses:
        missing = len(devices) - len(addresses)
        if missing > 0:
            words = f"the PCI bus has {len(devices)} chips, the tool shows {len(addresses)}"
            draft.gap(draft.collector, None, GapReason.MISSING, words)
        return
    shown = {without_function(pci) for pci in addresses if pci is not None}
    for device in devices:
        if without_function(device.pci) not in shown:
            component = chip_component(roster.uid_at(device.pci))
            draft.lost(component, f"{device.words} is on the PCI bus; the tool does not show it")


def report_silence(
    roster: KnownChips,
    devices: Sequence[PciDevice],
    reason: GapReason,
    words: str,
    draft: ScanDraft,
) -> None:
    """Note that the tool tells of no chip; one that has left the bus meanwhile is lost."""
    on_bus = {without_function(device.pci) for device in devices}
    for chip in roster:
        is_off = chip.pci is not None and without_function(chip.pci) not in on_bus
        if is_off and devices:
            draft.lost(chip.component, f"{chip.pci} is off the PCI bus; the tool says: {words}")
        else:
            draft.gap(chip.component, None, reason, words)
