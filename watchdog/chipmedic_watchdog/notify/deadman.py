"""The dead man's switch: an address outside hears from this watchdog only while it really works.

It is pinged like a check of healthchecks.io: a GET says that all is well, a POST to `<url>/fail`
says what is not. When neither comes, the watchdog or its host is dead, and that address tells
people. Nothing is pinged that was not proved a moment before: the store takes a write, the loops
move, notices are delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import httpx

from chipmedic.config import read_secret
from chipmedic.errors import ConfigError
from chipmedic.section import Section, above_zero, checks
from chipmedic_watchdog.abandon import call_abandonable

LOGGER = logging.getLogger(__name__)

REASON_LETTERS_MAX = 2_000
MARGIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadmanSettings(Section):
    """[notify.deadman]: present with an address: it is pinged."""

    url: str = ""
    """Where it holds no secret; at healthchecks.io the address itself is one."""
    url_file: str = ""
    interval_seconds: float = 30.0
    timeout_seconds: float = 10.0
    fail_suffix: str = "/fail"
    """Appended to the address to say that something does not work; empty: then nothing is sent."""

    def _one_address(self) -> Iterator[str]:
        if self.url and self.url_file:
            yield "url and url_file: give one of them"

    CHECKS = checks(_one_address, above_zero("interval_seconds", "timeout_seconds"))

    @property
    def is_on(self) -> bool:
        """Whether there is an address."""
        return bool(self.url or self.url_file)

    def read_url(self) -> str:
        """Return the address.

        Raises:
            ConfigError: the file cannot be read, or is empty.
        """
        return self.url or read_secret("notify.deadman.url_file", self.url_file)


class Deadman:
    """Pings until cancelled."""

    def __init__(
        self,
        settings: DeadmanSettings,
        prove: Callable[[], Awaitable[list[str]]],
        on_ping: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._prove = prove
        self._on_ping = on_ping
        self._trouble = ""

    async def run(self) -> None:
        """Prove and ping, again and again; without an address do nothing."""
        while self._settings.is_on:
            await self.ping()
            await asyncio.sleep(self._settings.interval_seconds)

    async def ping(self) -> None:
        """Prove that the watchdog works and say so, or say what does not."""
        reasons = await self._prove()
        try:
            await call_abandonable(
                lambda: self._send(reasons),
                timeout_seconds=self._settings.timeout_seconds + MARGIN_SECONDS,
                name="deadman",
            )
        except (httpx.HTTPError, httpx.InvalidURL, ConfigError, TimeoutError) as e:
            # Not the text of httpx: it may hold the address, which may be a secret.
            why = str(e) if isinstance(e, ConfigError) else type(e).__name__
            self._note(f"the ping does not arrive: {why}")
            self._on_ping(False)
            return
        self._note("; ".join(reasons))
        self._on_ping(not reasons)

    def _send(self, reasons: list[str]) -> None:
        """Ping; blocks."""
        url = self._settings.read_url().rstrip("/")
        with httpx.Client(timeout=self._settings.timeout_seconds) as client:
            if not reasons:
                client.get(url).raise_for_status()
            elif self._settings.fail_suffix:
                body = "\n".join(reasons)[:REASON_LETTERS_MAX].encode()
                client.post(url + self._settings.fail_suffix, content=body).raise_for_status()

    def _note(self, trouble: str) -> None:
        """Log a trouble that begins, changes or ends."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            LOGGER.warning("dead man's switch: not well: why=%s", trouble)
        else:
            LOGGER.info("dead man's switch: well")
