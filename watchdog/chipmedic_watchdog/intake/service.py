"""The gRPC service: one coroutine per agent's stream.

Messages are taken as bytes and decoded here, so that a damaged one costs only itself and not the
stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import grpc
from grpc.aio import ServicerContext

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import StreamSettings
from chipmedic_watchdog.intake import hello as hello_message
from chipmedic_watchdog.intake import message
from chipmedic_watchdog.intake.arrival import Arrival, Body, Greeting, StateChange
from chipmedic_watchdog.intake.committer import Committer, Unstorable
from chipmedic_watchdog.intake.gate import Gate, Peer
from chipmedic_watchdog.intake.job_names import AsTold, JobNames
from chipmedic_watchdog.intake.limits import Limits, host_of
from chipmedic_watchdog.intake.message import Batch
from chipmedic_watchdog.intake.reader import MessageReader
from chipmedic_watchdog.intake.refusals import Refused, TooFast
from chipmedic_watchdog.intake.renewal import Renewal
from chipmedic_watchdog.intake.sessions import NameTaken, Session, Sessions
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.version import own_version

log = logging.getLogger(__name__)

Context = ServicerContext[bytes, pb.WatchdogMessage]
GOODBYE_SECONDS = 3.0
HEAR_OUT_SECONDS = 1.0
WRITE_SECONDS = 30.0
"""How long an agent may read nothing while something is to be said."""
SERVICE, CONNECT, RENEW = "chipmedic.v1.Watchdog", "Connect", "Renew"


class _Stuck(Exception):
    """A message does not go out, and gRPC takes none behind it."""


class StreamService:
    """Serves every agent."""

    def __init__(
        self,
        committer: Committer,
        sessions: Sessions,
        metrics: Metrics,
        settings: StreamSettings,
        clock: Clock | None = None,
        gate: Gate | None = None,
        renewal: Renewal | None = None,
        names: JobNames | None = None,
    ) -> None:
        self._names = names or AsTold()
        self._gate = gate or Gate()
        self._renewal = renewal
        self._committer = committer
        self._sessions = sessions
        self._metrics = metrics
        self.settings = settings
        self._clock = clock or Clock()
        self._complaints: dict[str, str] = {}
        self._limits = Limits()
        self._version = own_version()

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """Return what a gRPC server serves."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            CONNECT: grpc.stream_stream_rpc_method_handler(
                self.connect, response_serializer=pb.WatchdogMessage.SerializeToString
            )
        }
        if self._renewal is not None:
            methods[RENEW] = grpc.unary_unary_rpc_method_handler(
                self._renewal.renew, response_serializer=pb.RenewReply.SerializeToString
            )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def connect(self, _: Any, context: Context) -> None:
        """Serve one stream from its hello to its end."""
        peer = context.peer()
        try:
            self._limits.enter(peer, self.settings)
        except Refused as e:
            await self._refuse(context, e)
            return
        try:
            shown = self._gate.peer(context.auth_context())
            with self._limits.shown(*self._gate.share(shown)):
                await self._connect(context, shown)
        except Refused as e:
            # A client of grpc.aio that still writes its hello when the answer comes takes it for
            # "Internal error from Core", one time in a thousand.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEAR_OUT_SECONDS):
                    await context.read()
            await self._refuse(context, e)
        finally:
            self._limits.leave(peer)

    async def _connect(self, context: Context, shown: Peer) -> None:
        try:
            session, greeting = await self._open(context, shown)
        except Refused as e:
            await self._refuse(context, e)
            return
        reason = "the stream ended without a goodbye"
        try:
            session.acked_seq = await self._welcome(session, greeting)
            await self._serve(session, context)
            if session.has_said_goodbye:
                # The agent waits for the end of the stream: it must not be missed after a restart.
                reason = "it said goodbye"
                await self._durably_close(session, context, reason)
        except Refused as e:
            reason = str(e)
            await self._refuse(context, e)
        except Unstorable as e:
            reason = str(e)
            await context.abort(grpc.StatusCode.INTERNAL, reason)
        except _Stuck:
            reason = "it read nothing any more"
            # Not even a status goes out behind a message that does not; gRPC ends the call itself.
            raise asyncio.CancelledError(reason) from None
        except asyncio.CancelledError:
            reason = "the connection was lost"
            raise
        finally:
            self._close(session, reason)

    async def _open(self, context: Context, peer: Peer) -> tuple[Session, Greeting]:
        try:
            async with asyncio.timeout(self.settings.hello_timeout_seconds):
                data = await context.read()
        except TimeoutError as e:
            raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, "no_hello", "no hello came") from e
        first = message.parse(data) if isinstance(data, bytes) else None
        if not isinstance(first, pb.AgentMessage) or first.WhichOneof("body") != "hello":
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, "no_hello", "the first message must be Hello"
            )
        try:
            greeting = hello_message.check(first.hello)
        except ValueError as e:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "bad_hello", f"hello: {e}") from e
        self._gate.admit(peer, first.hello.node)
        self._limits.greet(first.hello.node, self.settings)
        session = Session(
            node=first.hello.node,
            machine_id=greeting.machine_id,
            epoch=first.hello.epoch,
            peer=context.peer(),
            opened_at=self._clock.now(),
            serial=peer.serial,
            catch_up_seq=max(0, greeting.next_seq - 1),
        )
        try:
            replaced = self._sessions.open(session)
        except NameTaken as e:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, "name_taken", str(e)) from e
        if replaced is not None:
            replaced.end()
        self._metrics.connected_agents.set(len(self._sessions.live))
        return session, greeting

    async def _welcome(self, session: Session, greeting: Greeting) -> int:
        """Make the hello durable and answer it; returns the seq from which the agent goes on."""
        arrival = self._arrival(session, greeting)
        arrival.done = asyncio.get_running_loop().create_future()
        await self._committer.put(arrival)
        session.is_told = True
        try:
            acked = await arrival.done
        except NameTaken as e:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, "name_taken", str(e)) from e
        log.info("connected: node=%s peer=%s acked_seq=%d", session.node, session.peer, acked)
        welcome = pb.Welcome(
            acked_seq=acked,
            watchdog_version=self._version,
            heartbeat_seconds=self.settings.heartbeat_seconds,
            snapshot_seconds=self.settings.snapshot_seconds,
            time=self._clock.now(),
        )
        session.send(pb.WatchdogMessage(welcome=welcome))
        session.received_seq = acked
        if acked > session.catch_up_seq:
            log.warning(
                "the agent's numbering went back: node=%s epoch=%s acked_seq=%d next_seq=%d; "
                "its events count as repeated until they pass it, snapshots go on",
                session.node, session.epoch, acked, greeting.next_seq,
            )  # fmt: skip
        return acked

    async def _serve(self, session: Session, context: Context) -> None:
        reader = asyncio.create_task(self._read(session, context))
        writer = asyncio.create_task(self._write(session, context))
        try:
            ends: set[asyncio.Future[Any]] = {reader, writer, session.closing}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            session.mute()
            # gRPC takes one message at a time: what is being written must be out before the last.
            await asyncio.wait({writer}, timeout=GOODBYE_SECONDS)
        finally:
            for task in (reader, writer):
                if not task.done():
                    task.cancel()
            outcomes = await asyncio.gather(reader, writer, return_exceptions=True)
        last = session.closing.result() if session.closing.done() else None
        is_stuck = isinstance(outcomes[1], asyncio.CancelledError)
        for outcome in outcomes:
            if isinstance(outcome, TooFast):
                session.wait_seconds = outcome.wait_seconds
                self._metrics.streams_refused.labels("too_fast").inc()
                last = pb.WatchdogMessage(
                    retry_after=pb.RetryAfter(seconds=outcome.wait_seconds, reason=str(outcome))
                )
            elif isinstance(outcome, Exception) and not (is_stuck or _is_lost_stream(outcome)):
                raise outcome
        if is_stuck:
            raise _Stuck
        if last is not None:
            with contextlib.suppress(asyncio.InvalidStateError, grpc.RpcError):
                await context.write(last)

    async def _read(self, session: Session, context: Context) -> None:
        """Take messages until the agent ends the stream."""
        limits = self._limits.of(session.node, self.settings)
        reader = MessageReader(
            session, self.settings, self._metrics, self._clock, self._complaints, limits
        )
        while not session.has_said_goodbye:
            data = await context.read()
            if not isinstance(data, bytes):  # grpc.aio.EOF
                return
            body = reader.read(data)
            if body is not None:
                body = await self._names.body(session.node, body)
                await self._queue(session, body)

    async def _queue(self, session: Session, body: Body) -> None:
        arrival = self._arrival(session, body)
        if isinstance(body, Batch):
            if session.note_received(body) and not session.outbox:
                session.send(pb.WatchdogMessage(snapshot_request=pb.SnapshotRequest()))
            arrival.done = asyncio.get_running_loop().create_future()
            arrival.done.add_done_callback(lambda done: _acknowledge(session, done))
        await self._committer.put(arrival)

    def _arrival(self, session: Session, body: Body) -> Arrival:
        return Arrival(
            node=session.node, epoch=session.epoch, stream=session.stream,
            received_at=self._clock.now(), body=body,
        )  # fmt: skip

    async def _write(self, session: Session, context: Context) -> None:
        """Send what waits; of acknowledgements only the newest."""
        sent_seq = session.acked_seq
        while not session.is_muted:
            session.has_outgoing.clear()
            if session.outbox:
                await self._say(context, session.outbox.popleft())
            elif session.acked_seq > sent_seq:
                sent_seq = session.acked_seq
                await self._say(context, pb.WatchdogMessage(ack=pb.Ack(seq=sent_seq)))
            else:
                await session.has_outgoing.wait()

    async def _say(self, context: Context, words: pb.WatchdogMessage) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await context.write(words)
        except TimeoutError as e:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "slow_reader",
                f"nothing was read for {WRITE_SECONDS:g} s",
            ) from e

    async def _refuse(self, context: Context, refused: Refused) -> None:
        self._metrics.streams_refused.labels(refused.reason).inc()
        held_back = self._limits.lines.take(host_of(context.peer()), refused.reason)
        if held_back is not None:
            more = f" ({held_back} more since the last line)" if held_back else ""
            log.warning("stream refused: peer=%s why=%s%s", context.peer(), refused, more)
        await context.abort(refused.code, str(refused))

    async def _durably_close(self, session: Session, context: Context, reason: str) -> None:
        done = self._close(session, reason)
        if done is None:
            return
        with contextlib.suppress(TimeoutError, asyncio.InvalidStateError, grpc.RpcError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await done
                # Everything before the goodbye is durable now, too.
                await context.write(pb.WatchdogMessage(ack=pb.Ack(seq=session.acked_seq)))

    def _close(self, session: Session, reason: str) -> asyncio.Future[int] | None:
        state = self._sessions.close(session, reason)
        self._metrics.connected_agents.set(len(self._sessions.live))
        for waiting in session.commands.values():
            waiting.cancel()
        if state is None:
            return None
        log.info("disconnected: node=%s state=%s why=%s", session.node, state, reason)
        if not session.is_told:
            return None  # of what the store never heard it needs no end
        arrival = self._arrival(session, StateChange(state, reason))
        if session.has_said_goodbye:
            arrival.done = asyncio.get_running_loop().create_future()
        self._committer.put_now(arrival)
        return arrival.done


def _acknowledge(session: Session, done: asyncio.Future[int]) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if error is None:
        session.acknowledge(done.result())
    else:
        session.end()


def _is_lost_stream(error: Exception) -> bool:
    """A write after the peer has gone raises one or the other, depending on the moment."""
    return isinstance(error, asyncio.InvalidStateError | grpc.RpcError | grpc.aio.UsageError)
