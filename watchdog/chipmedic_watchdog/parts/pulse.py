"""Whether this watchdog does its work: said to systemd and to the dead man's switch."""

from __future__ import annotations

import asyncio

from chipmedic import systemd
from chipmedic_watchdog.liveness import Liveness
from chipmedic_watchdog.parts.instruments import Instruments

STUCK_SECONDS = 30.0
"""A main loop that has not moved for this long is not reported alive."""


class Pulse:
    """Felt at the watch over silence, which moves ten times a second."""

    def __init__(self, liveness: Liveness, own: Instruments) -> None:
        self._liveness = liveness
        self._clock = own.clock
        self._health = own.health

    def troubles(self) -> list[str]:
        """Return what keeps this watchdog from its work."""
        problems = [words for key, words in self._health.problems.items() if key != "configuration"]
        if self._age_seconds > STUCK_SECONDS:
            problems.append(f"the watch over silence has not moved for {self._age_seconds:.0f} s")
        return problems

    async def feed_systemd(self) -> None:
        """Tell systemd that we live, while the main loop and the watch over silence move."""
        interval_seconds = systemd.watchdog_interval_seconds()
        while True:
            await asyncio.sleep((interval_seconds or STUCK_SECONDS) / 3)
            if interval_seconds is not None and self._age_seconds < STUCK_SECONDS:
                systemd.alive()

    @property
    def _age_seconds(self) -> float:
        return self._clock.elapsed() - self._liveness.ticked_at
