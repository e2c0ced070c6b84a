"""What the stream says of this node: who it is, what is open, which checks looked, its jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chipmedic.model import Chip
from chipmedic_agent.identity import Identity
from chipmedic_agent.journal import Journal
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.roster import Roster
from chipmedic_proto.codec import (
    chip_to_message,
    coverage_to_message,
    fault_to_message,
    job_to_message,
)
from chipmedic_proto.v1 import chipmedic_pb2 as pb

REVISION = 1
"""Of the protocol; for people and metrics only."""


class Reporter:
    """Builds the messages about the node's present."""

    def __init__(
        self,
        identity: Identity,
        pipeline: Pipeline,
        journal: Journal,
        roster: Roster,
        now: Callable[[], float],
    ) -> None:
        self.labels: Mapping[str, str] = {}
        self._identity = identity
        self._pipeline = pipeline
        self._journal = journal
        self._roster = roster
        self._now = now

    def hello(self) -> pb.AgentMessage:
        """Say who speaks."""
        return pb.AgentMessage(
            hello=pb.Hello(
                node=self._identity.node,
                boot_id=self._identity.boot_id,
                epoch=self._journal.epoch,
                agent_version=self._identity.version,
                labels=self.labels,
                inventory=self._inventory(),
                first_seq=self._journal.first_seq,
                next_seq=self._journal.next_seq,
                boot_time=self._identity.boot_time,
                machine_id=self._identity.machine_id,
                revision=REVISION,
            )
        )

    def heartbeat(self) -> pb.AgentMessage:
        """Prove that work is done: how old each check is."""
        return pb.AgentMessage(
            heartbeat=pb.Heartbeat(
                at=self._now(),
                coverage=self._coverage(),
                jobs=self._jobs(),
                backlog_events=self._journal.backlog_events,
                is_spool_failing=self._journal.is_failing,
            )
        )

    def snapshot(self) -> pb.AgentMessage:
        """Tell the whole truth of this moment, as of the next event's number."""
        return pb.AgentMessage(
            snapshot=pb.Snapshot(
                at=self._now(),
                open=[fault_to_message(fault) for fault in self._pipeline.book.open()],
                coverage=self._coverage(),
                jobs=self._jobs(),
                inventory=self._inventory(),
                as_of_seq=self._journal.next_seq,
            )
        )

    def chips(self) -> tuple[tuple[Chip, bool], ...]:
        """Return the known chips, and whether each is missing now."""
        return tuple((known.chip, known.is_missing) for known in self._pipeline.inventory.known())

    def _inventory(self) -> list[pb.Chip]:
        return [chip_to_message(chip, is_missing=is_missing) for chip, is_missing in self.chips()]

    def _coverage(self) -> list[pb.Coverage]:
        return [coverage_to_message(coverage) for coverage in self._roster.coverage()]

    def _jobs(self) -> list[pb.Job]:
        return [job_to_message(job) for job in self._pipeline.jobs]
