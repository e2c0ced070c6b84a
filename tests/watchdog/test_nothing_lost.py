"""The whole way of a fault, real at both ends, through any history of disasters.

The agent's own pipeline, journal and spool on a real folder, its messages as bytes, the watchdog's
own reading and commit over a real store. Kills, cuts, lost acknowledgements, a lost spool, a wiped
node, an old copy of the store put back, and clocks that are set: in the end the store holds what
the node has, nothing was opened twice, and nothing ended before it began.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from agent_story import BOOT, Heat, a_chip, component
from chipmedic.metric import Metric
from chipmedic.model import Coverage, Raised, Reading, Scan, Verdict
from chipmedic_agent.disk import Disk
from chipmedic_agent.journal import Journal
from chipmedic_agent.pipeline import Pipeline
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.intake import hello as hello_message
from chipmedic_watchdog.intake import message
from chipmedic_watchdog.intake.arrival import Arrival
from chipmedic_watchdog.intake.commit import Memory, commit_group
from chipmedic_watchdog.intake.message import Batch
from chipmedic_watchdog.store import schema
from watchdog.test_convergence import memory_engine

CHIPS = ("A", "B")
HOT, COLD = 99.0, 40.0
DAY_SECONDS = 86_400.0
FOLDERS = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Agent:
    """Pipeline and journal on a folder, as the daemon puts them together."""

    def __init__(self, folder: Path, at: float) -> None:
        self.at = at
        self.pipeline = Pipeline([Heat()], boot_id=BOOT)
        self.disk = Disk(folder, starts=self.pipeline.starts(), bytes_max=1 << 20, boot_id=BOOT)
        self.journal = Journal(
            self.disk, boot_id=BOOT, now=lambda: self.at, remember=self.pipeline.remember
        )

    async def start(self) -> None:
        opened = await self.journal.open()
        self.journal.write(self.pipeline.restore(opened, (), self.at), self.at)
        await self.journal.save()

    def scan(self, celsius: dict[str, float]) -> int:
        """Read every sensor once; returns how many faults have begun."""
        self.at += 1
        changes, is_changed = self.pipeline.consume(
            Scan(
                source="acme",
                at=self.at,
                chips=tuple(a_chip(uid) for uid in celsius),
                readings=tuple(
                    Reading(component(uid), Metric.TEMPERATURE, value)
                    for uid, value in celsius.items()
                ),
            )
        )
        self.journal.write(changes, self.at)
        if is_changed:
            self.journal.touch()
        return sum(isinstance(change, Raised) for change in changes)

    def die(self) -> None:
        """Go as by kill -9: what is not durable is gone, the kernel lets go of the lock."""
        self.journal._worker.close()
        if self.disk._lock is not None:
            os.close(self.disk._lock)
            self.disk._lock = None

    def hello(self) -> pb.Hello:
        journal = self.journal
        return pb.Hello(
            node="n", boot_id=BOOT, epoch=journal.epoch, machine_id="m",
            first_seq=journal.first_seq, next_seq=journal.next_seq,
        )  # fmt: skip

    def snapshot(self) -> bytes:
        covered = codec.coverage_to_message(Coverage("acme", self.at, Verdict.OK))
        return pb.AgentMessage(
            snapshot=pb.Snapshot(
                at=self.at,
                open=[codec.fault_to_message(fault) for fault in self.pipeline.book.open()],
                coverage=[covered],
                as_of_seq=self.journal.next_seq,
            )
        ).SerializeToString()


class WholeWay(RuleBasedStateMachine):
    """One node, one watchdog, and what befalls them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="chipmedic-", dir=FOLDERS))
        self.engine = memory_engine()
        schema.METADATA.create_all(self.engine)
        self.celsius = dict.fromkeys(CHIPS, COLD)
        self.agent = Agent(self.folder, 1e6)
        self.wait(self.agent.start())
        self.memory = Memory()
        self.at = 1e6
        self.sent_seq = 0
        self.stream: list[bytes] = []
        self.copy: sqlite3.Connection | None = None
        self.begun = 0
        """Faults that the agent has found and made durable."""
        self.has_forgotten = False
        """An old store was put back, or the node has lost what it had to tell."""

    def wait(self, work: Any) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.all_is_well_in_the_end()
        finally:
            self.agent.die()
            self.runner.close()
            self.engine.dispose()
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- the node

    @rule(chip=st.sampled_from(CHIPS), is_told=st.booleans())
    def sensor_changes(self, chip: str, is_told: bool) -> None:
        self.celsius[chip] = COLD if self.celsius[chip] == HOT else HOT
        self._scan()
        if is_told:
            self.all_is_delivered()

    def _scan(self) -> None:
        self.begun += self.agent.scan(self.celsius)
        self.wait(self.agent.journal.save())

    @rule(chip=st.sampled_from(CHIPS))
    def killed_before_it_is_durable(self, chip: str) -> None:
        self.celsius[chip] = COLD if self.celsius[chip] == HOT else HOT
        self.agent.scan(self.celsius)
        self._restart_agent()

    @rule(what=st.sampled_from(["nothing", "nothing", "spool", "everything"]))
    def agent_dies_and_loses(self, what: str) -> None:
        self.agent.die()
        if what == "spool":
            self.has_forgotten |= self.agent.journal.backlog_events > 0
            shutil.rmtree(self.folder / "spool", ignore_errors=True)
        elif what == "everything":
            self.has_forgotten = True
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        self._restart_agent()

    def _restart_agent(self) -> None:
        self.agent.die()
        self.agent = Agent(self.folder, self.agent.at)
        self.wait(self.agent.start())
        self.connect()

    @rule(seconds=st.sampled_from([-DAY_SECONDS, -5.0, 5.0, DAY_SECONDS]), is_ours=st.booleans())
    def a_clock_is_set(self, seconds: float, is_ours: bool) -> None:
        if is_ours:
            self.at += seconds
        else:
            self.agent.at += seconds

    # -- the network

    @initialize()
    def first_connection(self) -> None:
        self.connect()

    @rule()
    def connect(self) -> None:
        """The old stream is cut; what was on it is lost."""
        self.stream.clear()
        for _ in range(3):
            greeting = hello_message.check(self.agent.hello())
            acked = self._commit([greeting])
            journal = self.agent.journal
            if acked <= journal.durable_seq:
                break
            # As the session does it: the watchdog knows this epoch better than we do.
            self.wait(journal.begin_epoch("the watchdog has more"))
            self.wait(journal.save())
        journal.acknowledge(acked)
        self.sent_seq = max(acked, journal.first_seq - 1)

    @rule(count=st.integers(1, 3))
    def send_events(self, count: int) -> None:
        records = self.wait(self.agent.journal.read(self.sent_seq + 1))[:count]
        if records:
            self.sent_seq = records[-1].seq
            events = [pb.Event.FromString(record.payload) for record in records]
            batch = pb.AgentMessage(events=pb.EventBatch(events=events))
            self.stream.append(batch.SerializeToString())

    @rule()
    def send_snapshot(self) -> None:
        self.stream.append(self.agent.snapshot())

    @precondition(lambda self: self.stream)
    @rule(count=st.integers(1, 4), is_heard=st.booleans())
    def arrive(self, count: int, is_heard: bool) -> None:
        group, self.stream = self.stream[:count], self.stream[count:]
        acked = self._commit([_body(data) for data in group])
        if is_heard:
            self.agent.journal.acknowledge(min(acked, self.sent_seq))

    @rule()
    def all_is_delivered(self) -> None:
        """The network is well for a moment, which is most of the time."""
        if self.stream:
            self.arrive(len(self.stream), is_heard=True)
        while self.wait(self.agent.journal.read(self.sent_seq + 1)):
            self.send_events(100)
            self.arrive(1, is_heard=True)

    # -- the watchdog

    def _commit(self, bodies: list[Any]) -> int:
        self.at += 1
        epoch = self.agent.journal.epoch
        arrivals = [
            Arrival(node="n", epoch=epoch, received_at=self.at, body=body) for body in bodies
        ]
        with self.engine.begin() as connection:
            committed = commit_group(connection, arrivals, self.memory)
        self.memory.take_over(committed)
        return committed.acked.get(("n", epoch), 0)

    @rule()
    def watchdog_is_killed(self) -> None:
        self.memory = Memory()
        self.connect()

    @rule()
    def the_store_is_copied(self) -> None:
        self.copy = sqlite3.connect(":memory:")
        self._driver().backup(self.copy)

    @precondition(lambda self: self.copy is not None)
    @rule()
    def an_old_copy_is_put_back(self) -> None:
        assert self.copy is not None
        self.copy.backup(self._driver())
        self.has_forgotten = True
        self.watchdog_is_killed()

    def _driver(self) -> sqlite3.Connection:
        connection = self.engine.raw_connection().driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    # -- the promises

    @invariant()
    def nothing_ends_before_it_begins_and_nothing_is_open_twice(self) -> None:
        rows = self._faults()
        assert all(row.cleared_at is None or row.cleared_at >= row.opened_at for row in rows)
        keys = [(row.component, row.kind) for row in rows if row.state != "cleared"]
        assert len(keys) == len(set(keys))

    def all_is_well_in_the_end(self) -> None:
        self.connect()
        self._scan()
        self.all_is_delivered()
        self.stream = [self.agent.snapshot()]
        self.arrive(1, is_heard=True)
        self.nothing_ends_before_it_begins_and_nothing_is_open_twice()
        rows = self._faults()
        hot = {f"chip:{chip}" for chip, celsius in self.celsius.items() if celsius == HOT}
        assert {(row.component, row.state) for row in rows if row.state != "cleared"} == {
            (name, "open") for name in hot
        }
        if not self.has_forgotten:
            assert len(rows) == self.begun, "each fault that the node has found is there once"

    def _faults(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(schema.faults)))


def _body(data: bytes) -> Any:
    """Read one message as the stream's reader does."""
    received = message.parse(data)
    assert isinstance(received, pb.AgentMessage)
    if received.HasField("snapshot"):
        return message.snapshot(received.snapshot)
    batch = message.batch(received.events, len(data))
    assert isinstance(batch, Batch)
    return batch


TestWholeWay = WholeWay.TestCase
TestWholeWay.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
