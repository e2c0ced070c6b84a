"""A watchdog's end of the stream: a real gRPC server that remembers what it was told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc import aio

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_proto.v1.chipmedic_pb2_grpc import (
    WatchdogServicer,
    add_WatchdogServicer_to_server,
)
from waiting import PATIENCE_SECONDS

OPTIONS = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)


class FakeWatchdog(WatchdogServicer):
    """Keeps every event by (epoch, seq), as the real store does; what it does can be changed."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, int], pb.Event] = {}
        self.received: Counter[tuple[str, int]] = Counter()
        self.hellos: list[pb.Hello] = []
        self.heartbeats: list[pb.Heartbeat] = []
        self.snapshots: list[pb.Snapshot] = []
        self.results: list[pb.CommandResult] = []
        self.goodbyes: list[str] = []
        self.batches: list[int] = []
        self.is_acknowledging = True
        self.welcome: Callable[[pb.Hello], pb.WatchdogMessage] = self.plain_welcome
        self.port = 0
        self._server: aio.Server | None = None
        self._streams: set[Any] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen on a free port, or on the same one as before."""
        self._server = aio.server(options=OPTIONS)
        add_WatchdogServicer_to_server(self, self._server)
        where = f"127.0.0.1:{self.port}"
        self.port = (
            self._server.add_secure_port(where, credentials)
            if credentials
            else self._server.add_insecure_port(where)
        )
        await self._server.start()

    async def stop(self) -> None:
        """Cut every stream and stop listening."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def cut(self) -> None:
        """Reset every connection, and listen again."""
        await self.stop()
        await self.start()

    def acked(self, epoch: str) -> int:
        """Return the highest seq of an epoch without a hole below it."""
        seq = 0
        while (epoch, seq + 1) in self.events:
            seq += 1
        return seq

    def seqs(self, epoch: str | None = None) -> list[int]:
        epoch = epoch or self.hellos[-1].epoch
        return sorted(seq for name, seq in self.events if name == epoch)

    def plain_welcome(self, hello: pb.Hello) -> pb.WatchdogMessage:
        seqs = self.seqs(hello.epoch)
        return pb.WatchdogMessage(welcome=pb.Welcome(acked_seq=seqs[-1] if seqs else 0))

    async def tell(self, message: pb.WatchdogMessage) -> None:
        """Send something on every open stream."""
        for context in list(self._streams):
            await context.write(message)

    async def until(self, is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not is_so():
                await asyncio.sleep(0.01)

    async def Connect(  # noqa: N802 - the name in the contract
        self, request_iterator: AsyncIterator[pb.AgentMessage], context: Any
    ) -> None:
        """Take in one agent's stream."""
        hello = (await anext(request_iterator)).hello
        self.hellos.append(hello)
        answer = self.welcome(hello)
        await context.write(answer)
        if not answer.HasField("welcome"):
            return
        self._streams.add(context)
        try:
            async for message in request_iterator:
                await self._take(message, hello.epoch, context)
        finally:
            self._streams.discard(context)

    async def _take(self, message: pb.AgentMessage, epoch: str, context: Any) -> None:
        match message.WhichOneof("body"):
            case "events":
                self.batches.append(len(message.events.events))
                for event in message.events.events:
                    self.events.setdefault((epoch, event.seq), event)
                    self.received[(epoch, event.seq)] += 1
                if self.is_acknowledging:
                    last = message.events.events[-1].seq
                    await context.write(pb.WatchdogMessage(ack=pb.Ack(seq=last)))
            case "heartbeat":
                self.heartbeats.append(message.heartbeat)
            case "snapshot":
                self.snapshots.append(message.snapshot)
            case "command_result":
                self.results.append(message.command_result)
            case "goodbye":
                self.goodbyes.append(message.goodbye.reason)
