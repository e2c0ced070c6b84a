"""An agent's end of the stream, spoken by hand over a real channel, for tests of the watchdog."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import grpc
from grpc import aio

from chipmedic.model import Action, Chip, Component, Coverage, Fault, JobStatus, Severity, Verdict
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from waiting import PATIENCE_SECONDS

OPTIONS = (
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

STOPPABLE_AGENT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from fake_agent import FakeAgent
async def main():
    agent = FakeAgent(sys.argv[2], node=sys.argv[3])
    await agent.start()
    print("connected", flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""
"""A process for `python -c`: folder of the tests, address, node."""


def a_fault(
    component: str = "chip:GPU-a",
    kind: str = "memory.uncorrectable",
    *,
    severity: Severity = Severity.CRITICAL,
    source: str = "nvidia",
    since: float = 1000.0,
    count: int = 1,
    codes: tuple[str, ...] = (),
    job: str | None = None,
) -> Fault:
    return Fault(
        component=Component.parse(component),
        kind=kind,
        severity=severity,
        action=Action.RESET_CHIP,
        since=since,
        summary=f"{kind} on {component}",
        source=source,
        codes=codes,
        evidence=("a line",),
        count=count,
        job=job,
    )


def event(
    seq: int,
    fault: Fault | None = None,
    transition: int = pb.TRANSITION_RAISED,
    *,
    at: float = 1000.0,
    detail: str = "",
) -> pb.Event:
    message = pb.Event(seq=seq, at=at, transition=transition, detail=detail, boot_id="boot-1")
    if fault is not None:
        message.fault.CopyFrom(codec.fault_to_message(fault))
    return message


def a_coverage(check: str = "nvidia", verdict: Verdict = Verdict.OK) -> pb.Coverage:
    return codec.coverage_to_message(Coverage(check, 1000.0, verdict))


def a_snapshot(
    faults: Iterable[Fault],
    as_of_seq: int,
    coverage: Iterable[pb.Coverage] = (),
    jobs: Iterable[JobStatus] = (),
) -> pb.Snapshot:
    return pb.Snapshot(
        at=1000.0,
        open=[codec.fault_to_message(fault) for fault in faults],
        coverage=list(coverage),
        jobs=[codec.job_to_message(job) for job in jobs],
        as_of_seq=as_of_seq,
    )


class FakeAgent:
    """One stream; `received` holds what the watchdog sent."""

    def __init__(self, address: str, node: str = "node-1", **hello: Any) -> None:
        self.node = node
        chips: list[Chip] = hello.pop("chips", [])
        credentials: grpc.ChannelCredentials | None = hello.pop("credentials", None)
        self.hello = pb.Hello(
            **{
                "node": node,
                "boot_id": "boot-1",
                "epoch": "epoch-1",
                "machine_id": f"machine-of-{node}",
                "first_seq": 1,
                "next_seq": 1,
                "inventory": [codec.chip_to_message(chip) for chip in chips],
                **hello,
            }
        )
        self._channel = (
            aio.insecure_channel(address, options=OPTIONS)
            if credentials is None
            else aio.secure_channel(address, credentials, options=OPTIONS)
        )
        call = self._channel.stream_stream(
            "/chipmedic.v1.Watchdog/Connect",
            response_deserializer=pb.WatchdogMessage.FromString,
        )
        self.stream: Any = call()
        self.received: list[pb.WatchdogMessage] = []
        self.acked_seq = -1
        self.welcome: pb.Welcome | None = None
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FakeAgent:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drop()

    async def start(self) -> None:
        """Say hello and wait for the answer."""
        self._reader = asyncio.create_task(self._read())
        await self.send(hello=self.hello)
        await self.until(lambda: self.welcome is not None)

    async def send(self, **body: Any) -> None:
        await self.send_bytes(pb.AgentMessage(**body).SerializeToString())

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.write(data)

    async def events(self, *events: pb.Event) -> None:
        await self.send(events=pb.EventBatch(events=events))

    async def acked(self, seq: int, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until this seq is durable at the watchdog."""
        await self.until(lambda: self.acked_seq >= seq, timeout_seconds)

    async def until(self, is_so: Any, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        async with asyncio.timeout(timeout_seconds), self._news:
            await self._news.wait_for(lambda: is_so() or self.is_over)
        if not is_so():
            raise AssertionError(f"the stream ended: {await self.ending()}")

    @property
    def is_over(self) -> bool:
        return self._reader is not None and self._reader.done()

    async def ending(self) -> tuple[grpc.StatusCode, str]:
        """Return how the stream ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.stream.code(), await self.stream.details()

    async def goodbye(self) -> None:
        await self.send(goodbye=pb.Goodbye(reason="service stopped"))
        await self.stream.done_writing()
        await self.ending()
        await self.drop()

    async def drop(self) -> None:
        """Cut the connection without a word."""
        self.stream.cancel()
        await self._channel.close()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    async def _read(self) -> None:
        try:
            while True:
                message = await self.stream.read()
                if not isinstance(message, pb.WatchdogMessage):
                    return
                self.received.append(message)
                if message.HasField("welcome"):
                    self.welcome = message.welcome
                    self.acked_seq = message.welcome.acked_seq
                elif message.HasField("ack"):
                    self.acked_seq = message.ack.seq
                async with self._news:
                    self._news.notify_all()
        except aio.AioRpcError:
            return
        finally:
            if not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                async with self._news:
                    self._news.notify_all()
