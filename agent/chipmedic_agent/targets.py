"""Which watchdog to speak to, and when: an order and a backoff for each. Pure but for the dice.

Every node has an order of its own, so that they spread over the watchdogs, and those of one that
dies spread over the others. An address that failed, or that sent us away, is left alone for its
time; meanwhile the others are tried at once.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

FIRST_DELAY_SECONDS = 0.5
DELAY_MAX_SECONDS = 30.0

Dice = Callable[[float, float], float]


@dataclass(slots=True)
class _Target:
    address: str
    failures: int = 0
    """In a row."""
    not_before: float = 0.0
    """Monotonic seconds."""


class Targets:
    """The watchdogs of the configuration as one node sees them."""

    def __init__(self, addresses: Iterable[str], node: str, dice: Dice = random.uniform) -> None:
        self._dice = dice
        ordered = sorted(addresses, key=lambda address: _rank(node, address))
        self._targets = {address: _Target(address) for address in ordered}
        self._not_before = 0.0

    @property
    def first(self) -> str | None:
        """The address that this node prefers; None: there is none."""
        return next(iter(self._targets), None)

    def choose(self, now: float) -> tuple[str, float]:
        """Return the address to try next, and how many seconds to wait before that.

        Raises:
            LookupError: there is no address.
        """
        ready = [t for t in self._targets.values() if t.not_before <= now]
        if ready:
            return ready[0].address, max(0.0, self._not_before - now)
        if not self._targets:
            raise LookupError("no watchdog is configured")
        soonest = min(self._targets.values(), key=lambda target: target.not_before)
        return soonest.address, max(soonest.not_before, self._not_before) - now

    def note_lost(
        self,
        address: str,
        now: float,
        *,
        was_welcome: bool = False,
        was_steady: bool = False,
        is_ours: bool = False,
        asked_seconds: float | None = None,
    ) -> None:
        """Take note that there is no stream to an address, or none any more.

        `asked_seconds` is how long it wants to be left alone. `is_ours`: we ended the stream to
        begin anew at once; only when that happens again and again we slow down.
        """
        target = self._targets.get(address)
        if target is None:
            return  # the configuration has changed
        target.failures = 0 if was_steady else target.failures + 1
        if is_ours and target.failures <= 1:
            return
        target.not_before = now + self._delay(target.failures, asked_seconds)
        if was_welcome:
            # Thousands lose one watchdog in the same moment and must not be at another in one.
            self._not_before = now + self._dice(0.0, FIRST_DELAY_SECONDS)

    def note_ended(self, address: str) -> None:
        """Take note that a stream ended politely."""
        if address in self._targets:
            self._targets[address].failures = 0

    def _delay(self, failures: int, asked_seconds: float | None) -> float:
        """Return how long to wait: what we were told, else exponential backoff with full jitter."""
        if asked_seconds is not None:
            return asked_seconds * self._dice(1.0, 1.2)
        longest = min(DELAY_MAX_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(failures, 10))
        return self._dice(0.0, longest)


def _rank(node: str, address: str) -> bytes:
    """Return a number that is another one for each pair, and the same on every start."""
    return hashlib.sha256(f"{node} {address}".encode()).digest()
