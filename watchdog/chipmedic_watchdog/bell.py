"""The way in which one part of the watchdog tells another that there is something to look at."""

from __future__ import annotations

import asyncio
import time


class Bell:
    """Rung by whoever changed something; a loop waits for it, or for its own slow beat.

    Rings while nobody waits are kept as one. It belongs to the event loop's thread.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._answered_at = time.monotonic()

    def ring(self) -> None:
        """Wake the loop that waits, now or at its next wait."""
        self._event.set()

    def hush(self) -> None:
        """Forget the rings so far: whoever was to look does so now."""
        self._event.clear()

    @property
    def is_rung(self) -> bool:
        """Whether it was rung since the last wait."""
        return self._event.is_set()

    async def wait(self, timeout_seconds: float, *, at_least_seconds: float = 0.0) -> bool:
        """Wait for a ring, at most so long; return whether it rang.

        `at_least_seconds` bounds how often a loop looks that is rung all the time.
        """
        await asyncio.sleep(at_least_seconds)
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._answered_at = time.monotonic()
        self._event.clear()
        return True

    def rest_seconds(self, most: float) -> float:
        """Return how long to rest after a look, so that looks take a quarter of the time.

        A bell that rings all the time must not keep everybody else from the interpreter.
        """
        return min(most, 3 * (time.monotonic() - self._answered_at))
