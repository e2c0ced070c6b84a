"""Who is connected and who has gone silent."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chipmedic.errors import ChipmedicError
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.intake.message import Batch
from chipmedic_watchdog.intake.peers import Address, address_of

CATCH_UP_SECONDS = 30.0
"""After this long a node's faults are judged even if its backlog is not in."""

RETURNS_MAX = 1_000
"""So many returns are remembered: 1 % of the largest fleet."""
DOUBT_SECONDS = 5.0
"""Streams that are found lost this soon after a stall of ours were lost by it."""

OUTBOX_MAX = 1000
"""Messages that wait for an agent which reads none."""


class NameTaken(ChipmedicError):
    """Two machines claim one node name."""


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One live stream of one agent."""

    node: str
    machine_id: str
    epoch: str
    peer: str
    opened_at: float
    serial: str = ""
    """Of the certificate that the agent has shown; empty: none."""
    stream: str = field(default_factory=lambda: secrets.token_hex(8))
    """Tells this stream from every other one of the node, here and at other watchdogs."""
    earlier: str = ""
    """The stream of the node before this one, as the store knows it."""
    is_told: bool = False
    """Whether the store hears of this stream: not while it refuses and its queue is full."""
    catch_up_seq: int = 0
    """The last seq that the agent had when it connected: what comes up to it is backlog."""
    acked_seq: int = 0
    received_seq: int = 0
    has_said_goodbye: bool = False
    wait_seconds: float = 0.0
    """The agent was told to come back not sooner than this; it is not silent meanwhile."""
    closing: asyncio.Future[pb.WatchdogMessage | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Done: the stream must end, after this last message."""
    outbox: deque[pb.WatchdogMessage] = field(default_factory=deque)
    has_outgoing: asyncio.Event = field(default_factory=asyncio.Event)
    is_muted: bool = False
    """Nothing more is said but the last message."""
    commands: dict[str, asyncio.Future[pb.CommandResult]] = field(default_factory=dict)

    @property
    def told_stream(self) -> str:
        """The node's newest stream of which the store hears; empty: of none."""
        return self.stream if self.is_told else self.earlier

    @property
    def is_catching_up(self) -> bool:
        """Whether events from before the connection are still on their way."""
        return self.acked_seq < self.catch_up_seq

    def send(self, message: pb.WatchdogMessage) -> None:
        """Queue a message for the agent."""
        if len(self.outbox) >= OUTBOX_MAX:
            self.end()  # it reads nothing; after a reconnect everything is said again
            return
        self.outbox.append(message)
        self.has_outgoing.set()

    def acknowledge(self, seq: int) -> None:
        """Let the agent know that everything up to this seq is durable."""
        if seq > self.acked_seq:
            self.acked_seq = seq
            self.has_outgoing.set()

    def note_received(self, batch: Batch) -> bool:
        """Note how far the agent has come; True where something is missing or cannot be read.

        Then a snapshot is worth asking for: the next regular one may be a minute away.
        """
        is_whole = not batch.lost and not batch.problems
        for event in batch.events:
            is_whole &= event.seq <= self.received_seq + 1
            self.received_seq = max(self.received_seq, event.seq)
        return not is_whole

    def mute(self) -> None:
        """Say nothing more than what is being said now."""
        self.is_muted = True
        self.has_outgoing.set()

    def end(self, last: pb.WatchdogMessage | None = None) -> None:
        """Ask the stream to end."""
        if not self.closing.done():
            self.closing.set_result(last)


@dataclass(slots=True)
class Away:
    """A known node without a stream, that did not say goodbye."""

    since: float
    """UNIX seconds."""
    due: float
    """Elapsed seconds at which silence becomes a verdict."""
    reason: str
    is_judged: bool = False
    peer: str = ""
    """Of the lost stream; empty: it was lost before the watchdog began to look."""
    lost_at: float = 0.0
    """Elapsed seconds; later where the agent was told to wait. Without a peer: since when it is
    expected."""
    stream: str = ""


