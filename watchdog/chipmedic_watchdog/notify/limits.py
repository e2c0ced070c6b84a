"""How much one channel takes: what is over goes into one digest, and nothing is dropped. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chipmedic_watchdog.notify.occasions import NEEDS_NOW
from chipmedic_watchdog.notify.outbox import Pending

WINDOW_SECONDS = 60.0
SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What one channel gets now."""

    now: tuple[Pending, ...]
    over: tuple[Pending, ...] = ()
    """For the digest."""
    room_at: float = 0.0
    """When there is room for that digest."""


def portion(
    pending: Sequence[Pending], sent_at: Iterable[float], maximum: int, now: float
) -> Portion:
    """Split what waits for a channel that takes so many in a minute; 0: no limit.

    What needs a person's answer goes always. Of the others the worst go first, those of one
    incident in their order, and one place is kept for the digest of the rest.
    """
    recent = [at for at in sent_at if now - at < WINDOW_SECONDS]
    needed = tuple(one for one in pending if one.notice.data.get("occasion") in NEEDS_NOW)
    others = [one for one in pending if one not in needed]
    room = maximum - len(recent) - len(needed)
    if maximum == 0 or len(others) <= room:
        return Portion(now=tuple(pending))
    room_at = now if room > 0 else min(recent, default=now) + WINDOW_SECONDS
    digests = [one for one in others if not one.notice.incident]
    rest = _worst_first([one for one in others if one.notice.incident])
    count = max(room - 1 - len(digests), 0)
    return Portion(
        now=(*needed, *digests[: max(room, 0)], *rest[:count]),
        over=tuple(rest[count:]),
        room_at=room_at,
    )


def _worst_first(pending: Sequence[Pending]) -> list[Pending]:
    worst: dict[str, int] = {}
    for one in pending:
        severity = SEVERITIES.index(one.notice.severity)
        worst[one.notice.incident] = max(worst.get(one.notice.incident, 0), severity)
    return sorted(pending, key=lambda one: -worst[one.notice.incident])
