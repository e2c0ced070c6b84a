"""Keeps the node's certificate: joins with a token, renews in time, notices one made by hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from chipmedic.address import split_address
from chipmedic.errors import ChipmedicError, CollectError, StoreError
from chipmedic.host import Host
from chipmedic_agent import credentials
from chipmedic_agent.config import JOIN_PORT, AgentSettings
from chipmedic_agent.credentials import Credentials
from chipmedic_agent.worker import Worker

LOOK_SECONDS = 5.0
"""How soon a certificate that was made by hand is shown."""
CHILD_SECONDS = 60.0
RETRY_SECONDS = (2.0, 600.0)
RETRY_RATIO = 1 / 20
"""Of the life that is left: how long a renewal that failed waits for the next try."""
JOIN_RETRY_SECONDS = 30.0

FIRST_LOOK_SECONDS = 5.0
"""How long the first stream waits for the first look; a sick disk must not hold it up for ever."""

logger = logging.getLogger(__name__)


class NoCertificate(ChipmedicError):
    """The stream must wait for a certificate."""


class Membership:
    """Where the stream gets its certificate from, unless the site has one of its own."""

    def __init__(self, settings: AgentSettings, host: Host, changed: Callable[[str], None]) -> None:
        self.credentials: Credentials | None = None
        self.trouble = ""
        """Why there is no certificate, or no new one; empty: all is well."""
        self._settings = settings
        self._host = host
        self._changed = changed
        self._retry_at = 0.0
        self._is_unreadable = False
        self._has_looked = asyncio.Event()
        self._worker = Worker("membership")

    def apply(self, settings: AgentSettings) -> None:
        """Take over a new configuration."""
        self._settings = settings
        self._retry_at = 0.0

    async def shown(self) -> Credentials | None:
        """Return what the stream shows; None: none is to be had, and none is wanted.

        Raises:
            NoCertificate: the stream must wait for one. Going on without it would mean to speak in
                the clear, to whoever answers.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self._has_looked.wait()
        tls = self._settings.tls
        is_wanted = self._is_unreadable or tls.token_file is not None
        if self.credentials is None and is_wanted and tls.ca_file is None:
            raise NoCertificate(f"no certificate yet: {self.trouble or 'joining'}")
        return self.credentials

    async def run(self) -> None:
        """Look and act until cancelled."""
        try:
            while True:
                if self._settings.tls.ca_file is None:
                    await self.look()
                self._has_looked.set()
                await asyncio.sleep(min(LOOK_SECONDS, self._due_seconds()))
        finally:
            self._worker.close()

    async def look(self) -> None:
        """Read what is there; join or renew where that is due."""
        await self._read()
        self._has_looked.set()
        now = time.time()
        if now < self._retry_at:
            return
        present, tls = self.credentials, self._settings.tls
        if present is not None and present.node == self._settings.node and now < present.expires_at:
            if now >= present.renew_at:
                await self._call("renew", list(self._settings.watchdogs))
        elif tls.token_file is not None and self._settings.watchdogs:
            await self._call("join", [self._join_address()])
        elif present is not None:
            self._note(
                f"the certificate is of {present.node} and expired or of another name: create a "
                f"token for {self._settings.node} and run chipmedic agent join"
            )

    def _due_seconds(self) -> float:
        if self.credentials is None:
            return LOOK_SECONDS
        due = max(self.credentials.renew_at, self._retry_at)
        return max(0.5, due - time.time())

    async def _read(self) -> None:
        try:
            found = await self._worker.call(partial(credentials.load, self._folder))
        except StoreError as e:
            self._is_unreadable = self.credentials is None
            self._note(str(e))
            return
        self._is_unreadable = False
        if found == self.credentials:
            return
        is_first = self.credentials is None
        self.credentials = found
        if found is not None:
            self.trouble = ""
            self._retry_at = 0.0
            logger.info("certificate in force: node=%s until=%.0f", found.node, found.expires_at)
            self._changed("joined" if is_first else "the certificate was renewed")

    async def _call(self, act: str, targets: list[str]) -> None:
        """Let a child do it; the daemon itself loads no cryptography."""
        argv = [sys.executable, "-m", "chipmedic_agent.enrol", act, "--folder", str(self._folder),
                "--node", self._settings.node]  # fmt: skip
        if act == "join":
            argv += ["--token-file", str(self._settings.tls.token_file)]
        try:
            answer = await self._worker.call(
                partial(self._host.run, [*argv, "--", *targets], timeout_seconds=CHILD_SECONDS)
            )
        except CollectError as e:
            words = str(e)
        else:
            if answer.exit_code == 0:
                await self._read()
                return
            words = (answer.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        self._retry_at = time.time() + self._retry_seconds()
        self._note(f"{act}: {words}")

    def _retry_seconds(self) -> float:
        if self.credentials is None:
            return JOIN_RETRY_SECONDS
        left = self.credentials.expires_at - time.time()
        return min(max(left * RETRY_RATIO, RETRY_SECONDS[0]), RETRY_SECONDS[1])

    def _note(self, words: str) -> None:
        """Log a trouble that is new."""
        if words != self.trouble:
            logger.warning("certificate: %s", words)
        self.trouble = words

    def _join_address(self) -> str:
        tls = self._settings.tls
        host = split_address(self._settings.watchdogs[0])[0]
        return tls.join or f"{f'[{host}]' if ':' in host else host}:{JOIN_PORT}"

    @property
    def _folder(self) -> Path:
        return Path(self._settings.state_directory)
