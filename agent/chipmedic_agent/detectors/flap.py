"""Flapping: the one mechanism for links and NICs, with hold-down and expiry.

A part flaps when it went down often enough in a window. From then on its coming and going is one
condition, which ends after a quiet time and never sticks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KEPT_MAX = 32
"""Times kept per part; no rule counts further."""
SATURATED = 255.0
"""Where InfiniBand's `link_downed` stops for ever."""


@dataclass(frozen=True, slots=True)
class FlapRule:
    """So many downs within a window are flapping."""

    count: int
    window_seconds: float


@dataclass(frozen=True, slots=True)
class Downs:
    """How often a part went down, told by its state, by its own counter, or by both."""

    at: tuple[float, ...] = ()
    was_up: bool | None = None
    counter: float | None = None
    ahead: int = 0
    """Downs of the last look that the state told and the counter has not (negative: reverse)."""


def look(
    downs: Downs, *, is_up: bool | None, counter: float | None, at: float, window_seconds: float
) -> Downs:
    """Take in one look at a part.

    A flap between two looks shows in the counter alone; a counter that has saturated (or that does
    not exist) leaves the state. One down that each tells in another look counts once, also where
    the counter is read more seldom than the state.
    """
    fell = int(downs.was_up is True and is_up is False)
    is_usable = counter is not None and counter != SATURATED
    grown = 0
    if is_usable and counter is not None and downs.counter is not None:
        grown = int(max(0.0, counter - downs.counter))
    seen = max(fell, grown)
    if downs.ahead > 0 and grown > fell:
        seen -= min(downs.ahead, seen)
    elif downs.ahead < 0 and fell > grown:
        seen = 0
    begin = at - window_seconds
    times = (*(t for t in downs.at if begin < t <= at), *(at,) * min(seen, KEPT_MAX))
    return Downs(
        at=times[-KEPT_MAX:],
        was_up=downs.was_up if is_up is None else is_up,
        counter=downs.counter if counter is None else counter,
        ahead=fell - grown if is_usable else _untold(downs, fell, counter),
    )


def _untold(downs: Downs, fell: int, counter: float | None) -> int:
    """Return how many downs a counter that was not read this time has still to tell."""
    is_unread = counter is None and downs.counter not in (None, SATURATED)
    return downs.ahead + fell if is_unread else 0


def broken_rule(downs: Downs, rules: Iterable[FlapRule], at: float) -> FlapRule | None:
    """Return the first rule that the downs break."""
    for rule in rules:
        if sum(at - t < rule.window_seconds for t in downs.at) >= rule.count:
            return rule
    return None
