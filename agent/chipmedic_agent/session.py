"""One stream to one watchdog, from Hello to its end."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from chipmedic.errors import ChipmedicError
from chipmedic_agent.config import StreamSettings
from chipmedic_agent.journal import Journal
from chipmedic_agent.orders import Orders
from chipmedic_agent.record import Record
from chipmedic_agent.reporter import Reporter
from chipmedic_proto.v1 import chipmedic_pb2 as pb

WELCOME_SECONDS = 10.0
WINDOW_EVENTS = 4096
"""Events on their way that are not acknowledged; above it the stream waits."""
UNACKNOWLEDGED_SECONDS = 120.0
"""How long nothing of what was sent may be acknowledged. The connection lives (pings are answered
below the program), but whoever should read at its end may be gone."""
FAREWELL_SECONDS = 2.0
"""How long the end may take: what is ready is sent, then Goodbye."""
SMALL_BYTES = 1000
"""A message that fits into any packet."""
STUCK_SECONDS = 8.0
"""A stream that a lost packet holds up ends within this: pings are not answered."""
PACE_SECONDS = (0.5, 600.0)
"""What a watchdog may ask for as heartbeat and snapshot periods."""

BROKEN = "Internal error from Core"
"""In grpc.aio's words when it could not write."""
NO_STREAM = "Failed parsing HTTP/2"
"""In gRPC's words (1.85) when something else answers there: a web server, the HTTP port."""
UNANSWERED = ("ping timeout", "msg:Connection timed out")
"""In gRPC's words (1.85) when nobody answers: its own timer ends the stream, or the kernel's
(TCP_USER_TIMEOUT, which gRPC sets to the same time), whichever is first."""

logger = logging.getLogger(__name__)

Call = Any
"""`grpc.aio.StreamStreamCall[pb.AgentMessage, pb.WatchdogMessage]`."""


class StreamLost(ChipmedicError):
    """The stream has ended; the caller connects again."""

    def __init__(
        self,
        why: str,
        *,
        wait_seconds: float | None = None,
        is_ours: bool = False,
        is_unanswered: bool = False,
    ) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds
        """What the watchdog asked for; None: the caller's own backoff."""
        self.is_ours = is_ours
        """We ended it, to begin anew at once."""
        self.is_unanswered = is_unanswered
        """Nothing came any more, and nobody has said why."""


