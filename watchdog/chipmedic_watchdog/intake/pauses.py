"""Which silences are a pause of the network: many that began in one moment, and end by themselves.

Agents ping once a second, so those that a pause meets were last heard within one second, about half
of them within the same half second. Who fell quiet before or after them has a reason of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOMENT_SECONDS = 0.5
"""What fell quiet within this has one reason, where it is many."""
MANY_LEAST, MANY_RATIO = 3, 0.05
"""So many nodes, and this share of all, are many in one moment: a pause that meets a tenth of all
shows twice this share in the second before it."""
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
        return self.first - MOMENT_SECONDS / 2 <= moment <= self.last + MOMENT_SECONDS / 2


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
    """Return from when to when there are many in each moment."""
    found: list[tuple[float, float]] = []
    start = 0
    for end, moment in enumerate(moments):
        while moment - moments[start] > MOMENT_SECONDS:
            start += 1
        if end - start + 1 < many:
            continue
        if found and moments[start] <= found[-1][1]:
            found[-1] = (found[-1][0], moment)
        else:
            found.append((moments[start], moment))
    return found
