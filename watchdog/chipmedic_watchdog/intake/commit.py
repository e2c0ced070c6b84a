"""One group of arrivals as one transaction of the store; runs in the writer's thread.

Exactly once in effect: an event counts when its seq is above the acknowledged one of its epoch,
which is written in the same transaction. Nothing outside the transaction changes here, so a group
that failed is simply run again. Where several watchdogs share the store, the rows of the group's
nodes are locked first: a node that has moved may still have something under way from its old place.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from chipmedic.model import HOST, Action, Fault, Severity
from chipmedic_watchdog.intake.arrival import (
    Arrival,
    Expiry,
    Greeting,
    Inventory,
    Silence,
    StateChange,
)
from chipmedic_watchdog.intake.board import WATCHDOG, FaultBoard, Key
from chipmedic_watchdog.intake.bucket import Bucket
from chipmedic_watchdog.intake.inventory import write_inventories
from chipmedic_watchdog.intake.message import (
    Batch,
    ReceivedEvent,
    ReceivedHeartbeat,
    ReceivedSnapshot,
)
from chipmedic_watchdog.intake.place import ALONE, Place
from chipmedic_watchdog.intake.progress import Track
from chipmedic_watchdog.intake.reports import Reports
from chipmedic_watchdog.intake.rows import (
    Epoch,
    event_row,
    is_elsewhere,
    load_acked,
    load_boards,
    load_nodes,
    lock_nodes,
    taken_elsewhere,
    write_boards,
)
from chipmedic_watchdog.intake.tracks import load_tracks, write_tracks
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.upsert import upsert, write_rows

Held = tuple[str, ReceivedSnapshot, float]
"""(epoch, snapshot, when it came)."""
UNREACHABLE: Key = (str(HOST), "node.unreachable")
REBOOTED = "node.rebooted"
GAP_RANGES_MAX = 20
OPENERS_MAX = 50_000
"""Nodes of which is remembered what they have opened."""
OPENINGS_PER_SECOND, OPENINGS_BURST = 0.5, 1000
"""Faults that one node opens. Each may become an incident and a page; one that raises and clears
without end must not bury those of the others."""
PROGRESS_MAX = 10_000
"""Jobs whose progress is remembered; of others the last row is read again."""


@dataclass(slots=True)
class Memory:
    """What the committer remembers between groups, so as not to read or write it again."""

    progress: dict[str, Track] = field(default_factory=dict)
    inventories: dict[str, Inventory] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    """By node: the snapshot that waits for events before it."""

    openings: dict[str, Bucket] = field(default_factory=dict)
    """By node: how many new faults it may still open."""

    def may_open(self, node: str) -> bool:
        """Take one fault that a node opens; a group that is tried again takes it again."""
        now = time.monotonic()
        bucket = self.openings.get(node)
        if bucket is None:
            while len(self.openings) >= OPENERS_MAX:
                del self.openings[next(iter(self.openings))]
            bucket = self.openings[node] = Bucket(OPENINGS_PER_SECOND, OPENINGS_BURST, now)
        return not bucket.take(1, now)

    def take_over(self, committed: Committed) -> None:
        """Remember what a durable group has changed."""
        self.progress.update(committed.progress)
        while len(self.progress) > PROGRESS_MAX:
            del self.progress[next(iter(self.progress))]
        self.inventories.update(committed.inventories)
        for node, held in committed.held.items():
            if held is None:
                self.held.pop(node, None)
            else:
                self.held[node] = held


@dataclass(slots=True)
class Committed:
    """What came of a group; to be taken over once it is durable."""

    acked: dict[Epoch, int] = field(default_factory=dict)
    progress: dict[str, Track] = field(default_factory=dict)
    inventories: dict[str, Inventory] = field(default_factory=dict)
    held: dict[str, Held | None] = field(default_factory=dict)
    """None: no longer held."""
    refused: dict[str, str] = field(default_factory=dict)
    """Streams that must not be served, with the reason."""
    committed: int = 0
    duplicates: int = 0
    unreadable: int = 0
    missing: int = 0
    refused_faults: dict[str, int] = field(default_factory=dict)
    """By node: faults that were not opened, because it has too many."""
    has_fault_news: bool = False
    has_new_progress: bool = False
    has_lost_nodes: bool = False
    """The leader is to make faults of them."""


def commit_group(
    connection: Connection, arrivals: Sequence[Arrival], memory: Memory, place: Place = ALONE
) -> Committed:
    """Write a group; the caller's transaction makes it durable."""
    return _Group(connection, arrivals, memory, place).run()


