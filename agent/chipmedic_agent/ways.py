"""Which way leads to each watchdog: the usual one, or one in small packets where large ones vanish.

A path on which the MTU differs and nobody says so (ICMP is blocked) lets a stream open and then
holds it up for ever behind the first large message. A stream that ends as if that were so is
followed by one in small packets at once, and beside it the path is tried, which tells for sure.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from chipmedic.address import split_address
from chipmedic_agent.narrow_way import SEGMENT_BYTES
from chipmedic_agent.path_trial import large_packets_pass

AGAIN_SECONDS = (240.0, 360.0)
"""Between two trials of a path that loses large packets."""
BELIEVED_SECONDS = 600.0
"""How long a path that let large packets pass is not suspected again."""

Trial = Callable[[str, int], Awaitable[bool | None]]

logger = logging.getLogger(__name__)


class Ways:
    """What is known of the path to each watchdog."""

    def __init__(
        self, begin_anew: Callable[[str], None], trial: Trial = large_packets_pass
    ) -> None:
        """`begin_anew` opens the stream again; it is called when the usual way is free again."""
        self._begin_anew = begin_anew
        self._trial = trial
        self._narrow: set[str] = set()
        self._lossy: set[str] = set()
        self._believed_until: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def is_narrow(self, address: str) -> bool:
        """Whether the stream to it should go in small packets."""
        return address in self._narrow

    @property
    def trouble(self) -> str:
        """What is wrong on the way, in words; empty: nothing that is known."""
        if not self._lossy:
            return ""
        return f"large packets vanish on the way to {', '.join(sorted(self._lossy))}"

    def suspect(self, address: str) -> None:
        """Take note of a stream that ended as on a path that loses large packets."""
        if address in self._tasks or time.monotonic() < self._believed_until.get(address, 0.0):
            return
        self._narrow.add(address)
        task = asyncio.create_task(self._find_out(address), name=f"path to {address}")
        self._tasks[address] = task
        task.add_done_callback(lambda _: self._tasks.pop(address, None))

    async def close(self) -> None:
        """Try no more, and forget what was found."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._narrow.clear()
        self._lossy.clear()

    async def _find_out(self, address: str) -> None:
        """Try the path, and again and again while it loses large packets."""
        passes = await self._trial(*split_address(address))
        if passes is False:
            self._tell(address)
            while passes is not True:
                await asyncio.sleep(random.uniform(*AGAIN_SECONDS))  # noqa: S311  spreads load
                passes = await self._trial(*split_address(address))
            logger.warning("large packets pass again: watchdog=%s", address)
            self._lossy.discard(address)
            self._narrow.discard(address)
            self._begin_anew("large packets pass again")
        else:
            self._narrow.discard(address)  # the stream that is open goes on as it is
        if passes:
            self._believed_until[address] = time.monotonic() + BELIEVED_SECONDS

    def _tell(self, address: str) -> None:
        self._lossy.add(address)
        logger.warning(
            "large packets vanish on the way: watchdog=%s why=small ones are answered, large ones "
            "are not; most often the MTU differs along the path and ICMP is blocked: compare it on "
            "hosts and switches; the stream goes on in packets of %d bytes",
            address, SEGMENT_BYTES,
        )  # fmt: skip
