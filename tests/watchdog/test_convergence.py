"""Whatever is lost, repeated or cut on the way, the store comes to the node's own truth.

A model of an agent (truth, spool, stream) against the real commit over a real SQLite store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.pool import StaticPool

from chipmedic.model import Coverage, Fault, Severity, Verdict
from chipmedic_watchdog.intake.arrival import Arrival, Greeting
from chipmedic_watchdog.intake.commit import Memory, commit_group
from chipmedic_watchdog.intake.message import (
    Batch,
    ReceivedEvent,
    ReceivedHeartbeat,
    ReceivedSnapshot,
)
from chipmedic_watchdog.store import database as store
from chipmedic_watchdog.store import schema
from fake_agent import a_fault

COMPONENTS = ("chip:a",)
KINDS = ("link.down", "chip.lost")
SOURCES = {"link.down": "nvidia", "chip.lost": "kernel_log"}


class PowerCut(Exception):
    """Ends a transaction before its commit."""


def _cut_power() -> None:
    raise PowerCut


def memory_engine() -> Engine:
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", store._set_up_sqlite)
    event.listen(engine, "begin", store._begin_sqlite)
    return engine


class Node(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine = memory_engine()
        schema.METADATA.create_all(self.engine)
        self.truth: dict[tuple[str, str], Fault] = {}
        self.epoch = 0
        self.spool: dict[int, ReceivedEvent] = {}
        self.next_seq = 1
        self.sent_seq = 0
        self.stream: list[Any] = []
        self.memory = Memory()
        self.at = 1_000.0
        self.has_lost = False
        self.openings = 0

    def teardown(self) -> None:
        try:
            self.events_alone_are_enough()
            self.all_is_delivered()
        finally:
            self.engine.dispose()

    @initialize()
    def connect(self) -> None:
        self.stream.clear()
        acked = self._commit([self._greeting()])
        self.sent_seq = acked
        self.spool = {seq: event for seq, event in self.spool.items() if seq > acked}

    def _greeting(self) -> Greeting:
        return Greeting(
            machine_id="m", boot_id="b", boot_time=1.0, agent_version="1", labels={},
            inventory=(), first_seq=min(self.spool, default=self.next_seq), next_seq=self.next_seq,
        )  # fmt: skip

    def _commit(self, bodies: list[Any], *, is_cut: bool = False) -> int:
        arrivals = [
            Arrival(node="n", epoch=f"e{self.epoch}", received_at=self.at, body=body)
            for body in bodies
        ]
        try:
            with self.engine.begin() as connection:
                committed = commit_group(connection, arrivals, self.memory)
                if is_cut:
                    _cut_power()
        except PowerCut:
            return -1
        self.memory.take_over(committed)
        return committed.acked.get(("n", f"e{self.epoch}"), 0)

    def _emit(self, transition: str, fault: Fault | None) -> None:
        self.spool[self.next_seq] = ReceivedEvent(
            seq=self.next_seq, at=self.at, transition=transition, fault=fault
        )
        self.next_seq += 1

    @rule(
        component=st.sampled_from(COMPONENTS),
        kind=st.sampled_from(KINDS),
        severity=st.sampled_from(Severity),
    )
    def fault_begins_or_changes(self, component: str, kind: str, severity: Severity) -> None:
        self.at += 1
        known = self.truth.get((component, kind))
        if known is None:
            self.openings += 1
            fault = a_fault(component, kind, severity=severity, source=SOURCES[kind], since=self.at)
        else:
            fault = replace(known, count=known.count + 1, severity=severity)
        self.truth[component, kind] = fault
        self._emit("raised" if known is None else "updated", fault)

    @precondition(lambda self: self.truth)
    @rule(data=st.data())
    def fault_ends(self, data: st.DataObject) -> None:
        self.at += 1
        key = data.draw(st.sampled_from(sorted(self.truth)))
        self._emit("cleared", self.truth.pop(key))

    @rule(count=st.integers(1, 4))
    def send_events(self, count: int) -> None:
        """Queue the next events on the stream."""
        events = [self.spool[n] for n in sorted(self.spool) if n > self.sent_seq][:count]
        if events:
            self.sent_seq = events[-1].seq
            self.stream.append(Batch(tuple(events)))

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """A sender that does not trust its acknowledgement, or a late copy of a message."""
        sent = [self.spool[n] for n in sorted(self.spool) if n <= self.sent_seq]
        start = data.draw(st.integers(0, len(sent)))
        self.stream.append(Batch(tuple(sent[start : start + data.draw(st.integers(1, 3))])))

    @rule(blind=st.sampled_from(["", "nvidia", "kernel_log"]))
    def send_snapshot(self, blind: str) -> None:
        """Queue the whole truth of now, be the events before it sent or not."""
        self.stream.append(self._snapshot(blind))

    def _snapshot(self, blind: str = "") -> ReceivedSnapshot:
        coverage = tuple(
            Coverage(source, self.at, Verdict.UNKNOWN if source == blind else Verdict.OK)
            for source in SOURCES.values()
        )
        beat = ReceivedHeartbeat(at=self.at, coverage=coverage, jobs=(), is_whole=True)
        seen = tuple(fault for fault in self.truth.values() if fault.source != blind)
        return ReceivedSnapshot(
            at=self.at, as_of_seq=self.next_seq, open=seen, inventory=(), beat=beat, is_whole=True
        )

    @precondition(lambda self: self.stream)
    @rule(count=st.integers(1, 4), cuts=st.integers(0, 1))
    def arrive(self, count: int, cuts: int) -> None:
        """Commit a group; a cut transaction is run again."""
        group, self.stream = self.stream[:count], self.stream[count:]
        for _ in range(cuts):
            self._commit(group, is_cut=True)
        self._commit(group)

    @rule(what=st.sampled_from(["cut", "cut", "restart", "overflow", "spool lost"]))
    def disaster(self, what: str) -> None:
        if what == "overflow":
            self._overflow()
            return
        if what == "spool lost":
            # A new epoch: numbering starts again, what was not delivered is gone.
            self.has_lost |= bool(self.spool)
            self.epoch += 1
            self.spool.clear()
            self.next_seq = 1
        elif what == "restart":
            self.memory = Memory()
        self.connect()

    def _overflow(self) -> None:
        """The oldest event that was not sent is lost, and the loss announced."""
        unsent = [seq for seq in sorted(self.spool) if seq > self.sent_seq]
        if unsent:
            self.has_lost = True
            del self.spool[unsent[0]]
            self._emit("gap", None)

    @invariant()
    def every_event_is_there_once_and_every_open_fault_is_one(self) -> None:
        with self.engine.connect() as connection:
            table = schema.events.c
            seqs = connection.execute(select(table.epoch, table.seq)).all()
            faults = schema.faults.c
            keys = connection.execute(
                select(faults.component, faults.kind).where(faults.state != "cleared")
            ).all()
        assert len(set(seqs)) == len(seqs)
        assert len(set(keys)) == len(keys)

    def all_is_delivered(self) -> None:
        """The promise: after a connection that holds, the store is the node's truth."""
        self.connect()
        self._commit([Batch(tuple(self.spool[n] for n in sorted(self.spool)))])
        # Events at the very end may be lost with nothing after them: the gap event closes it.
        self._emit("gap", None)
        self._commit([Batch((self.spool[self.next_seq - 1],))])
        self._commit([self._snapshot()])
        self.sent_seq = self.next_seq - 1
        assert self._stored() == {
            key: (int(fault.severity), fault.count, "open") for key, fault in self.truth.items()
        }

    def events_alone_are_enough(self) -> None:
        """Where nothing was lost no snapshot is needed, and those on the way do no harm."""
        if self.has_lost:
            return
        self._commit([*self.stream, Batch(())])
        self.stream = []
        rest = [self.spool[n] for n in sorted(self.spool) if n > self.sent_seq]
        self._commit([Batch(tuple(rest))])
        self.sent_seq = self.next_seq - 1
        truth = {key: (int(fault.severity), fault.count) for key, fault in self.truth.items()}
        assert {key: row[:2] for key, row in self._stored().items()} == truth
        with self.engine.connect() as connection:
            rows = connection.execute(select(schema.faults.c.id)).all()
        assert len(rows) == self.openings, (
            "each fault has begun once, and no snapshot began another"
        )

    def _stored(self) -> dict[tuple[str, str], tuple[int, int, str]]:
        faults = schema.faults
        query = select(faults).where(faults.c.state != "cleared")
        with self.engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return {
            (row["component"], row["kind"]): (row["severity"], row["count"], row["state"])
            for row in rows
        }


TestConvergence = Node.TestCase
TestConvergence.settings = settings(max_examples=120, stateful_step_count=20, deadline=None)
