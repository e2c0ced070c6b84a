"""A limit on how much one agent may send."""

from __future__ import annotations


class Bucket:
    """Fills at a rate up to a size; taking more than there is tells how long to wait."""

    def __init__(self, rate_per_second: float, size: float, at: float) -> None:
        self._rate_per_second = rate_per_second
        self._size = size
        self._level = size
        self._at = at

    def take(self, amount: float, at: float) -> float:
        """Take; returns 0.0, or the seconds after which half the bucket is full again."""
        self._fill(at)
        if amount <= self._level:
            self._level -= amount
            return 0.0
        return max(0.1, (self._size / 2 - self._level) / self._rate_per_second)

    def has(self, amount: float, at: float) -> bool:
        """Say whether so much is there, and take nothing."""
        self._fill(at)
        return amount <= self._level

    def _fill(self, at: float) -> None:
        self._level = min(self._size, self._level + (at - self._at) * self._rate_per_second)
        self._at = at