class Sessions:
    """The streams by node, and the nodes that should have one."""

    def __init__(self, clock: Clock, silence_seconds: float) -> None:
        self._clock = clock
        self.silence_seconds = silence_seconds
        self.live: dict[str, Session] = {}
        self._addresses: dict[Address, Session] = {}
        """The live ones by the other end of their connection."""
        self.away: dict[str, Away] = {}
        self._behind: dict[str, Session] = {}
        """Those of the live that were catching up when it was last asked: few, of a large fleet."""
        self._doubt_until = 0.0
        self._returns: deque[float] = deque(maxlen=RETURNS_MAX)
        self._grace_until = 0.0

    def open(self, session: Session) -> Session | None:
        """Register a stream; returns the one that it replaces.

        Raises:
            NameTaken: another machine has this name and is connected.
        """
        old = self.live.get(session.node)
        if old is not None and _are_different(old.machine_id, session.machine_id):
            raise NameTaken(
                f"node {session.node} is connected from {old.peer} with machine-id "
                f"{old.machine_id}; this machine-id is {session.machine_id}: give one of the two "
                "hosts another node name"
            )
        self.live[session.node] = session
        if old is not None:
            self._forget_address(old)
            session.earlier = old.told_stream
        if (address := address_of(session.peer)) is not None:
            self._addresses[address] = session
        self._behind[session.node] = session
        if (away := self.away.pop(session.node, None)) is not None:
            session.earlier = session.earlier or away.stream
            self._returns.append(self._clock.elapsed())
        return old

    def close(self, session: Session, reason: str) -> str | None:
        """Take a stream away; returns the node's new state, None if it has another stream."""
        if self.live.get(session.node) is not session:
            return None
        del self.live[session.node]
        self._forget_address(session)
        if session.has_said_goodbye:
            return "stopped"
        now = self._clock.elapsed()
        lost_at = now + session.wait_seconds
        due = lost_at + self.silence_seconds
        if now <= self._doubt_until:
            due = max(due, self._grace_until)
        self.away[session.node] = Away(
            since=self._clock.now(), due=due, reason=reason, peer=session.peer, lost_at=lost_at,
            stream=session.told_stream,
        )  # fmt: skip
        return "silent"

    def at(self, address: Address) -> Session | None:
        """Return the live stream from this address and port."""
        return self._addresses.get(address)

    def give_up(self, session: Session, reason: str, quiet_seconds: float) -> Away | None:
        """End a stream from which nothing comes; returns the silence to be judged now.

        None if the node has another stream meanwhile.
        """
        if self.close(session, reason) != "silent":
            return None
        away = self.away[session.node]
        away.since -= quiet_seconds
        away.due = self._clock.elapsed()
        session.end()
        return away

    def _forget_address(self, session: Session) -> None:
        address = address_of(session.peer)
        if address is not None and self._addresses.get(address) is session:
            del self._addresses[address]

    def expect(self, last_seen: Mapping[str, tuple[float, str]], grace_seconds: float) -> None:
        """Wait for nodes that the store knows and that are not here yet.

        Of each is given when it was last seen, and its stream then.
        """
        now = self._clock.elapsed()
        due = now + grace_seconds
        for node, (since, stream) in last_seen.items():
            if node not in self.live and node not in self.away:
                reason = "it did not come back to the watchdog"
                self.away[node] = Away(since, due, reason, lost_at=now, stream=stream)

    def forget(self, nodes: Iterable[str]) -> None:
        """Wait no more for nodes that are connected to another watchdog."""
        for node in nodes:
            self.away.pop(node, None)

    def returned_within(self, seconds: float) -> int:
        """Return how many nodes came back in the last seconds, as far as they are counted."""
        oldest = self._clock.elapsed() - seconds
        while self._returns and self._returns[0] < oldest:
            self._returns.popleft()
        return len(self._returns)

    def lend(self, seconds: float) -> None:
        """Give back to every silent node the time in which we could not hear it."""
        for away in self.away.values():
            away.due += seconds
            away.lost_at += seconds

    def forgive(self, grace_seconds: float) -> None:
        """Give this time to every silent node, and to those whose loss we notice only now.

        Our own clock cannot be trusted: what we did not hear may have been said.
        """
        now = self._clock.elapsed()
        self._doubt_until, self._grace_until = now + DOUBT_SECONDS, now + grace_seconds
        for away in self.away.values():
            away.due = max(away.due, self._grace_until)

    @property
    def catching_up(self) -> frozenset[str]:
        """Nodes whose backlog is still coming in."""
        oldest = self._clock.now() - CATCH_UP_SECONDS
        self._behind = {
            node: session
            for node, session in self._behind.items()
            if self.live.get(node) is session
            and session.is_catching_up
            and session.opened_at >= oldest
        }
        return frozenset(self._behind)

    @property
    def silent(self) -> frozenset[str]:
        """Nodes without a stream, judged or not."""
        return frozenset(self.away)


def _are_different(old: str, new: str) -> bool:
    return bool(old and new) and old != new
