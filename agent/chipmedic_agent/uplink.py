"""Keeps a stream to one of the watchdogs: the first that answers, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from dataclasses import dataclass

from chipmedic_agent.channel import open_channel
from chipmedic_agent.config import AgentSettings
from chipmedic_agent.journal import Journal
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.reporter import Reporter
from chipmedic_agent.roster import Roster
from chipmedic_agent.session import Session, StreamLost
from chipmedic_proto.v1.chipmedic_pb2_grpc import WatchdogStub

FIRST_DELAY_SECONDS = 0.5
DELAY_MAX_SECONDS = 30.0
STEADY_SECONDS = 10.0
"""A stream that lasted so long after its welcome was a good one: the backoff starts again."""


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
        roster: Roster,
        pipeline: Pipeline,
    ) -> None:
        self.state = LinkState(since=time.time())
        self._settings = settings
        self._journal = journal
        self._reporter = reporter
        self._roster = roster
        self._pipeline = pipeline
        self._wake = asyncio.Event()
        self._session: Session | None = None
        self._is_ending = False
        self._welcome_at = math.inf
        self._told: dict[str, str] = {}
        """Why there is no stream to each watchdog, as it was logged."""
        self._changed = asyncio.Event()
        journal.on_change = self._wake.set

    @property
    def is_configured(self) -> bool:
        """Whether there is a watchdog to be connected to."""
        return bool(self._settings.watchdogs)

    def apply(self, settings: AgentSettings) -> None:
        """Take over watchdogs, labels, pace and encryption: the stream begins anew."""
        self._settings = settings
        self._changed.set()
        self._leave("the configuration has changed")

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
        failures = 0
        while not self._is_ending:
            self._changed.clear()
            if not self._settings.watchdogs:
                await self._changed.wait()
                continue
            self._welcome_at = math.inf
            lost = await self._try_all()
            if lost is None:
                continue
            was_steady = time.monotonic() - self._welcome_at > STEADY_SECONDS
            failures = 0 if was_steady else failures + 1
            if lost.is_ours and failures <= 1:
                continue
            await self._pause(_delay(failures, lost.wait_seconds))

    async def _try_all(self) -> StreamLost | None:
        """Speak to the first watchdog that welcomes us; return why that ended, None: politely."""
        lost = None
        for target in self._settings.watchdogs:
            lost = None
            try:
                await self._speak_to(target)
            except StreamLost as e:
                lost = e
            else:
                return None
            finally:
                was_welcome = self.state.watchdog is not None
                self._note_end(target, lost)
            if was_welcome or self._is_ending or (lost is not None and lost.is_ours):
                break
        return lost

    async def _speak_to(self, target: str) -> None:
        try:
            channel = open_channel(target, self._settings.tls)
        except OSError as e:
            raise StreamLost(f"tls: {e.filename}: {e.strerror}") from e
        try:
            session = Session(
                WatchdogStub(channel).Connect(),  # type: ignore[no-untyped-call]
                journal=self._journal,
                reporter=self._reporter,
                roster=self._roster,
                settings=self._settings.stream,
                wake=self._wake,
                take_token=self._take_token,
                welcomed=lambda: self._note_welcome(target),
            )
            self._session = session
            await session.run()
        finally:
            self._session = None
            await channel.close(None)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _leave(self, reason: str) -> None:
        if self._session is not None:
            self._session.farewell = reason
            self._wake.set()

    def _take_token(self, token: int) -> bool:
        """Refuse what a deposed leader still sends."""
        if token < self._pipeline.fencing_token:
            return False
        if token > self._pipeline.fencing_token:
            self._pipeline.fencing_token = token
            self._journal.touch()
        return True

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


def _delay(failures: int, asked_seconds: float | None) -> float:
    """Return how long to wait: what we were told, else exponential backoff with full jitter.

    Ten thousand agents lose one watchdog in the same moment and must not come back in one.
    """
    if asked_seconds is not None:
        return asked_seconds * random.uniform(1.0, 1.2)  # noqa: S311 - spreads load, no secret
    longest = min(DELAY_MAX_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(failures, 10))
    return random.uniform(0.0, longest)  # noqa: S311 - spreads load, no secret
