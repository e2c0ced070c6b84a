"""Names of chips that survive a reboot.

The die id (VDie) is burnt into the chip, but only `-t board` prints it, and a sick chip may not
answer that. What was once found is therefore kept (in the collector's cursor) and used when the
chip is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chipmedic.tool_report import ChipReport

Place = tuple[int, int]
"""(NPU id, chip id) as npu-smi addresses a chip now."""


class Identities:
    """The uid of each chip, by its slot: PCI address (or NPU id where it has none) and die."""

    def __init__(self) -> None:
        self._uids: dict[str, str] = {}

    def choose(self, row: ChipReport, board: ChipReport | None, taken: Iterable[str]) -> str:
        """Return the uid of a chip that is seen for the first time, and remember it.

        `board` is what `-t board` said, None when the chip did not answer. A fallback that was once
        given out stays: a new name for the same chip would read as a lost chip.
        """
        slot, fallback = _slot(row), _fallback(row)
        kept = self._uids.get(slot)
        printed = board.uuid.replace(" ", "-") if board is not None and board.uuid else None
        uid = kept or fallback if kept == fallback or printed is None else printed
        if uid in taken:  # virtual chips of one die print the same id
            uid = fallback
        self._uids[slot] = uid
        return uid

    def of_device(self, pci: str) -> str:
        """Return the uid of the chip at a PCI address that no tool shows."""
        return self._uids.get(f"{pci}/0", f"ascend-{pci}")

    def kept(self) -> dict[str, str]:
        """Return everything that was found, for `restore`; empty where no chip was ever seen."""
        return dict(self._uids)

    def restore(self, kept: Mapping[str, str]) -> None:
        """Take over what an earlier run of the agent found."""
        self._uids.update(kept)


def _slot(row: ChipReport) -> str:
    return f"{row.pci}/{row.die}" if row.pci else f"npu{row.index}/{row.die}"


def _fallback(row: ChipReport) -> str:
    place = row.pci or f"npu{row.index}"
    return f"ascend-{place}-{row.die}" if row.die else f"ascend-{place}"
