"""How much one channel takes: what is over goes into a digest, and nothing is dropped. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chipmedic_watchdog.notify.occasions import NEEDS_NOW
from chipmedic_watchdog.notify.outbox import Pending

WINDOW_SECONDS = 60.0
GATHER_SECONDS = 5.0
"""How long the first digest of a node's flood waits for more of it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A notice that the channel got."""

    at: float
    node: str
    """Empty: a digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maximum:
    """Notices that a channel takes in a minute; 0: no limit."""

    in_all: int = 0
    of_one_node: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What one channel gets now."""

    now: tuple[Pending, ...]
    over: tuple[Pending, ...] = ()
    """For the digest."""
    room_at: float = 0.0
    """When there is room for that digest."""


def portion(
    pending: Sequence[Pending], sent: Iterable[Sent], maximum: Maximum, now: float
) -> Portion:
    """Split what waits for a channel, given in the order of its turns.

    What needs a person's answer goes always. Of the others no node gets more than its share, and of
    the channel's share one place is kept for the digest of the rest.
    """
    recent = [one for one in sent if now - one.at < WINDOW_SECONDS]
    needed = tuple(one for one in pending if one.occasion in NEEDS_NOW)
    others = [one for one in pending if one.occasion not in NEEDS_NOW]
    within, over = _shares(others, recent, maximum.of_one_node)
    room = maximum.in_all - len(recent) - len(needed)
    if maximum.in_all and len(within) + bool(over) > room:
        digests = [one for one in within if not one.incident]
        rest = [one for one in within if one.incident]
        count = max(room - 1 - len(digests), 0)
        begun = min((one.at for one in recent), default=now)
        return Portion(
            now=(*needed, *digests[: max(room, 0)], *rest[:count]),
            over=(*rest[count:], *over),
            room_at=now if room > 0 else begun + WINDOW_SECONDS,
        )
    return Portion(
        now=tuple(pending) if not over else (*needed, *within),
        over=tuple(over),
        room_at=_next_digest(recent, now) if over else 0.0,
    )


def _shares(
    others: Sequence[Pending], recent: Iterable[Sent], maximum: int
) -> tuple[list[Pending], list[Pending]]:
    """Split by what is left of each node's share."""
    if not maximum:
        return list(others), []
    used = Counter(one.node for one in recent)
    within: list[Pending] = []
    over: list[Pending] = []
    for one in others:
        is_within = not one.incident or used[one.node] < maximum
        used[one.node] += 1
        (within if is_within else over).append(one)
    return within, over


def _next_digest(recent: Iterable[Sent], now: float) -> float:
    """Return when the channel may have its next digest: one in a window."""
    last = max((one.at for one in recent if not one.node), default=None)
    return now + GATHER_SECONDS if last is None else last + WINDOW_SECONDS
