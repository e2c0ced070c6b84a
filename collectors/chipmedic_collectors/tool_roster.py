"""Who the chips are that a tool shows by number: names that survive a reboot and a sick chip.

A summary often prints a number alone; serials and addresses come from other calls, and a sick chip
may not answer those. So what was once learnt is kept (also in the collector's cursor).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from chipmedic import Chip
from chipmedic.tool_report import ChipReport

Place = tuple[int, int]
"""(index, die) as the tool addresses a chip now."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What was learnt of the chip at a place."""

    pci: str | None = None
    uuid: str | None = None
    serial: str | None = None
    name: str | None = None


def place_of(row: ChipReport, position: int) -> Place:
    """Return where a row stands; a tool that does not number its chips lists them in order."""
    return (position if row.index is None else row.index, row.die)


class Roster:
    """Every chip that was seen, by uid and by place."""

    def __init__(self, vendor: str, *, trusts_serial: bool = True) -> None:
        self._vendor = vendor
        self._trusts_serial = trusts_serial
        self._identities: dict[Place, Identity] = {}
        self._chips: dict[str, Chip] = {}
        self._places: dict[Place, str] = {}
        self._uids: dict[str, str] = {}

    def __iter__(self) -> Iterator[Chip]:
        return iter(self._chips.values())

    def __len__(self) -> int:
        return len(self._chips)

    @property
    def places(self) -> frozenset[Place]:
        """Where chips were seen when the tool last showed them all."""
        return frozenset(self._places)

    def at(self, place: Place) -> Chip | None:
        """Return the chip that the tool addresses so."""
        uid = self._places.get(place)
        return self._chips.get(uid) if uid is not None else None

    def chip_of(self, row: ChipReport, position: int) -> Chip | None:
        """Return the chip that a row speaks of: by its address where both are known, else place."""
        if row.pci is not None:
            same = [c for c in self._chips.values() if c.pci == row.pci and c.die == row.die]
            if len(same) == 1:
                return same[0]
        if row.uuid is not None and row.index is None:
            return next((c for c in self._chips.values() if c.uid == row.uuid), None)
        return self.at(place_of(row, position))

    def others(self, seen: Collection[str]) -> list[Chip]:
        """Return the chips that are not among `seen`."""
        return [chip for uid, chip in self._chips.items() if uid not in seen]

    def learn(self, rows: Iterable[ChipReport]) -> None:
        """Take in what rows say of who the chips are; a silent chip keeps what was known of it."""
        for position, row in enumerate(rows):
            place = self._by_pci(row) if row.index is None else place_of(row, position)
            if place is None:
                place = place_of(row, position)
            known = self._identities.get(place, Identity())
            if row.pci is not None and known.pci not in (None, row.pci):
                known = Identity()  # another chip has this number now
            self._identities[place] = Identity(
                row.pci or known.pci,
                row.uuid or known.uuid,
                row.serial or known.serial,
                row.name or known.name,
            )

    def moved(self, rows: Iterable[ChipReport]) -> bool:
        """Say whether rows stand at other places, or name other addresses, than those known."""
        places = {place_of(row, position): row for position, row in enumerate(rows)}
        if places.keys() != self._places.keys():
            return True
        return any(
            row.pci is not None and self._identities.get(place, Identity()).pci != row.pci
            for place, row in places.items()
        )

    def enter(self, rows: Iterable[ChipReport]) -> list[Chip]:
        """Name the chip of each row and return them in order; these are all that the tool shows."""
        places = [place_of(row, position) for position, row in enumerate(rows)]
        known = [self._identities.get(place, Identity()) for place in places]
        is_shared = _shared(known)
        self._places.clear()
        sharing: Counter[str] = Counter()
        chips = []
        for place, identity in zip(places, known, strict=True):
            slot, fallback = self._slot(place, identity)
            if number := sharing[slot]:  # partitions of one device have one address
                slot, fallback = f"{slot}p{number}", f"{fallback}-p{number}"
            sharing[self._slot(place, identity)[0]] += 1
            uid = self._choose(slot, fallback, identity, is_shared)
            chip = Chip(
                uid=uid,
                vendor=self._vendor,
                model=identity.name or self._model_of(uid),
                index=place[0],
                die=place[1],
                serial=identity.serial,
                pci=identity.pci,
            )
            self._chips[uid] = chip
            self._places[place] = uid
            chips.append(chip)
        return chips

    def uid_at(self, pci: str) -> str:
        """Return the uid of the chip at a PCI address that no tool shows."""
        return self._uids.get(f"{pci}/0", f"{self._vendor}-{pci}")

    def forget(self, uid: str) -> None:
        """Leave out a chip whose place another one has taken."""
        self._chips.pop(uid, None)

    def kept(self) -> dict[str, str]:
        """Return the names that were given, for `restore`."""
        return dict(self._uids)

    def restore(self, kept: Mapping[str, str]) -> None:
        """Take over what an earlier run of the agent found."""
        self._uids.update(kept)

    def _by_pci(self, row: ChipReport) -> Place | None:
        if row.pci is None:
            return None
        same = (place for place, known in self._identities.items() if known.pci == row.pci)
        return next(same, None)

    def _model_of(self, uid: str) -> str:
        known = self._chips.get(uid)
        return known.model if known is not None else self._vendor

    def _slot(self, place: Place, identity: Identity) -> tuple[str, str]:
        """Return what a name is kept under, and the name of a chip that prints none."""
        index, die = place
        slot = f"{identity.pci}/{die}" if identity.pci else f"#{index}/{die}"
        where = identity.pci or f"{index}"
        return slot, f"{self._vendor}-{where}" + (f"-{die}" if die else "")

    def _choose(
        self,
        slot: str,
        fallback: str,
        identity: Identity,
        is_shared: Callable[[str | None], bool],
    ) -> str:
        """Return the uid of a chip.

        A fallback that was once given out stays: a new name would read as a lost chip.
        """
        serial = identity.serial if self._trusts_serial else None
        printed = next((n for n in (identity.uuid, serial) if n and not is_shared(n)), None)
        kept = self._uids.get(slot)
        uid = kept or fallback if kept == fallback or printed is None else printed
        if uid in self._places.values():
            uid = fallback
        if kept is not None and kept != uid:
            self.forget(kept)  # it was replaced by another chip
        self._uids[slot] = uid
        return uid


def _shared(known: list[Identity]) -> Callable[[str | None], bool]:
    names = Counter(name for one in known for name in {one.uuid, one.serial} if name is not None)
    return lambda name: name is not None and names[name] > 1
