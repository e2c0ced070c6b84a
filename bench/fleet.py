"""A fleet of agents at the level of the protocol: one process, many streams, spoken by hand.

Started by bench/watchdog.py. Each agent says hello, beats, sends events in batches, keeps what is
not acknowledged, comes back after a random delay and sends it again. Once a second the process
writes a line of JSON with its counts; SIGTERM ends it, after everything was acknowledged. SIGUSR1
forgets how long acknowledgements took so far, as while the fleet still connects.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from http2 import Stream

from chipmedic_proto.v1 import chipmedic_pb2 as pb

PATH = "/chipmedic.v1.Watchdog/Connect"
PING_SECONDS, ANSWER_SECONDS = 1.0, 3.0
"""As the agent's own channel asks, and the time that it gives for the answer."""
LOOK_SECONDS = 0.2
"""How often it is seen whether an agent has to ping, a second after it last read something."""
BATCH = 10
"""Events of one batch: a fault is raised, counted up, and cleared."""
BACKOFF_SECONDS = 3.0
KEEP = 20_000
"""Times of acknowledgement that are kept for the quantiles."""


@dataclass(slots=True)
class Counts:
    connected: int = 0
    sent: int = 0
    acked: int = 0
    beats: int = 0
    lost_streams: int = 0
    ack_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEEP))


@dataclass(slots=True)
class Agent:
    """One node."""

    number: int
    given: argparse.Namespace
    counts: Counts
    seq: int = 0
    waiting: deque[tuple[int, float, bytes]] = field(default_factory=deque)
    """(last seq, when made, message) of the batches that are not acknowledged."""
    stream: Stream | None = None
    is_welcome: bool = False

    @property
    def free_stream(self) -> Stream | None:
        """The stream, where the watchdog has welcomed us and has room for a message."""
        stream = self.stream
        return stream if self.is_welcome and stream and not stream.is_full else None

    @property
    def node(self) -> str:
        return f"node-{self.number:05d}"

    def hello(self) -> bytes:
        number = self.number
        first = self.waiting[0][0] - BATCH + 1 if self.waiting else self.seq + 1
        return pb.AgentMessage(
            hello=pb.Hello(
                node=self.node,
                boot_id=f"boot-{number}",
                epoch=f"epoch-{number}",
                machine_id=f"machine-{number}",
                labels={"rack": f"r{number // 16}", "switch": f"s{number // 1000}"},
                inventory=[
                    pb.Chip(uid=f"{number}-{i}", vendor="nvidia", model="sim", index=i)
                    for i in range(8)
                ],
                first_seq=first,
                next_seq=self.seq + 1,
            )
        ).SerializeToString()

    def beat(self) -> bytes:
        coverage = [
            pb.Coverage(check=name, at=time.time(), verdict=pb.VERDICT_OK)
            for name in ("nvidia", "kernel_log", "host", "rdma")
        ]
        return pb.AgentMessage(
            heartbeat=pb.Heartbeat(at=time.time(), coverage=coverage)
        ).SerializeToString()

    def batch(self) -> bytes:
        """Make the events of one fault's life, which opens no incident: severity info."""
        fault = pb.Fault(
            component=f"chip:{self.number}-{self.seq // BATCH % 8}", kind="chip.reset",
            severity=pb.SEVERITY_INFO, action="none", since=time.time(), summary="it was reset",
            source="nvidia", evidence=["a line of the kernel, as long as such lines often are"],
        )  # fmt: skip
        events = []
        for place in range(BATCH):
            self.seq += 1
            fault.count = place + 1
            transition = {0: pb.TRANSITION_RAISED, BATCH - 1: pb.TRANSITION_CLEARED}.get(
                place, pb.TRANSITION_UPDATED
            )
            event = pb.Event(seq=self.seq, at=time.time(), transition=transition, boot_id="b")
            event.fault.CopyFrom(fault)
            events.append(event)
        data = pb.AgentMessage(events=pb.EventBatch(events=events)).SerializeToString()
        self.waiting.append((self.seq, time.monotonic(), data))
        self.counts.sent += BATCH
        return data

    async def live(self, rng: random.Random) -> None:
        """Be connected for ever."""
        await asyncio.sleep(rng.uniform(0, self.given.spread))
        host, _, port = self.given.address.rpartition(":")
        loop = asyncio.get_running_loop()
        while True:
            is_lost = asyncio.Event()
            try:
                _, self.stream = await loop.create_connection(
                    lambda lost=is_lost.set: Stream(PATH, self.given.address, self.told, lost),  # type: ignore[misc]
                    host,
                    int(port),
                )
                self.stream.send(self.hello())
                await is_lost.wait()
            except OSError:
                pass
            if self.is_welcome:
                self.counts.connected -= 1
                self.counts.lost_streams += 1
            self.is_welcome = False
            await asyncio.sleep(rng.uniform(0, BACKOFF_SECONDS))

    def told(self, data: bytes) -> None:
        """Take in what the watchdog says."""
        message = pb.WatchdogMessage.FromString(data)
        if message.HasField("welcome"):
            self.acknowledge(message.welcome.acked_seq)
            for _, _, batch in self.waiting:
                self.stream.send(batch)
            self.is_welcome = True
            self.counts.connected += 1
        elif message.HasField("ack"):
            self.acknowledge(message.ack.seq)

    def acknowledge(self, seq: int) -> None:
        now = time.monotonic()
        while self.waiting and self.waiting[0][0] <= seq:
            _, made_at, _ = self.waiting.popleft()
            self.counts.acked += BATCH
            self.counts.ack_seconds.append(now - made_at)