class Session:
    """Sends what the journal has, and does what the watchdog asks."""

    def __init__(
        self,
        call: Call,
        *,
        journal: Journal,
        reporter: Reporter,
        orders: Orders,
        settings: StreamSettings,
        wake: asyncio.Event,
        welcomed: Callable[[], None],
    ) -> None:
        self.farewell: str | None = None
        """Set to end the stream politely; then set `wake`."""
        self._call = call
        self._journal = journal
        self._reporter = reporter
        self._orders = orders
        self._heartbeat_seconds = settings.heartbeat_seconds
        self._snapshot_seconds = settings.snapshot_seconds
        self._wake = wake
        self._welcomed = welcomed
        self._epoch = journal.epoch
        self._sent_seq = 0
        self._is_welcome = False
        self._large_at = -math.inf
        """When the last message was written that may need a large packet."""
        self._owed_since = math.inf
        """Since when something that was sent is not acknowledged."""
        self._snapshot_at = 0.0
        self._told_chips = reporter.chips()
        """As the newest Hello or Snapshot had them: a notice names a chip by its serial and slot,
        so the watchdog has to know a chip before it hears of the chip's first fault."""
        self._heartbeat_at = 0.0
        self._results: list[pb.CommandResult] = []

    async def run(self) -> None:
        """Speak until the stream ends.

        Raises:
            StreamLost: always, but after a farewell.
        """
        await self._greet()
        lost: StreamLost | None = None
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._listen(group), name="stream listen")
                await self._speak()
                async with asyncio.timeout(FAREWELL_SECONDS):  # the last acknowledgements
                    await reading
        except* StreamLost as group_of_lost:
            lost = _first(group_of_lost)
        except* TimeoutError:
            pass
        # Not in the clause: Python before 3.11.4 (Debian 12 has 3.11.2) wraps what is raised there
        # into a group, which nobody up the way takes for a lost stream.
        if lost is not None and self.farewell is None:
            raise lost from None

    async def _greet(self) -> None:
        try:
            async with asyncio.timeout(WELCOME_SECONDS):
                await self._write(self._reporter.hello())
                message = await self._read()
        except TimeoutError:
            why = f"no welcome within {WELCOME_SECONDS:g} s"
            raise StreamLost(why, is_unanswered=True) from None
        match message.WhichOneof("body"):
            case "welcome":
                await self._welcome(message.welcome)
            case "retry_after":
                raise _sent_away(message.retry_after)
            case other:
                raise StreamLost(f"the first message is {other}, not a welcome")

    async def _welcome(self, welcome: pb.Welcome) -> None:
        acked = welcome.acked_seq
        if acked > self._journal.durable_seq and not self._journal.is_failing:
            why = f"the watchdog has event {acked}, we have written {self._journal.durable_seq}"
            await self._journal.begin_epoch(why)
        if self._journal.epoch != self._epoch:
            raise StreamLost("a new epoch has begun", is_ours=True)
        self._journal.acknowledge(acked)
        self._sent_seq = max(acked, self._journal.first_seq - 1)
        self._heartbeat_seconds = _pace(welcome.heartbeat_seconds, self._heartbeat_seconds)
        self._snapshot_seconds = _pace(welcome.snapshot_seconds, self._snapshot_seconds)
        self._is_welcome = True
        self._welcomed()

    @property
    def may_be_stuck(self) -> bool:
        """Whether something was under way that a path which loses large packets would hold up."""
        return not self._is_welcome or time.monotonic() - self._large_at < STUCK_SECONDS

    def knows_new_chips(self) -> bool:
        """Tell whether the inventory has changed since the watchdog heard of it."""
        return self._reporter.chips() != self._told_chips

    # -- speaking

    async def _speak(self) -> None:
        """Send what is due, in order of urgency; ends after the farewell."""
        while self.farewell is None:
            if self._journal.epoch != self._epoch:
                raise StreamLost("a new epoch has begun", is_ours=True)
            self._wake.clear()
            now = time.monotonic()
            if now - self._owed_since > UNACKNOWLEDGED_SECONDS:
                raise StreamLost(f"nothing acknowledged for {UNACKNOWLEDGED_SECONDS:g} s")
            if self._results:
                await self._write(pb.AgentMessage(command_result=self._results.pop(0)))
            elif now >= self._snapshot_at or self.knows_new_chips():
                self._snapshot_at = now + self._snapshot_seconds
                self._told_chips = self._reporter.chips()
                await self._write(self._reporter.snapshot())
            elif now >= self._heartbeat_at:
                self._heartbeat_at = now + self._heartbeat_seconds
                await self._write(self._reporter.heartbeat())
            elif not await self._send_events():
                owed_until = self._owed_since + UNACKNOWLEDGED_SECONDS
                await self._idle(min(self._snapshot_at, self._heartbeat_at, owed_until) - now)
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                while await self._send_events():
                    pass
                await self._write(pb.AgentMessage(goodbye=pb.Goodbye(reason=self.farewell)))
                await self._call.done_writing()
        except TimeoutError:
            raise StreamLost("the watchdog does not take our farewell") from None

    async def _send_events(self) -> bool:
        """Send one batch; False: there is none, or too many are on their way."""
        if self._sent_seq - self._journal.acked_seq >= WINDOW_EVENTS:
            return False
        records = await self._journal.read(self._sent_seq + 1)
        if not records or self._journal.epoch != self._epoch:
            return False
        await self._write(_batch(records))
        self._sent_seq = records[-1].seq
        self._owed_since = min(self._owed_since, time.monotonic())
        return True

    async def _idle(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _write(self, message: pb.AgentMessage) -> None:
        if message.ByteSize() > SMALL_BYTES:
            self._large_at = time.monotonic()
        try:
            await self._call.write(message)
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError) as e:
            raise await self._lost(e) from e

    # -- listening

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            message = await self._read()
            match message.WhichOneof("body"):
                case "ack":
                    self._journal.acknowledge(min(message.ack.seq, self._sent_seq))
                    is_owed = self._journal.acked_seq < self._sent_seq
                    self._owed_since = time.monotonic() if is_owed else math.inf
                    self._wake.set()
                case "command":
                    group.create_task(self._obey(message.command))
                case "snapshot_request":
                    self._snapshot_at = 0.0
                    self._wake.set()
                case "retry_after":
                    raise _sent_away(message.retry_after)
                case _:  # of a later version
                    pass

    async def _read(self) -> pb.WatchdogMessage:
        try:
            message = await self._call.read()
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError) as e:
            raise await self._lost(e) from e
        if not isinstance(message, pb.WatchdogMessage):  # grpc.aio.EOF
            raise await self._lost(None)
        return message

    async def _lost(self, error: BaseException | None) -> StreamLost:
        """Say in the other side's words why the stream has ended."""
        if not isinstance(error, grpc.aio.AioRpcError) and not self._call.done():
            return StreamLost("the stream is closed")
        code = await self._call.code()
        details = await self._call.details()
        why = f"{code.name.lower()}: {details}" if details else code.name.lower()
        if details == BROKEN:
            why = "the connection broke"
        elif NO_STREAM in why:
            why = "what answers there is no watchdog's stream (its port is 7443 by default)"
        # Without a word and without an error: it was given up for dead, as nothing came from us.
        is_given_up = code is grpc.StatusCode.OK
        if is_given_up and not details:
            why = "the watchdog ended it without a word"
        is_unanswered = is_given_up or any(words in why for words in UNANSWERED)
        return StreamLost(why, is_unanswered=is_unanswered)

    # -- obeying

    async def _obey(self, command: pb.Command) -> None:
        outcome = await self._orders.carry_out(command)
        self._results.append(
            pb.CommandResult(
                id=command.id, ok=outcome.ok, detail=outcome.detail, is_final=outcome.is_final
            )
        )
        self._wake.set()


def _batch(records: list[Record]) -> pb.AgentMessage:
    """Put stored events into a message; the bytes are those of the spool."""
    events = [pb.Event.FromString(record.payload) for record in records]
    return pb.AgentMessage(events=pb.EventBatch(events=events))


def _pace(asked_seconds: float, own_seconds: float) -> float:
    if not asked_seconds > 0:
        return own_seconds
    return min(max(asked_seconds, PACE_SECONDS[0]), PACE_SECONDS[1])


def _sent_away(retry: pb.RetryAfter) -> StreamLost:
    seconds = retry.seconds if math.isfinite(retry.seconds) else 1.0
    return StreamLost(
        f"told to come back in {seconds:g} s: {retry.reason}",
        wait_seconds=min(max(seconds, 0.0), PACE_SECONDS[1]),
    )


def _first(group: BaseExceptionGroup[StreamLost]) -> StreamLost:
    """Return one exception of a group that may be nested."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
