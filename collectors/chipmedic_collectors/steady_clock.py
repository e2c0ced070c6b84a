"""A clock for schedules that goes on when the host's clock is set back."""

from __future__ import annotations


class SteadyClock:
    """Counts on from the highest time that it has seen.

    A question that is due at ten o'clock would not be asked for five hours when the clock is set
    back from ten to five; set forward, everything is due at once, which does no harm.
    """

    def __init__(self) -> None:
        self._newest: float | None = None
        self._set_back = 0.0

    def seconds(self, now: float) -> float:
        """Return what a schedule compares: UNIX seconds plus all by which they were set back."""
        if self._newest is not None and now < self._newest:
            self._set_back += self._newest - now
        self._newest = now
        return now + self._set_back
