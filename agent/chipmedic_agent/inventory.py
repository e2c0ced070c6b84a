"""Which chips this host should have: learnt, kept across restarts, compared with every enumeration.

A chip that was here and is not shown any more is missing, also after a reboot and also when its
vendor's whole tool is gone. A chip whose PCI place is taken by a chip that was never seen before is
not missing: it was replaced, or its tool has learnt to read its serial number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from chipmedic.metric import Metric
from chipmedic.model import (
    HOST,
    Chip,
    Component,
    ComponentKind,
    Event,
    Gap,
    GapReason,
    Reading,
    Scan,
    chip_component,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownChip:
    """A chip that this host has, or had when it was last seen."""

    chip: Chip
    source: str
    """The collector that enumerates it."""
    seen_at: float
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class Departure:
    """A chip that is known no longer, and why; its faults end with it."""

    uid: str
    reason: str


def _place(pci: str) -> str:
    """Return a PCI address without its function."""
    return pci.partition(".")[0].lower()


class Inventory:
    """The chips of this host by uid."""

    def __init__(self, known: Iterable[KnownChip] = (), forget: Iterable[str] = ()) -> None:
        self._known = {entry.chip.uid: entry for entry in known}
        self._forget = frozenset(forget)

    def known(self) -> tuple[KnownChip, ...]:
        """Return every known chip, in order of source and index."""
        entries = list(self._known.values())
        return tuple(sorted(entries, key=lambda entry: (entry.source, entry.chip.index)))

    def chip(self, uid: str) -> Chip | None:
        """Return a chip by uid."""
        entry = self._known.get(uid)
        return entry.chip if entry else None

    def has_source(self, source: str) -> bool:
        """Tell whether chips of this source are known."""
        return any(entry.source == source for entry in list(self._known.values()))

    def forget(self, uids: Iterable[str]) -> list[Departure]:
        """Leave these chips out from now on, unless they are seen."""
        self._forget = frozenset(uids)
        gone = [uid for uid in self._forget if uid in self._known]
        return [self._drop(uid, "forgotten by the operator") for uid in gone]

    def complete(self, scan: Scan) -> tuple[Scan, list[Departure]]:
        """Learn from a scan; return it with addresses resolved and missing chips named."""
        scan = self._with_kept_names(scan)
        departures = self._learn(scan)
        if _needs_names(scan):
            readings = tuple(replace(r, component=self.resolve(r.component)) for r in scan.readings)
            events = tuple(self._resolved(event) for event in scan.events)
            gaps = tuple(replace(g, component=self.resolve(g.component)) for g in scan.gaps)
            scan = replace(scan, readings=readings, events=events, gaps=gaps)
        if scan.is_inventory:
            scan = self._with_presence(scan)
        return scan, departures

    def resolve(self, component: Component) -> Component:
        """Return the chip at a PCI address; the component itself where that is no known chip."""
        if component.kind is not ComponentKind.PCI:
            return component
        place = _place(component.name)
        here = [e for e in self._known.values() if e.chip.pci and _place(e.chip.pci) == place]
        exact = [entry for entry in here if entry.chip.pci == component.name.lower()]
        fitting = exact or here
        # Bus numbers shift when a dead card drops out: whoever answers there now is meant.
        fitting = [entry for entry in fitting if not entry.is_missing] or fitting
        return fitting[0].chip.component if len(fitting) == 1 else component

    def _resolved(self, event: Event) -> Event:
        return replace(event, component=self._called(event) or self.resolve(event.component))

    def _called(self, event: Event) -> Component | None:
        """Return the one chip that an event names in the driver's way; None for none or several.

        A number that two chips had (one is gone, the others moved up) names neither.
        """
        if event.device is None or event.component != HOST:
            return None
        called = [e.chip for e in self._known.values() if event.device in e.chip.kernel_names]
        return called[0].component if len(called) == 1 else None

    def _with_kept_names(self, scan: Scan) -> Scan:
        """Let a chip that its collector knows by its place alone keep the name that it had.

        A sick chip that cannot say its name any more is no other chip: its faults go on.
        """
        names = {chip.uid: kept for chip in scan.chips if (kept := self._kept_name(chip, scan))}
        if not names:
            return scan
        return replace(
            scan,
            chips=tuple(
                replace(self._known[names[c.uid]].chip, index=c.index) if c.uid in names else c
                for c in scan.chips
            ),
            readings=tuple(replace(r, component=_named(r.component, names)) for r in scan.readings),
            events=tuple(replace(e, component=_named(e.component, names)) for e in scan.events),
            gaps=tuple(replace(g, component=_named(g.component, names)) for g in scan.gaps),
            processes=tuple(replace(p, chip=names.get(p.chip, p.chip)) for p in scan.processes),
        )

    def _kept_name(self, chip: Chip, scan: Scan) -> str | None:
        """Return the uid of the chip that was in the place by which this one is called."""
        if chip.uid != f"{chip.vendor}-{chip.pci}" or chip.uid in self._known:
            return None
        former = self._before(chip, scan)
        return former[0] if len(former) == 1 else None

    def _learn(self, scan: Scan) -> list[Departure]:
        departures = []
        for chip in scan.chips:
            if chip.uid not in self._known:
                departures += self._replaced_by(chip, scan)
            self._known[chip.uid] = KnownChip(chip=chip, source=scan.source, seen_at=scan.at)
        return departures

    def _replaced_by(self, newcomer: Chip, scan: Scan) -> list[Departure]:
        """Drop what the newcomer's place held before, unless that is in this scan too."""
        place = f"its place is taken by {newcomer.uid}"
        return [self._drop(uid, place) for uid in self._before(newcomer, scan)]

    def _before(self, newcomer: Chip, scan: Scan) -> list[str]:
        """Return the chips that the newcomer's place held before and that are not shown now."""
        if newcomer.pci is None:
            return []
        shown = {chip.uid for chip in scan.chips}
        return [
            entry.chip.uid
            for entry in self._known.values()
            if (entry.chip.pci, entry.chip.die) == (newcomer.pci, newcomer.die)
            and entry.source == scan.source
            and entry.chip.uid not in shown
        ]

    def _drop(self, uid: str, reason: str) -> Departure:
        del self._known[uid]
        return Departure(uid, reason)

    def _with_presence(self, scan: Scan) -> Scan:
        """Say of every chip of this source whether it is here, where the scan has not said so."""
        told = set(scan.values(Metric.PRESENT))
        dark = {gap.component for gap in scan.gaps if gap.metric is None}
        shown = {chip.component for chip in scan.chips}
        readings = [Reading(c, Metric.PRESENT, 1.0) for c in sorted(shown - told - dark, key=str)]
        gaps = []
        for entry in self.known():
            component = entry.chip.component
            if entry.source != scan.source:
                continue
            is_missing = component not in shown and entry.chip.uid not in self._forget
            self._known[entry.chip.uid] = replace(entry, is_missing=is_missing)
            if is_missing and component not in dark:
                gaps.append(Gap(component, None, GapReason.MISSING, _last_seen(entry, scan.at)))
            if is_missing and component not in told:
                readings.append(Reading(component, Metric.PRESENT, 0.0))
        return replace(scan, readings=(*scan.readings, *readings), gaps=(*scan.gaps, *gaps))


