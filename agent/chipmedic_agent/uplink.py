"""Keeps a stream to one of the watchdogs, whichever answers; goes back to its own in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from dataclasses import dataclass

import grpc.aio

from chipmedic.address import is_loopback, split_address
from chipmedic_agent.channel import open_channel
from chipmedic_agent.config import AgentSettings
from chipmedic_agent.journal import Journal
from chipmedic_agent.membership import Membership, NoCertificate
from chipmedic_agent.narrow_way import NarrowWay
from chipmedic_agent.orders import Orders
from chipmedic_agent.own_files import OwnFiles
from chipmedic_agent.reporter import Reporter
from chipmedic_agent.session import Session, StreamLost
from chipmedic_agent.targets import Targets
from chipmedic_agent.ways import Ways
from chipmedic_proto.v1.chipmedic_pb2_grpc import WatchdogStub

STEADY_SECONDS = 10.0
"""A stream that lasted so long after its welcome was a good one: the backoff starts again."""
RETURN_SECONDS = (600.0, 1200.0)
"""How long a node stays with another watchdog before it looks whether its own is there again."""
PROBE_SECONDS = 2.0


@dataclass(slots=True)
class LinkState:
    """What is known of the stream now."""

    watchdog: str | None = None
    """Connected and welcome there; None: not connected."""
    since: float = 0.0
    """When it was connected or lost; UNIX seconds."""
    trouble: str = ""
    sessions: int = 0


logger = logging.getLogger(__name__)


class Uplink:
    """Connects, speaks, waits, and connects again."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        journal: Journal,
        reporter: Reporter,
        orders: Orders,
        membership: Membership | None = None,
        own_files: OwnFiles | None = None,
    ) -> None:
        self._membership = membership
        self._own_files = own_files
        self.state = LinkState(since=time.time())
        self._settings = settings
        self._journal = journal
        self._reporter = reporter
        self._orders = orders
        self._wake = asyncio.Event()
        self._session: Session | None = None
        self._is_ending = False
        self._welcome_at = math.inf
        self._told: dict[str, str] = {}
        self._plain: set[str] = set()
        """Why there is no stream to each watchdog, as it was logged."""
        self._changed = asyncio.Event()
        self._targets = Targets(settings.watchdogs, settings.node)
        self._ways = Ways(self.begin_anew)
        journal.on_change = self._wake.set

    @property
    def is_configured(self) -> bool:
        """Whether there is a watchdog to be connected to."""
        return bool(self._settings.watchdogs)

    @property
    def path_trouble(self) -> str:
        """What is wrong on the way to a watchdog; empty: nothing that is known."""
        return self._ways.trouble

    def apply(self, settings: AgentSettings) -> None:
        """Take over watchdogs, labels, pace and encryption: the stream begins anew."""
        self._settings = settings
        self._targets = Targets(settings.watchdogs, settings.node)
        self.begin_anew("the configuration has changed")

    def begin_anew(self, why: str) -> None:
        """End the stream politely and open it again at once."""
        self._changed.set()
        self._leave(why)

    def end(self, reason: str) -> None:
        """Say goodbye; `run` returns soon."""
        self._is_ending = True
        self._changed.set()
        self._leave(reason)

    def look_for_new_chips(self) -> None:
        """Let the watchdog know at once when the inventory has changed."""
        if self._session is not None and self._session.knows_new_chips():
            self._wake.set()

    async def run(self) -> None:
        """Stay connected until `end`."""
        try:
            await self._stay_connected()
        finally:
            await self._ways.close()

    async def _stay_connected(self) -> None:
        while not self._is_ending:
            self._changed.clear()
            if not self._settings.watchdogs:
                await self._changed.wait()
                continue
            target, wait_seconds = self._targets.choose(time.monotonic())
            if wait_seconds > 0:
                await self._pause(wait_seconds)
            else:
                await self._try(target)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # Of a stream that ends in the moment of our own cancellation the task group tells
                # the end alone.
                raise asyncio.CancelledError

    async def _try(self, target: str) -> None:
        """Speak to a watchdog for as long as it lasts, and note how it ended."""
        self._welcome_at = math.inf
        lost = None
        try:
            await self._speak_to(target)
        except StreamLost as e:
            lost = await self._explained(e)
        finally:
            was_welcome = self.state.watchdog is not None
            self._note_end(target, lost)
        if lost is None:
            self._targets.note_ended(target)
            return
        now = time.monotonic()
        self._targets.note_lost(
            target,
            now,
            was_welcome=was_welcome,
            was_steady=now - self._welcome_at > STEADY_SECONDS,
            is_ours=lost.is_ours,
            asked_seconds=lost.wait_seconds,
        )

    async def _explained(self, lost: StreamLost) -> StreamLost:
        """Say what is wrong with files of the site's own, where that is why nobody answered."""
        if self._own_files is None or lost.is_ours or self.state.watchdog is not None:
            return lost
        trouble = await self._own_files.trouble(self._settings.tls, str(lost))
        return StreamLost(trouble, wait_seconds=lost.wait_seconds) if trouble else lost

    async def _go_back(self, present: str) -> None:
        """End the stream politely when the watchdog that this node prefers is there again."""
        own = self._targets.first
        if own is None or own == present:
            return
        while True:
            await asyncio.sleep(random.uniform(*RETURN_SECONDS))  # noqa: S311 - spreads load
            if await _is_listening(own):
                logger.info("goes back: from=%s to=%s", present, own)
                self._leave("goes back to its own watchdog")
                return

    async def _speak_to(self, target: str) -> None:
        is_narrow = self._ways.is_narrow(target)
        async with contextlib.AsyncExitStack() as stack:
            channel = await self._open(target, stack, is_narrow=is_narrow)
            session = Session(
                WatchdogStub(channel).Connect(),  # type: ignore[no-untyped-call]
                journal=self._journal,
                reporter=self._reporter,
                orders=self._orders,
                settings=self._settings.stream,
                wake=self._wake,
                welcomed=lambda: self._note_welcome(target),
            )
            self._session = session
            going_back = asyncio.create_task(self._go_back(target), name="go back")
            try:
                await session.run()
            except StreamLost as e:
                if e.is_unanswered and session.may_be_stuck and not is_narrow:
                    self._ways.suspect(target)
                raise
            finally:
                self._session = None
                going_back.cancel()

    async def _open(
        self, target: str, stack: contextlib.AsyncExitStack, *, is_narrow: bool
    ) -> grpc.aio.Channel:
        """Make a channel that is closed with the stack; nothing is connected yet."""
        through = ""
        if is_narrow:
            way = await stack.enter_async_context(NarrowWay(*split_address(target)))
            through = way.target
        try:
            joined = await self._membership.shown() if self._membership is not None else None
            if joined is None:
                self._warn_of_plain(target)
            channel = open_channel(target, self._settings.tls, joined, through=through)
        except NoCertificate as e:
            raise StreamLost(str(e)) from e
        except OSError as e:
            raise StreamLost(f"tls: {e.filename}: {e.strerror}") from e
        stack.push_async_callback(channel.close, None)
        return channel

    def _warn_of_plain(self, target: str) -> None:
        """Say once for each watchdog that what goes to it can be read on the way."""
        if self._settings.tls.ca_file is not None or target in self._plain:
            return
        if not is_loopback(split_address(target)[0]):
            self._plain.add(target)
            logger.warning("stream is not encrypted: watchdog=%s; run chipmedic agent join", target)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _leave(self, reason: str) -> None:
        if self._session is not None:
            self._session.farewell = reason
            self._wake.set()

    def _note_welcome(self, target: str) -> None:
        self._welcome_at = time.monotonic()
        self.state.watchdog = target
        self.state.since = time.time()
        self.state.trouble = ""
        self.state.sessions += 1
        logger.info("stream open: watchdog=%s epoch=%s", target, self._journal.epoch)

    def _note_end(self, target: str, lost: StreamLost | None) -> None:
        """Log the end of a stream, or a new reason why there is none; not each attempt."""
        why = str(lost or "ended by us")
        if lost is None:
            logger.info("stream ended: watchdog=%s", target)
        elif self.state.watchdog is not None or why != self._told.get(target):
            logger.warning("stream lost: watchdog=%s why=%s", target, why)
        self._told[target] = why
        if self.state.watchdog is not None:
            self.state.since = time.time()
        self.state.watchdog = None
        self.state.trouble = why


async def _is_listening(address: str) -> bool:
    """Whether somebody takes connections there."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
