"""The way in which one part of the watchdog tells another that there is something to look at."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung by whoever changed something; a loop waits for it, or for its own slow beat.

    Rings while nobody waits are kept as one. It belongs to the event loop's thread.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the loop that waits, now or at its next wait."""
        self._event.set()

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait for a ring, at most so long; return whether it rang."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