def _needs_names(scan: Scan) -> bool:
    """Tell whether a scan calls a part by its address or driver's number; most scans never do."""
    parts: Iterable[Reading | Event | Gap] = chain(scan.readings, scan.events, scan.gaps)
    return any(part.component.kind is ComponentKind.PCI for part in parts) or any(
        event.device is not None for event in scan.events
    )


def _last_seen(entry: KnownChip, now: float) -> str:
    chip = entry.chip
    parts = [f"{chip.vendor} {chip.model} index {chip.index}"]
    parts += [f"pci {chip.pci}"] if chip.pci else []
    parts += [f"serial {chip.serial}"] if chip.serial else []
    return f"{', '.join(parts)}; last seen {max(now - entry.seen_at, 0):.0f} s ago"


_PARTS = (ComponentKind.LINK, ComponentKind.PARTITION)
"""What is named by its chip's uid and a number behind it."""


def _named(component: Component, names: Mapping[str, str]) -> Component:
    """Return a component under the name that its chip keeps."""
    for uid, kept in names.items():
        if of_chip(component, uid):
            return replace(component, name=f"{kept}{component.name.removeprefix(uid)}")
    return component


def of_chip(component: Component, uid: str) -> bool:
    """Tell whether a component is this chip or a part of it."""
    is_part = component.kind in _PARTS and component.name.startswith(f"{uid}/")
    return is_part or component == chip_component(uid)