class _Group:
    def __init__(
        self, connection: Connection, arrivals: Sequence[Arrival], memory: Memory, place: Place
    ) -> None:
        self._connection = connection
        self._place = place
        self._arrivals = arrivals
        self._memory = memory
        self._result = Committed()
        self._boards: dict[str, FaultBoard] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._event_rows: list[dict[str, Any]] = []
        self._touched: set[Epoch] = set()
        self._reports = Reports(connection, memory.progress)

    def run(self) -> Committed:
        if self._place.is_shared:
            nodes = {a.node for a in self._arrivals}
            lock_nodes(self._connection, nodes)
            tracks = load_tracks(self._connection, self._jobs(nodes))
            self._reports = Reports(self._connection, tracks)
        told = [a for a in self._arrivals if not isinstance(a.body, ReceivedHeartbeat)]
        names = sorted({a.node for a in told})
        if names:
            self._boards = load_boards(self._connection, names)
            for name, board in self._boards.items():
                board.may_open = partial(self._memory.may_open, name)
            self._nodes = load_nodes(self._connection, names)
            self._result.acked = load_acked(self._connection, names)
        for arrival in self._arrivals:
            self._take(arrival)
        self._write()
        return self._result

    def _jobs(self, nodes: set[str]) -> set[str]:
        """Return the jobs of whose progress this group may tell."""
        held = [self._memory.held[node][1].beat for node in nodes & self._memory.held.keys()]
        bodies = [a.body for a in self._arrivals]
        beats = [b for b in bodies if isinstance(b, ReceivedHeartbeat)]
        beats += [b.beat for b in bodies if isinstance(b, ReceivedSnapshot)]
        return {job.job for beat in (*held, *beats) for job in beat.jobs}

    def _take(self, arrival: Arrival) -> None:
        if arrival.stream in self._result.refused:
            return
        match arrival.body:
            case Greeting():
                self._greet(arrival, arrival.body)
            case Batch():
                self._take_events(arrival, arrival.body.events)
                self._release_held(arrival)
            case ReceivedHeartbeat():
                self._reports.beat(arrival.node, arrival.body, arrival.received_at)
            case ReceivedSnapshot():
                # Not held back: a notice of an event before it must already know the chip.
                self._take_inventory(arrival.node, arrival.body.inventory)
                self._result.held[arrival.node] = (arrival.epoch, arrival.body, arrival.received_at)
                self._release_held(arrival)
            case StateChange():
                self._end_stream(arrival, arrival.body)
            case Silence():
                self._silence(arrival, arrival.body)
            case Expiry(kind):
                board = self._boards[arrival.node]
                board.clear((str(HOST), kind), arrival.received_at, "expired")

    def _greet(self, arrival: Arrival, hello: Greeting) -> None:
        node, at = arrival.node, arrival.received_at
        known = self._nodes.get(node)
        if known and (refusal := taken_elsewhere(self._connection, known, hello, self._place)):
            self._result.refused[arrival.stream] = refusal
            return
        board = self._boards[node]
        board.clear(UNREACHABLE, at, "reconnected")
        if known and known["boot_id"] and hello.boot_id and known["boot_id"] != hello.boot_id:
            board.see(_rebooted(known["boot_id"], hello, at), at)
        self._nodes.setdefault(node, _new_node(node, at)).update(
            machine_id=hello.machine_id,
            boot_id=hello.boot_id,
            node_boot_time=hello.boot_time,
            agent_version=hello.agent_version,
            labels=hello.labels,
            state="connected",
            last_seen_at=at,
            watchdog=self._place.watchdog,
            stream=arrival.stream,
            connected_at=at,
            epoch=arrival.epoch,
            catch_up_seq=max(0, hello.next_seq - 1),
            silent_since=None,
            silent_reason="",
            is_lost=False,
            is_changed=True,
        )
        # What another watchdog has heard of the node since it was last here is not remembered.
        self._take_inventory(node, hello.inventory, is_news=self._place.is_shared)
        self._result.held[node] = None
        key = (node, arrival.epoch)
        acked = self._result.acked.get(key, 0)
        # On an empty store the agent has long had earlier events acknowledged: nothing is missing.
        if acked and hello.first_seq > acked + 1:
            self._note_missing(arrival, [(acked + 1, hello.first_seq - 1)])
        self._acknowledge(key, max(acked, hello.first_seq - 1))

    def _take_inventory(self, node: str, inventory: Inventory, *, is_news: bool = False) -> None:
        known = self._result.inventories.get(node, self._memory.inventories.get(node))
        if is_news or known != inventory:
            self._result.inventories[node] = inventory

    def _take_events(self, arrival: Arrival, events: Iterable[ReceivedEvent]) -> None:
        key = (arrival.node, arrival.epoch)
        acked = self._result.acked.get(key, 0)
        board = self._boards[arrival.node]
        missing = []
        for event in events:
            if event.seq <= acked:
                self._result.duplicates += 1
                continue
            if event.seq > acked + 1:
                missing.append((acked + 1, event.seq - 1))
            acked = event.seq
            self._event_rows.append(event_row(arrival, event))
            self._result.committed += 1
            if event.transition == "unreadable":
                self._result.unreadable += 1
            if event.fault is None:
                continue
            if event.transition == "cleared":
                fault_key = (str(event.fault.component), event.fault.kind)
                board.clear(fault_key, arrival.received_at, event.detail)
            else:
                board.see(event.fault, arrival.received_at)
        self._acknowledge(key, acked)
        if missing:
            self._note_missing(arrival, missing)

    def _acknowledge(self, key: Epoch, seq: int) -> None:
        self._result.acked[key] = seq
        self._touched.add(key)

    def _note_missing(self, arrival: Arrival, ranges: list[tuple[int, int]]) -> None:
        """Keep in the history that events never came; the agent's own gap event says why."""
        count = sum(last - first + 1 for first, last in ranges)
        self._result.missing += count
        words = ", ".join(f"{first}..{last}" for first, last in ranges[:GAP_RANGES_MAX])
        gap = ReceivedEvent(
            seq=ranges[0][0],
            at=arrival.received_at,
            transition="gap",
            detail=f"{count} events never arrived: seq {words}",
        )
        self._event_rows.append(event_row(arrival, gap))

    def _release_held(self, arrival: Arrival) -> None:
        """Apply the snapshot that waits, once every event before it is in."""
        node, key = arrival.node, (arrival.node, arrival.epoch)
        held = self._result.held[node] if node in self._result.held else self._memory.held.get(node)
        acked = self._result.acked.get(key, 0)
        if held is None or held[0] != arrival.epoch or held[1].as_of_seq > acked + 1:
            return
        _, snapshot, received_at = held
        self._result.held[node] = None
        self._boards[node].reconcile(
            snapshot.open,
            {c.check: c.verdict for c in snapshot.beat.coverage},
            arrival.received_at,
            is_whole=snapshot.is_whole,
            newer=self._keys_since(key, snapshot.as_of_seq, acked),
        )
        self._reports.work(node, snapshot.beat, received_at)

    def _keys_since(self, epoch: Epoch, seq: int, acked: int) -> frozenset[Key]:
        """Return the faults that events from this seq on have told of."""
        if acked < seq:
            return frozenset()
        self._flush_events()
        table = schema.events
        rows = self._connection.execute(
            select(table.c.component, table.c.kind)
            .distinct()
            .where(table.c.node == epoch[0], table.c.epoch == epoch[1], table.c.seq >= seq)
        )
        return frozenset((row.component, row.kind) for row in rows)

    def _end_stream(self, arrival: Arrival, change: StateChange) -> None:
        """Take the end of a stream; the node may have another one by now."""
        node = self._nodes.get(arrival.node)
        if node is None or node["stream"] != arrival.stream:
            return
        node.update(state=change.state, last_seen_at=arrival.received_at, is_changed=True)
        if change.state == "silent":
            node.update(silent_since=arrival.received_at, silent_reason=change.reason)

    def _silence(self, arrival: Arrival, silence: Silence) -> None:
        """Make a fault of a node whose time to come back is over; only the leader does."""
        node = self._nodes.get(arrival.node)
        if node is None or node["stream"] != arrival.stream:
            return  # it came back, to this watchdog or to another
        if node["state"] == "connected" and is_elsewhere(self._connection, node, self._place):
            return  # the other watchdog was taken for gone, and lives
        node.update(
            state="silent",
            last_seen_at=silence.since,
            silent_since=silence.since,
            silent_reason=silence.reason,
            is_lost=not self._place.leads(self._connection),
            is_changed=True,
        )
        if node["is_lost"]:
            self._result.has_lost_nodes = True
            return
        fault = Fault(
            component=HOST,
            kind="node.unreachable",
            severity=Severity.CRITICAL,
            action=Action.NONE,
            since=silence.since,
            summary=f"the node went silent: {silence.reason.partition(';')[0]}",
            source=WATCHDOG,
            evidence=(silence.reason,),
        )
        self._boards[arrival.node].see(fault, arrival.received_at)

    def _write(self) -> None:
        self._flush_events()
        rows = [row for row in self._nodes.values() if row.pop("is_changed", False)]
        write_rows(self._connection, schema.nodes, rows)
        write_inventories(self._connection, self._result.inventories)
        self._reports.write()
        if self._place.is_shared:
            write_tracks(self._connection, self._reports.tracks, self._arrivals[-1].received_at)
        self._result.progress = self._reports.tracks
        self._result.has_new_progress = self._reports.has_progress
        self._write_epochs()
        self._result.refused_faults = {
            b.node: b.refused for b in self._boards.values() if b.refused
        }
        self._result.has_fault_news = write_boards(self._connection, self._boards.values())

    def _write_epochs(self) -> None:
        """Write how far each epoch has come; the time of its beginning stays."""
        at = self._arrivals[-1].received_at
        rows = [
            {
                "node": key[0],
                "epoch": key[1],
                "acked_seq": self._result.acked[key],
                "created_at": at,
            }
            for key in self._touched
        ]
        if rows:
            statement = upsert(self._connection, schema.epochs, ("acked_seq",))
            self._connection.execute(statement, rows)

    def _flush_events(self) -> None:
        if self._event_rows:
            # The primary key is the second guard: what is there already stays as it is.
            statement = upsert(self._connection, schema.events, ())
            self._connection.execute(statement, self._event_rows)
            self._event_rows = []


def _new_node(node: str, at: float) -> dict[str, Any]:
    return {
        "node": node,
        "first_seen_at": at,
        "skew_seconds": 0.0,
        "backlog_events": 0,
        "is_spool_failing": False,
    }


def _rebooted(old_boot_id: str, hello: Greeting, at: float) -> Fault:
    return Fault(
        component=HOST,
        kind=REBOOTED,
        severity=Severity.INFO,
        action=Action.NONE,
        since=at,
        summary="the node has rebooted",
        source=WATCHDOG,
        evidence=(f"boot id {old_boot_id} before, {hello.boot_id} now",),
    )
