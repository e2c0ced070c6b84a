"""From a scan to what is to be told: inventory, detectors, fault book. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from chipmedic.detector import Detector
from chipmedic.model import HOST, Change, ChipProcess, Component, Event, JobStatus, Scan
from chipmedic_agent.disk import Opened
from chipmedic_agent.fault_book import FaultBook
from chipmedic_agent.inventory import Departure, Inventory, of_chip
from chipmedic_agent.readings import Readings
from chipmedic_agent.rule_wall import HOLDER, RuleWall
from chipmedic_agent.state import AgentState
from chipmedic_proto.codec import change_from_message
from chipmedic_proto.v1 import chipmedic_pb2 as pb

AGENT = "agent"
"""The source of what the agent itself has to tell its detectors."""
BOOT_CODE = "agent:boot"
FORGET_CODE = "agent:forget"
CLOCK_SECONDS = 2.0
"""How long detectors may go without a scan while there are any."""
PROCESSES_SECONDS = 60.0
"""How long the processes of a source count that it has not named again: it may ask for them rarely.
Whoever uses them looks at `/proc` anyway."""


class Pipeline:
    """All that the agent knows, changed by one scan at a time."""

    def __init__(self, detectors: Iterable[Detector[Any]], *, boot_id: str) -> None:
        self.boot_id = boot_id
        self.book = FaultBook()
        self.inventory = Inventory()
        self.readings = Readings()
        self.wall = RuleWall()
        self.jobs: tuple[JobStatus, ...] = ()
        self.cursors: dict[str, str] = {}
        self.fencing_token = 0
        self._detectors: dict[str, Detector[Any]] = {}
        self._states: dict[str, Any] = {}
        self._quiet: set[str] = set()
        self._judged_at = -CLOCK_SECONDS
        self._processes: dict[str, tuple[float, tuple[ChipProcess, ...]]] = {}
        self.retune(detectors)

    def knows_chips_of(self, source: str) -> bool:
        """Tell whether chips of this source are known."""
        return self.inventory.has_source(source)

    def is_open_for(self, source: str) -> bool:
        """Tell whether a fault that this check saw is open."""
        return self.book.is_open_for(source)

    def starts(self) -> Mapping[str, Any]:
        """Return the states that the detectors start from, by name."""
        return {name: detector.start() for name, detector in self._detectors.items()}

    def retune(self, detectors: Iterable[Detector[Any]]) -> None:
        """Go on with other detectors (or other thresholds); states are kept by name."""
        self._detectors = {detector.name: detector for detector in detectors}
        for name, detector in self._detectors.items():
            self._states.setdefault(name, detector.start())

    def restore(self, opened: Opened, forget: Iterable[str], now: float) -> list[Change]:
        """Go on where an earlier run ended; after a reboot, say so to every detector."""
        state = opened.state
        if state is not None:
            self.book = FaultBook(state.entries)
            self.inventory = Inventory(state.inventory)
            self.cursors = dict(state.cursors)
            self.fencing_token = state.fencing_token
            self._states.update(state.detectors)
        for record in opened.replay:
            change = change_from_message(pb.Event.FromString(record.payload))
            if change is not None:
                self.book.replay(change, now)
        remembered = state.detectors.keys() if state else ()
        self.book.disown_all_but(remembered, now)
        changes = self.forget(forget, now)
        if state is not None and state.boot_id != self.boot_id:
            changes += self._rebooted(now)
        return changes

    def remember(self) -> AgentState:
        """Return everything that must outlive the process; the journal adds the events."""
        return AgentState(
            boot_id=self.boot_id,
            epoch="",
            next_seq=0,
            entries=self.book.entries(),
            detectors={name: self._states[name] for name in self._detectors},
            inventory=self.inventory.known(),
            cursors=dict(self.cursors),
            fencing_token=self.fencing_token,
        )

    def consume(
        self, scan: Scan, cursor: str | None = None, *, period_seconds: float = 5.0
    ) -> tuple[list[Change], bool]:
        """Take in a scan; return what is to be told, and whether anything else must be saved."""
        scan, departures = self.inventory.complete(scan)
        changes = self._depart(departures, scan.at)
        self.readings.take(scan, period_seconds=period_seconds)
        is_noted = self._note(scan, cursor)
        if self._is_idle(scan):
            return changes, is_noted or bool(changes)
        found, is_changed = self._judge(scan)
        changes += found
        return changes, is_noted or is_changed or bool(changes)

    def tick(self, now: float, looks: Callable[[str], bool]) -> list[Change]:
        """Return what time alone brings: repeats held back, and faults that nobody remembers."""
        return [*self.book.repeats_due(now), *self.book.expire_orphans(now, looks)]

    def forget(self, uids: Iterable[str], at: float) -> list[Change]:
        """Leave chips out of the inventory, as the operator says."""
        return self._depart(self.inventory.forget(uids), at)

    def retire(self, is_gone: Callable[[Component], bool], at: float, reason: str) -> list[Change]:
        """End the faults of components that are no longer watched, in the detectors too."""
        components = {fault.component for fault in self.book.open() if is_gone(fault.component)}
        events = tuple(
            Event(component=component, code=FORGET_CODE, message=reason, at=at)
            for component in sorted(components, key=str)
        )
        if not events:
            return []
        # The book first: the detectors' own clearings would not have the reason.
        changes = self.book.retire(is_gone, at, reason)
        found, _ = self._judge(Scan(source=AGENT, at=at, events=events))
        return changes + found

    def processes(self, now: float) -> list[ChipProcess]:
        """Return which processes hold which chips, as far as it was told lately."""
        recent = [found for at, found in self._processes.values() if now - at < PROCESSES_SECONDS]
        return [process for found in recent for process in found]

    def _is_idle(self, scan: Scan) -> bool:
        """Tell whether a scan brings nothing new, not even the time.

        A quiet log or a node without jobs is looked at every second or two, and detectors need an
        empty scan only as the end of a trouble or as a clock.
        """
        is_empty = not (scan.readings or scan.events or scan.gaps or scan.jobs or scan.chips)
        was_empty = scan.source in self._quiet
        (self._quiet.add if is_empty else self._quiet.discard)(scan.source)
        is_clock = not 0 <= scan.at - self._judged_at < CLOCK_SECONDS
        if is_empty and was_empty and not is_clock:
            return True
        self._judged_at = scan.at
        return False

    def _judge(self, scan: Scan) -> tuple[list[Change], bool]:
        """Let every detector see a scan; return what is to be told, and whether a state changed."""
        changes: list[Change] = []
        is_changed = False
        for name, detector in self._detectors.items():
            before = self._states[name]
            after, found = self.wall.step(name, detector, before, scan)
            if after is not before and after != before:
                self._states[name] = after
                is_changed = True
            changes += self.book.apply(name, found, scan.at)
        changes += self.book.apply(HOLDER, self.wall.changes(scan.at), scan.at)
        return changes, is_changed

    def _note(self, scan: Scan, cursor: str | None) -> bool:
        """Keep what a scan says besides faults; return whether it must be saved."""
        if scan.processes:
            self._processes[scan.source] = (scan.at, scan.processes)
        if scan.source == "jobs":
            self.jobs = scan.jobs
        if cursor is None or self.cursors.get(scan.source) == cursor:
            return False
        self.cursors[scan.source] = cursor
        return True

    def _depart(self, departures: Iterable[Departure], at: float) -> list[Change]:
        changes: list[Change] = []
        for gone in departures:
            changes += self.retire(partial(of_chip, uid=gone.uid), at, gone.reason)
        return changes

    def _rebooted(self, now: float) -> list[Change]:
        changes = self.book.rebooted(now)
        boot = Event(
            component=HOST,
            code=BOOT_CODE,
            message=f"the host was rebooted; boot id {self.boot_id}",
            at=now,
            id=self.boot_id,
        )
        told, _ = self.consume(Scan(source=AGENT, at=now, events=(boot,)))
        return changes + told
