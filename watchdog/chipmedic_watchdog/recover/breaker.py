"""The breaker: too many nodes go bad at once, or too many are out; then a person decides.

    closed ─rate or level→ open ─a person→ half open ─one isolation ends well→ closed
                             ↑                │
                             └─rate or level──┘

Many nodes that fail within minutes are seldom many broken nodes: a switch, a power feed, a driver
that was rolled out, or a rule of ours that is wrong. An open breaker holds every isolation. It
never holds a return to service, and it closes by a person's word alone. Half open it lets one
isolation through and counts from then on, so that the backlog of before cannot open it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chipmedic_watchdog.recover.settings import RecoverSettings

NAMES_SHOWN = 6
ON_TRIAL = "the breaker is half open, and another isolation is its trial"


class BreakerState(StrEnum):
    """Where the breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What the breaker judges, all of it as it is now."""

    bad: frozenset[str]
    """Nodes that went bad within the window, and after a person's word: those with an open critical
    fault of the hardware, and those isolated since."""
    out: int
    """Nodes out of service now, whoever took them out."""
    known: int
    is_trial_begun: bool = False
    """Half open: an isolation has begun since."""
    is_trial_over: bool = False
    """Half open: the recovery of one such isolation is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Where the breaker stands from now on, and why an isolation must wait; empty: it need not."""

    state: BreakerState
    why: str = ""


def judge(state: BreakerState, picture: Picture, settings: RecoverSettings) -> Judgement:
    """Judge one isolation that is about to begin; its own node is among the bad ones."""
    if state is BreakerState.OPEN:
        return Judgement(state=state, why="the breaker is open")
    if why := _too_many(picture, settings):
        return Judgement(state=BreakerState.OPEN, why=why)
    if state is BreakerState.HALF_OPEN and picture.is_trial_over:
        return Judgement(state=BreakerState.CLOSED)
    if state is BreakerState.HALF_OPEN and picture.is_trial_begun:
        return Judgement(state=state, why=ON_TRIAL)
    return Judgement(state=state)


def _too_many(picture: Picture, settings: RecoverSettings) -> str:
    least = settings.breaker_nodes
    rate = max(least, int(settings.breaker_percent * picture.known / 100))
    if len(picture.bad) > rate:
        names = sorted(picture.bad)
        shown = ", ".join(names[:NAMES_SHOWN]) + (" ..." if len(names) > NAMES_SHOWN else "")
        minutes = settings.breaker_window_seconds / 60
        return f"{len(names)} nodes went bad within {minutes:g} min ({shown}); {rate} may"
    level = max(least, int(settings.breaker_out_percent * picture.known / 100))
    if picture.out > level:
        return f"{picture.out} of {picture.known} nodes are out of service; {level} may be"
    return ""
