"""Why no stream comes about with certificate files of the site's own: gRPC does not say it."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path

from chipmedic.errors import CollectError
from chipmedic.host import Host
from chipmedic_agent.config import TlsSettings

LOOK_SECONDS = 300.0
"""Files that have not changed are not looked at again before; certificates expire by themselves."""
CHILD_SECONDS = 30.0
OF_THE_NETWORK = re.compile(r"refused|unreachable|resolution|timed out|no route", re.IGNORECASE)
"""Words of an attempt that failed before any certificate was shown."""

Stamp = tuple[tuple[str, float, int], ...]


class OwnFiles:
    """Looks at the files of `[tls]` after a failed attempt, in a child and seldom."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stamp: Stamp = ()
        self._at = -LOOK_SECONDS
        self._trouble = ""

    async def trouble(self, tls: TlsSettings, why: str) -> str:
        """Return what is wrong with the files; empty: nothing, or `why` is of the network."""
        if tls.ca_file is None or OF_THE_NETWORK.search(why):
            return ""
        files = [tls.certificate_file or "", tls.key_file or "", tls.ca_file]
        stamp, now = _stamp(files), time.monotonic()
        if stamp != self._stamp or now - self._at >= LOOK_SECONDS:
            self._trouble = await self._ask(files)
            self._stamp, self._at = stamp, now
        return self._trouble

    async def _ask(self, files: list[str]) -> str:
        argv = [sys.executable, "-m", "chipmedic.tls_files", "tls", *files]
        try:
            answer = await asyncio.to_thread(self._host.run, argv, timeout_seconds=CHILD_SECONDS)
        except CollectError:  # the reason of gRPC is told as it is
            return ""
        return "; ".join(answer.stdout.strip().splitlines()) if answer.exit_code == 0 else ""


def _stamp(files: list[str]) -> Stamp:
    """Return by what a change of the files is seen; one that is not there has no stamp."""
    found = []
    for path in filter(None, files):
        try:
            state = Path(path).stat()
        except OSError:
            continue
        found.append((path, state.st_mtime, state.st_size))
    return tuple(found)