class Fleet:
    """The agents of this process, each with its pace."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.counts = Counts()
        self.rng = random.Random(given.first)
        self.agents = [
            Agent(n, given, self.counts) for n in range(given.first, given.first + given.agents)
        ]
        self.is_ending = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.end)
        loop.add_signal_handler(signal.SIGUSR1, self.counts.ack_seconds.clear)
        tasks = [loop.create_task(agent.live(self.rng)) for agent in self.agents]
        tasks += [loop.create_task(part()) for part in (self.beats, self.events, self.pings)]
        while not (self.is_ending and self.counts.acked >= self.counts.sent):
            await asyncio.sleep(1.0)
            self.report()
        self.report()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def end(self) -> None:
        self.is_ending = True

    async def beats(self) -> None:
        """Let each agent beat in its turn; a lost heartbeat is one that is not sent."""
        await self.turns(self.given.agents / self.given.heartbeat, self.beat)

    async def events(self) -> None:
        if self.given.events:
            await self.turns(self.given.events / BATCH, self.send)

    async def pings(self) -> None:
        await self.turns(self.given.agents / LOOK_SECONDS, self.ping)

    async def turns(self, per_second: float, act: Callable[[Agent], None]) -> None:
        """Call `act` for one agent after the other, so often in all."""
        begun, done = time.monotonic(), 0
        while True:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            due = int((now - begun) * per_second)
            if due - done > 10 * per_second:  # we were stopped: nobody makes up for that
                begun, done = now, 0
                continue
            for turn in range(done, due):
                act(self.agents[turn % len(self.agents)])
            done = due

    def beat(self, agent: Agent) -> None:
        if (stream := agent.free_stream) is not None and self.rng.random() >= self.given.loss:
            self.counts.beats += 1
            stream.send(agent.beat())

    def send(self, agent: Agent) -> None:
        if not self.is_ending and (stream := agent.free_stream) is not None:
            stream.send(agent.batch())

    def ping(self, agent: Agent) -> None:
        if agent.stream is not None:
            agent.stream.ping(PING_SECONDS - LOOK_SECONDS / 2, ANSWER_SECONDS)

    def report(self) -> None:
        counts = self.counts
        seconds = sorted(counts.ack_seconds)
        figures = {
            "connected": counts.connected, "sent": counts.sent, "acked": counts.acked,
            "waiting": [a.node for a in self.agents if a.waiting][:3],
            "beats": counts.beats, "lost_streams": counts.lost_streams,
            "ack_p50": seconds[len(seconds) // 2] if seconds else 0.0,
            "ack_p99": seconds[int(len(seconds) * 0.99)] if seconds else 0.0,
        }  # fmt: skip
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first node")
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--heartbeat", type=float, default=5.0)
    parser.add_argument("--events", type=float, default=0.0, help="per second, of all together")
    parser.add_argument("--loss", type=float, default=0.0, help="share of lost heartbeats")
    parser.add_argument("--spread", type=float, default=5.0, help="seconds to connect all")
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    asyncio.run(Fleet(given).run())


if __name__ == "__main__":
    main()
