"""Waiting for what must come true, however slow the machine is.

A test says what must happen, not how fast: how long things take is measured in `bench/`. A wait
ends as soon as the thing is so, therefore its limit costs nothing where all is well, and a limit
that a busy machine reaches would only tell that the machine was busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 150.0
"""Far beyond what any of them takes, and less than the 300 s that pytest allows to one test."""


def until(
    is_so: Callable[[], T],
    what: str = "it",
    *,
    explain: Callable[[], str] = str,
    every_seconds: float = 0.05,
) -> T:
    """Wait until something is true, and return it; `explain` says more where it never is."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := is_so()):
        if time.monotonic() > end:
            raise AssertionError(f"not in {PATIENCE_SECONDS:g} s: {what}\n{explain()[-3000:]}")
        time.sleep(every_seconds)
    return found


async def eventually(is_so: Callable[[], T], what: str = "it") -> T:
    """Wait in an event loop until something is true, and return it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := is_so()):
        if time.monotonic() > end:
            raise AssertionError(f"not in {PATIENCE_SECONDS:g} s: {what}")
        await asyncio.sleep(0.01)
    return found
