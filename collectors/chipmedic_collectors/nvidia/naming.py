"""Which chip is it? By what it says itself, or, when it cannot speak, by what was known. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from chipmedic.model import HOST, Chip, Component, ComponentKind
from chipmedic_collectors.nvidia.reply import ChipAnswers, FailedChip
from chipmedic_collectors.values import identity, normalise_pci

VENDOR = "nvidia"


def identify(answers: ChipAnswers, known: Mapping[str, Chip]) -> Chip | None:
    """Return the chip that these answers name, or None when they name none.

    One that does not say its UUID is the chip that was known in its place.
    """
    pci = normalise_pci(answers.name("pci") or "")
    uid = identity(answers.name("uuid") or "")
    if uid is None and pci is not None:
        for chip in known.values():
            if chip.pci == pci:
                return replace(chip, index=answers.index)
        uid = f"{VENDOR}-{pci}"
    if not uid:
        return None
    return Chip(
        uid=uid,
        vendor=VENDOR,
        model=answers.name("name") or "NVIDIA GPU",
        index=answers.index,
        serial=identity(answers.name("serial") or ""),
        pci=pci,
    )


def name_failed(
    failed: Sequence[FailedChip],
    *,
    known: Mapping[str, Chip],
    seen: Mapping[str, Chip],
    count: int,
    pci_addresses: Sequence[str],
) -> list[Component]:
    """Say which chips those are that cannot be opened, in the order of `failed`.

    By index while enumeration counts as many chips as are known, so that no index has moved; else
    by PCI, when as many addresses are left over as chips failed; else nobody knows: the host.
    """
    silent = {uid: chip for uid, chip in known.items() if uid not in seen}
    has_moved = len(known.keys() | seen.keys()) != count
    by_index = {} if has_moved else {chip.index: chip.component for chip in silent.values()}
    by_address = {chip.pci: chip.component for chip in silent.values()}
    taken = {chip.pci for chip in seen.values()}
    left_over = [address for address in pci_addresses if address not in taken]
    components = []
    for place, chip in enumerate(failed):
        component = by_index.get(chip.index, HOST)
        if component == HOST and len(left_over) == len(failed):
            address = left_over[place]
            component = by_address.get(address, pci_component(address))
        components.append(component)
    return components


def pci_component(address: str) -> Component:
    """Return the component of a device that is known by its PCI address alone."""
    return Component(ComponentKind.PCI, address)
