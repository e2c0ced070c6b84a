"""Which silences are a pause of the network: many that began together, and end by themselves.

Agents ping once a second, so those that a pause meets were last heard within one second, and what
holds them up lets some be late before others: seen along time they are one crowd without a gap. Who
fell quiet well before or after a crowd has a reason of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP_SECONDS = 0.5
"""Half of a ping's period: so long after one fell quiet the next one belongs to another crowd."""
MANY_LEAST, MANY_RATIO = 3, 0.1
"""So many nodes, and this share of all, are a crowd."""
TAIL_SECONDS = 2.0
"""Not all are heard again at once: so long after the last look that found many quiet, those that
fell quiet with them still count to them."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Many nodes were last heard between these two moments (of the same clock, in seconds)."""

    first: float
    last: float
    until: float
    """When it is no excuse any more."""

    def covers(self, moment: float) -> bool:
        """Tell whether a node that was last heard in this moment fell quiet with the others."""
        return self.first - GAP_SECONDS <= moment <= self.last + GAP_SECONDS


def pauses(
    known: Sequence[Pause], moments: Sequence[float], nodes: int, now: float
) -> tuple[Pause, ...]:
    """Return the pauses that last, of those that were known and those that are seen now.

    `moments` are when each of the quiet ones was last heard, `nodes` how many there are in all.
    """
    lasting = [pause for pause in known if now < pause.until]
    for first, last in _crowds(sorted(moments), max(MANY_LEAST, MANY_RATIO * nodes)):
        same = [pause for pause in lasting if pause.covers(first) or pause.covers(last)]
        lasting = [pause for pause in lasting if pause not in same]
        first = min([first, *(pause.first for pause in same)])
        last = max([last, *(pause.last for pause in same)])
        lasting.append(Pause(first, last, now + TAIL_SECONDS))
    return tuple(lasting)


def _crowds(moments: Sequence[float], many: float) -> list[tuple[float, float]]:
    """Return from when to when each crowd fell quiet."""
    found: list[tuple[float, float]] = []
    start = 0
    for end, moment in enumerate(moments, 1):
        is_last = end == len(moments) or moments[end] - moment > GAP_SECONDS
        if is_last and end - start >= many:
            found.append((moments[start], moment))
        if is_last:
            start = end
    return found
