"""The chips of this host: who they are, where npu-smi addresses them, and who is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from chipmedic import Chip
from chipmedic.errors import ToolBlocked
from chipmedic.tool_report import ChipReport, ProblemKind
from chipmedic_collectors.ascend.asking import Tools
from chipmedic_collectors.ascend.identity import Identities, Place
from chipmedic_collectors.tool_asking import Asked

_BOARD_SECONDS = 5.0


class Roster:
    """Every chip that this run of the agent has seen, by uid and by place."""

    def __init__(self, tools: Tools) -> None:
        self.identities = Identities()
        self._tools = tools
        self._chips: dict[str, Chip] = {}
        self._places: dict[Place, str] = {}
        self._takes_chip_option = True

    def __iter__(self) -> Iterator[Chip]:
        return iter(self._chips.values())

    def __len__(self) -> int:
        return len(self._chips)

    def at(self, place: Place) -> Chip | None:
        """Return the chip that npu-smi addresses so."""
        uid = self._places.get(place)
        return self._chips.get(uid) if uid is not None else None

    def cards(self) -> list[int]:
        """Return the NPU ids, in order."""
        return sorted({npu for npu, _ in self._places})

    def of_card(self, npu: int) -> list[Chip]:
        """Return the chips of one card, by die."""
        return [self._chips[uid] for place, uid in sorted(self._places.items()) if place[0] == npu]

    def others(self, seen: Collection[str]) -> list[Chip]:
        """Return the chips that are not among `seen`."""
        return [chip for uid, chip in self._chips.items() if uid not in seen]

    def uid_at(self, pci: str) -> str:
        """Return the uid of the chip at a PCI address that no tool shows."""
        return self.identities.of_device(pci)

    def known(self, row: ChipReport) -> Chip | None:
        """Return the chip of a row that was identified before; None for a new or another one."""
        if row.index is None:  # a row that lost its first line still has its address
            same = (c for c in self._chips.values() if row.pci and c.pci == row.pci)
            return next((chip for chip in same if chip.die == row.die), None)
        chip = self.at((row.index, row.die))
        moved = chip is not None and row.pci is not None and chip.pci not in (None, row.pci)
        return None if moved else chip

    def identify(self, row: ChipReport) -> Chip | None:
        """Ask a chip for its identity and enter it; None for a row without a number."""
        npu = row.index
        if npu is None:
            return None
        board = self._board(npu, row.die)
        row = replace(row, pci=row.pci or (board.pci if board is not None else None))
        uid = self.identities.choose(row, board, self._places.values())
        chip = Chip(
            uid=uid,
            vendor="ascend",
            model=row.name or (board.name if board is not None else None) or "Ascend",
            index=npu,
            die=row.die,
            serial=board.serial if board is not None else None,
            pci=row.pci,
        )
        self._chips[uid] = chip
        self._places[npu, row.die] = uid
        return chip

    def set_serial(self, npu: int, serial: str) -> None:
        """Enter the serial number of a card, for all of its chips."""
        for chip in self.of_card(npu):
            self._chips[chip.uid] = replace(chip, serial=serial)

    def set_kernel_name(self, place: Place, name: str) -> None:
        """Enter what the driver calls a chip in the kernel log."""
        if (chip := self.at(place)) is not None:
            self._chips[chip.uid] = replace(chip, kernel_names=(name,))

    def _board(self, npu: int, die: int) -> ChipReport | None:
        """Return what `-t board` says of one chip; None when the chip does not answer it."""
        words = ["info", "-t", "board", "-i", str(npu)]
        try:
            if self._takes_chip_option:
                asked = self._tools.npu_smi(*words, "-c", str(die), timeout_seconds=_BOARD_SECONDS)
                if (found := chip_of(asked, die)) is not None:
                    return found
                if not asked.has(ProblemKind.UNSUPPORTED, ProblemKind.MALFORMED):
                    return None
            found = chip_of(self._tools.npu_smi(*words, timeout_seconds=_BOARD_SECONDS), die)
        except ToolBlocked as e:
            if e.abandoned_pid is not None:
                raise
            return None
        self._takes_chip_option = self._takes_chip_option and found is None  # the 950 has no -c
        return found


def chip_of(asked: Asked, die: int) -> ChipReport | None:
    """Return what the tool said of one chip of the card that it was asked about."""
    return next((chip for chip in asked.report.chips if chip.die == die), None)
