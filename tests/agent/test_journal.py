"""The journal: numbers are used once, whatever the disk does and whenever the process dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_story import BOOT, Heat, a_chip, cleared, component, raised, updated
from chipmedic.errors import StoreError
from chipmedic.metric import Metric
from chipmedic.model import Change, Reading, Scan
from chipmedic_agent import journal as journal_module
from chipmedic_agent import spool as spool_module
from chipmedic_agent.disk import Disk, FolderTaken
from chipmedic_agent.journal import Journal
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.record import Rank, Record, loss_of
from chipmedic_agent.state import AgentState
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from waiting import PATIENCE_SECONDS, eventually

BYTES_MAX = 1 << 26


class Agent:
    """A pipeline and a journal on a folder, as the daemon puts them together."""

    def __init__(self, folder: Path, disk: type[Disk] = Disk) -> None:
        self.pipeline = Pipeline([Heat()], boot_id=BOOT)
        self.disk = disk(folder, starts=self.pipeline.starts(), bytes_max=BYTES_MAX, boot_id=BOOT)
        self.clock = 0.0
        self.journal = Journal(
            self.disk, boot_id=BOOT, now=lambda: self.clock, remember=self.pipeline.remember
        )

    async def start(self) -> None:
        opened = await self.journal.open()
        self.tell(self.pipeline.restore(opened, (), self.clock))

    def tell(self, changes: Iterable[Change]) -> None:
        self.journal.write(changes, self.clock)

    def heat(self, celsius: float, uid: str = "A") -> None:
        self.clock += 1
        reading = Reading(component(uid), Metric.TEMPERATURE, celsius)
        changes, is_changed = self.pipeline.consume(
            Scan(source="acme", at=self.clock, chips=(a_chip(uid),), readings=(reading,)),
            f"cursor {self.clock}",
        )
        self.tell(changes)
        if is_changed:
            self.journal.touch()

    async def read_all(self) -> list[Record]:
        found: list[Record] = []
        while batch := await self.journal.read(found[-1].seq + 1 if found else 1):
            found += batch
        return found

    def die(self) -> None:
        """Let go of the lock, as the kernel does when a process is killed."""
        if self.disk._lock is not None:
            os.close(self.disk._lock)
            self.disk._lock = None


@contextlib.asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[Agent]:
    await agent.start()
    task = asyncio.create_task(agent.journal.run())
    try:
        yield agent
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        agent.die()


def seqs(records: Sequence[Record]) -> list[int]:
    return [record.seq for record in records]


async def test_events_become_readable_when_they_are_durable(tmp_path: Path) -> None:
    async with running(Agent(tmp_path)) as agent:
        agent.tell([raised(1), updated(1)])
        assert await agent.journal.read(1) == [], "not before"
        await eventually(lambda: agent.journal.durable_seq == 2)
        assert seqs(await agent.read_all()) == [1, 2]
        assert agent.journal.backlog_events == 2
        agent.journal.acknowledge(2)
        assert (agent.journal.backlog_events, agent.journal.lag_seconds(99.0)) == (0, 0.0)


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    async with running(Agent(tmp_path)) as agent:
        agent.heat(95)
        await eventually(lambda: agent.journal.durable_seq == 1)
        epoch = agent.journal.epoch
    async with running(Agent(tmp_path)) as agent:
        assert (agent.journal.epoch, agent.journal.next_seq) == (epoch, 2)
        agent.heat(95)
        agent.heat(40)
        await eventually(lambda: agent.journal.durable_seq == 2)
        events = [pb.Event.FromString(record.payload) for record in await agent.read_all()]
        assert [event.transition for event in events] == [
            pb.TRANSITION_RAISED,
            pb.TRANSITION_CLEARED,
        ]


async def test_reading_far_back_comes_from_the_disk_in_batches(tmp_path: Path) -> None:
    async with running(Agent(tmp_path)) as agent:
        for start in range(0, 3000, 500):
            agent.tell([raised(n) for n in range(start, start + 500)])
            await eventually(lambda: agent.journal.durable_seq == agent.journal.next_seq - 1)
        assert len(await agent.journal.read(1)) == 512
        assert seqs(await agent.read_all()) == list(range(1, 3001))


async def test_a_second_agent_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with running(Agent(tmp_path)):
        with pytest.raises(FolderTaken, match="in use by another agent"):
            await Agent(tmp_path).start()


# -- kills


class Killed(BaseException):
    """The process ended here."""


@contextlib.contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the process die at the n-th touch of the disk; half of that write may be there."""
    count = 0
    real = {name: getattr(os, name) for name in ("write", "fsync", "fdatasync", "replace")}

    def die_at(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                if name == "write":
                    real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                raise Killed
            return real[name](*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(os, name, die_at(name))
        yield


@pytest.mark.parametrize("step", range(1, 28))
async def test_kill_at_every_touch_of_the_disk_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Heat up, cool down, heat up; a kill in any write; then the same sensor goes on."""
    course = [95, 95, 40, 95, 95]
    first = Agent(tmp_path)
    await first.start()
    done = 0
    with killed_at(step, monkeypatch):
        try:
            for celsius in course:
                first.heat(celsius)
                await first.journal.save()
                done += 1
        except Killed:
            pass
    first.die()
    second = Agent(tmp_path)
    await second.start()
    # A source with a cursor goes on where the saved state says.
    cursor = second.pipeline.cursors.get("acme", "cursor 0.0")
    second.clock = float(cursor.split()[1])
    for celsius in course[int(second.clock) :]:
        second.heat(celsius)
        await second.journal.save()
    events = [pb.Event.FromString(record.payload) for record in await second.read_all()]
    second.die()
    assert [event.seq for event in events] == [1, 2, 3]
    assert [event.transition for event in events] == [
        pb.TRANSITION_RAISED,
        pb.TRANSITION_CLEARED,
        pb.TRANSITION_RAISED,
    ]
    assert [event.fault.count for event in events] == [1, 1, 1]
    assert done <= len(course)


async def test_a_lost_state_file_is_made_up_from_the_spool(tmp_path: Path) -> None:
    async with running(Agent(tmp_path)) as agent:
        agent.tell([raised(1), raised(2), cleared(1)])
        await eventually(lambda: agent.journal.durable_seq == 3)
    (tmp_path / "state.json").unlink()
    async with running(Agent(tmp_path)) as agent:
        assert [fault.component.name for fault in agent.pipeline.book.open()] == ["NPU-2"]
        assert agent.journal.next_seq == 4


async def test_a_lost_spool_is_a_new_epoch_that_says_what_is_missing(tmp_path: Path) -> None:
    async with running(Agent(tmp_path)) as agent:
        for n in range(3):
            agent.tell([raised(n)])
            await eventually(lambda: agent.journal.durable_seq == agent.journal.next_seq - 1)
        epoch = agent.journal.epoch
    shutil.rmtree(tmp_path / "spool")
    async with running(Agent(tmp_path)) as agent:
        assert agent.journal.epoch != epoch
        gap, last = await agent.read_all()
        assert (gap.rank, loss_of(gap).damaged) == (Rank.GAP, 2)
        assert (last.seq, last.rank) == (2, Rank.CRITICAL)


async def test_a_spool_cut_by_a_broken_disk_reports_what_the_state_knows(tmp_path: Path) -> None:
    async with running(Agent(tmp_path)) as agent:
        for n in range(3):
            agent.tell([raised(n)])
            await eventually(lambda: agent.journal.durable_seq == agent.journal.next_seq - 1)
    segment = next(tmp_path.glob("spool/*/*.seg"))
    segment.write_bytes(b"")
    async with running(Agent(tmp_path)) as agent:
        gap, last = await agent.read_all()
        assert (gap.seq, loss_of(gap).damaged, last.seq) == (2, 2, 3)


# -- a failing disk


class SickDisk(Disk):
    """A disk that refuses or hangs while it is told to."""

    refuse = False
    hang: threading.Event | None = None

    def commit(self, state: AgentState, records: Sequence[Record]) -> None:
        self._suffer()
        super().commit(state, records)

    def restart(self, state: AgentState) -> None:
        self._suffer()
        super().restart(state)

    def _suffer(self) -> None:
        if self.hang is not None:
            self.hang.wait(PATIENCE_SECONDS)
        if self.refuse:
            raise StoreError("state.json: No space left on device")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(journal_module, "DISK_SECONDS", 0.1)
    monkeypatch.setattr(journal_module, "READ_BACK_SECONDS", 0.1)
    monkeypatch.setattr(journal_module, "ACKNOWLEDGE_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
async def test_a_full_disk_costs_no_event_and_is_used_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with running(Agent(tmp_path, SickDisk)) as agent:
        assert isinstance(agent.disk, SickDisk)
        agent.tell([raised(1)])
        await eventually(lambda: agent.journal.durable_seq == 1)
        healthy_epoch = agent.journal.epoch
        agent.disk.refuse = True
        agent.tell([raised(2)])
        await eventually(lambda: agent.journal.is_failing)
        assert "No space left" in agent.journal.trouble
        assert agent.journal.epoch != healthy_epoch, "numbers of the old one might be used twice"
        agent.tell([raised(3)])
        names = [pb.Event.FromString(r.payload).fault.component for r in await agent.read_all()]
        assert names == ["chip:NPU-1", "chip:NPU-2", "chip:NPU-3"]
        agent.journal.acknowledge(1)
        agent.disk.refuse = False
        await eventually(lambda: not agent.journal.is_failing)
        agent.tell([raised(4)])
        await eventually(lambda: agent.journal.durable_seq == 4)
        memory_epoch = agent.journal.epoch
    async with running(Agent(tmp_path)) as agent:
        assert (agent.journal.epoch, agent.journal.next_seq) == (memory_epoch, 5)
        assert seqs(await agent.read_all()) == [2, 3, 4]


@pytest.mark.usefixtures("impatient")
async def test_a_disk_that_hangs_stops_nothing(tmp_path: Path) -> None:
    async with running(Agent(tmp_path, SickDisk)) as agent:
        assert isinstance(agent.disk, SickDisk)
        agent.disk.hang = threading.Event()
        agent.tell([raised(1)])
        await eventually(lambda: agent.journal.is_failing)
        assert seqs(await agent.read_all()) == [1], "a dying disk is news that must get out"
        agent.disk.hang.set()
        await eventually(lambda: not agent.journal.is_failing)
        assert agent.journal.durable_seq == 1


@pytest.mark.usefixtures("impatient")
async def test_a_hanging_disk_costs_what_cannot_be_read_back_and_says_so(tmp_path: Path) -> None:
    async with running(Agent(tmp_path, SickDisk)) as agent:
        assert isinstance(agent.disk, SickDisk)
        agent.tell([raised(1), raised(2)])
        await eventually(lambda: agent.journal.durable_seq == 2)
        agent.disk.hang = threading.Event()
        agent.tell([raised(3)])
        await eventually(lambda: agent.journal.is_failing)
        gap, last = await agent.read_all()
        assert loss_of(gap).damaged == 2
        assert pb.Event.FromString(last.payload).fault.component == "chip:NPU-3"
        assert agent.journal.lost_total == 2
        agent.disk.hang.set()
        await eventually(lambda: not agent.journal.is_failing)


async def test_a_folder_that_cannot_be_made_leaves_the_agent_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with running(Agent(tmp_path / "file" / "state")) as agent:
        agent.heat(95)
        assert agent.journal.is_failing
        assert seqs(await agent.read_all()) == [1]
        assert len(agent.pipeline.book.open()) == 1


@pytest.mark.usefixtures("impatient")
async def test_memory_is_bounded_and_keeps_what_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MEMORY_BYTES", 40_000)
    (tmp_path / "file").write_text("")
    async with running(Agent(tmp_path / "file" / "state")) as agent:
        for n in range(400):
            agent.tell([updated(n), raised(n % 20), cleared(n % 20)])
        assert agent.journal.size_bytes <= 40_000
        held = await agent.read_all()
        lost = sum(loss_of(record).count for record in held if record.rank is Rank.GAP)
        assert lost + sum(1 for record in held if record.rank is not Rank.GAP) == 1200
        assert agent.journal.lost_total == lost
        assert held[-1].rank is Rank.CLEARED


async def test_a_watchdog_that_knows_more_than_the_spool_begins_an_epoch(tmp_path: Path) -> None:
    async with running(Agent(tmp_path)) as agent:
        agent.tell([raised(1), raised(2)])
        await eventually(lambda: agent.journal.durable_seq == 2)
        epoch = agent.journal.epoch
        await agent.journal.begin_epoch("test")
        await eventually(lambda: not agent.journal.is_failing)
        assert agent.journal.epoch != epoch
        assert seqs(await agent.read_all()) == [1, 2]
        agent.tell([raised(3)])
        await eventually(lambda: agent.journal.durable_seq == 3)
    async with running(Agent(tmp_path)) as agent:
        assert seqs(await agent.read_all()) == [1, 2, 3]


async def test_acknowledged_segments_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1024)
    monkeypatch.setattr(journal_module, "ACKNOWLEDGE_SECONDS", 0.01)
    async with running(Agent(tmp_path)) as agent:
        agent.tell([raised(n) for n in range(50)])
        await eventually(lambda: agent.journal.durable_seq == 50)
        assert agent.journal.size_bytes > 1024
        agent.journal.acknowledge(50)
        await eventually(lambda: agent.journal.size_bytes == 0)
