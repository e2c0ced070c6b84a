"""The two clocks of the watchdog, in one place so that a test can move them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def _elapsed() -> float:
    # BOOTTIME goes on while the machine sleeps; a pause must not look like no time at all.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clock:
    """What o'clock it is, and how long something took."""

    now: Callable[[], float] = time.time
    """UNIX seconds, for what is stored and shown."""
    elapsed: Callable[[], float] = _elapsed
    """Seconds that never jump, for every decision about silence."""
