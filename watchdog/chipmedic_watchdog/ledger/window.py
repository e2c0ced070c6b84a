"""An account cut to a span of time, so that a report of 30 days holds 30 days. Pure."""

from __future__ import annotations

from dataclasses import replace

from chipmedic_watchdog.ledger.account import Account
from chipmedic_watchdog.ledger.history import tick
from chipmedic_watchdog.ledger.phases import Interval


def cut(one: Account, since: float) -> Account | None:
    """Return what of an account lies after a time; None where nothing does.

    The parts still sum up to the wall time exactly. Pauses inside of a stretch are taken as spread
    evenly over it.
    """
    begin = tick(since)
    if begin <= one.began_at:
        return one
    if begin >= one.end_at:
        return None
    kept = tuple(_cut(i, begin) for i in one.intervals if i.end_at > begin)
    return replace(one, began_at=begin, intervals=kept)


def _cut(interval: Interval, begin: float) -> Interval:
    if interval.start_at >= begin:
        return interval
    room = interval.end_at - begin
    share = room / interval.seconds
    checkpoint_seconds = min(tick(interval.checkpoint_seconds * share), room)
    other_seconds = min(tick(interval.other_seconds * share), room - checkpoint_seconds)
    return replace(
        interval, start_at=begin, checkpoint_seconds=checkpoint_seconds,
        other_seconds=other_seconds,
    )  # fmt: skip
