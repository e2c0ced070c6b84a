"""What one agent's messages say, held to the contract."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import grpc

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import StreamSettings
from chipmedic_watchdog.intake import message
from chipmedic_watchdog.intake.arrival import Body
from chipmedic_watchdog.intake.limits import CHECKS_MAX, Limits, NodeLimits
from chipmedic_watchdog.intake.message import Batch, ReceivedHeartbeat, Unreadable
from chipmedic_watchdog.intake.refusals import Refused, TooFast
from chipmedic_watchdog.intake.sessions import Session
from chipmedic_watchdog.intake.thinning import Thinning
from chipmedic_watchdog.metrics import Metrics

JOBS_KNOWN_MAX = 8192

log = logging.getLogger(__name__)


class MessageReader:
    """Turns the bytes of one stream into what is to be committed."""

    def __init__(
        self,
        session: Session,
        settings: StreamSettings,
        metrics: Metrics,
        clock: Clock,
        complaints: dict[str, str],
        limits: NodeLimits | None = None,
    ) -> None:
        self._session = session
        self._metrics = metrics
        self._clock = clock
        self._complaints = complaints
        self._jobs: set[str] = set()
        self._thinning = Thinning()
        self._limits = limits or Limits().of(session.node, settings)

    def read(self, data: bytes) -> Body | None:
        """Take one message; None: nothing of it is to be written.

        Raises:
            TooFast: the agent is over its limit.
            Refused: it breaks the contract.
        """
        wait_seconds = self._limits.size_bytes.take(len(data), time.monotonic())
        if wait_seconds:
            raise TooFast(wait_seconds, "bytes")
        received = message.parse(data)
        wait_seconds = self._limits.events.take(_amount(received), time.monotonic())
        if wait_seconds:
            raise TooFast(wait_seconds)
        match received:
            case Unreadable(problem):
                self._complain("malformed", problem)
                return None
            case Batch():
                return self._checked(received)
        try:
            return self._body(received, len(data))
        except ValueError as e:
            self._complain("malformed", str(e))
            return None

    def _body(self, received: pb.AgentMessage, size_bytes: int) -> Body | None:
        match received.WhichOneof("body"):
            case "events":
                return self._checked(message.batch(received.events, size_bytes))
            case "heartbeat":
                beat = self._bounded(message.heartbeat(received.heartbeat))
                return self._thinning(beat, self._clock.now())
            case "snapshot":
                snapshot = message.snapshot(received.snapshot)
                return replace(snapshot, beat=self._bounded(snapshot.beat))
            case "command_result":
                self._settle(received.command_result)
            case "goodbye":
                self._session.has_said_goodbye = True
            case "hello":
                self._complain("second_hello", "a second hello in one stream")
            case _:
                self._complain("unknown", "a message of a later version")
        return None

    def _bounded(self, beat: ReceivedHeartbeat) -> ReceivedHeartbeat:
        """Leave out checks and jobs beyond what one node can have."""
        coverage = tuple(c for c in beat.coverage if self._limits.knows_check(c.check))
        jobs = tuple(job for job in beat.jobs if self._is_job_admitted(job.job))
        if len(coverage) == len(beat.coverage) and len(jobs) == len(beat.jobs):
            return beat
        if len(coverage) < len(beat.coverage):
            self._complain("too_many_checks", f"more than {CHECKS_MAX} different checks")
        if len(jobs) < len(beat.jobs):
            self._complain("too_many_jobs", "too many new jobs")
        return replace(beat, coverage=coverage, jobs=jobs)

    def _is_job_admitted(self, job: str) -> bool:
        if job in self._jobs:
            return True
        if self._limits.jobs.take(1, time.monotonic()):
            return False
        if len(self._jobs) >= JOBS_KNOWN_MAX:
            self._jobs.clear()
        self._jobs.add(job)
        return True

    def _checked(self, batch: Batch) -> Batch:
        """Hold a batch to the contract's limits, and say once what in it cannot be read."""
        count = len(batch.events) + batch.lost
        if count > message.BATCH_MAX_EVENTS or batch.size_bytes > message.BATCH_MAX_BYTES:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                "batch_too_large",
                f"a batch of {count} events and {batch.size_bytes} bytes; allowed are "
                f"{message.BATCH_MAX_EVENTS} events and {message.BATCH_MAX_BYTES} bytes",
            )
        self._metrics.events_received.inc(count)
        if batch.lost:
            self._metrics.messages_refused.labels("no_seq").inc(batch.lost)
        for problem in batch.problems:
            self._complain("event", problem)
        now = self._clock.now()
        for event in batch.events:
            self._metrics.event_age_seconds.observe(max(0.0, now - event.at))
        return batch

    def _settle(self, result: pb.CommandResult) -> None:
        waiting = self._session.commands.pop(result.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    def _complain(self, reason: str, words: str) -> None:
        """Count a bad message, and tell of each trouble of a node once."""
        node = self._session.node
        self._metrics.messages_refused.labels(reason).inc()
        if self._complaints.get(node) != reason:
            self._complaints[node] = reason
            log.warning("cannot be read: node=%s what=%s why=%s", node, reason, words[:200])


def _amount(received: object) -> int:
    """Return how much of its limit a message takes: what is in it, each as much as an event."""
    if not isinstance(received, pb.AgentMessage):
        return 1
    snapshot, beat = received.snapshot, received.heartbeat
    rows = len(received.events.events) + len(snapshot.open)
    for part in (snapshot, beat):
        rows += len(part.coverage) + len(part.jobs)
    return max(1, rows)
