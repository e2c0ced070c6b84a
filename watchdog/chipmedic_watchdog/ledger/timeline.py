"""A picture of where time went, as positions: one bar per job, one piece per stretch. Pure.

The page draws it as SVG without any script. A loss of seconds in a month would be thinner than a
hair: it keeps a least width, and what lies under it is drawn first, so that no loss is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chipmedic_watchdog.ledger.account import Account
from chipmedic_watchdog.ledger.phases import LOST, Interval, Phase

WIDTH = 1_000.0
LEAST_WIDTH = 2.0
TICKS_MAX = 8
DAY = 86_400.0
TICK_SECONDS = (
    1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY,
    90 * DAY, 365 * DAY,
)  # fmt: skip
PIECES_MAX = 400
"""Of one bar; the shortest ones beyond are left out, which the table beside it does not."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One stretch of a bar, in units of the picture's width."""

    x: float
    width: float
    phase: Phase
    interval: Interval


@dataclass(frozen=True, slots=True)
class Tick:
    """One mark of the axis."""

    x: float
    label: str


def pieces(one: Account, begin: float, end: float) -> list[Piece]:
    """Return a job's bar, the lost stretches last."""
    scale = WIDTH / max(end - begin, 1e-9)
    longest = sorted(one.intervals, key=lambda interval: -interval.seconds)[:PIECES_MAX]
    ordered = sorted(longest, key=lambda i: (i.phase in LOST, i.start_at))
    return list(_placed(ordered, begin, scale))


def _placed(intervals: Sequence[Interval], begin: float, scale: float) -> Iterator[Piece]:
    for interval in intervals:
        if interval.seconds <= 0:
            continue
        width = interval.seconds * scale
        if interval.phase in LOST:
            width = max(width, LEAST_WIDTH)
        x = min((interval.start_at - begin) * scale, WIDTH - width)
        yield Piece(round(max(x, 0.0), 2), round(width, 2), interval.phase, interval)


def ticks(begin: float, end: float) -> list[Tick]:
    """Return the marks of the axis, at whole minutes, hours or days of UTC."""
    span = max(end - begin, 1e-9)
    size = next((s for s in TICK_SECONDS if span / s <= TICKS_MAX), 0.0)
    size = size or math.ceil(span / TICKS_MAX / DAY) * DAY
    marks = [n * size for n in range(math.ceil(begin / size), math.floor(end / size) + 1)]
    return [Tick(round((at - begin) / span * WIDTH, 2), _label(at, size)) for at in marks]


def _label(at: float, size: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    if size >= DAY:
        return moment.strftime("%Y-%m-%d")
    if size < 60:
        return moment.strftime("%H:%M:%S")
    is_midnight = moment.hour == moment.minute == 0
    return moment.strftime("%m-%d %H:%M" if is_midnight else "%H:%M")
