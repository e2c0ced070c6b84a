"""When people are told: what an incident is now, compared with what they were told last."""

from __future__ import annotations

from dataclasses import dataclass

PHASES = {
    "proposed": "proposed",
    "planned": "recovering",
    "running": "recovering",
    "verifying": "recovering",
    "held": "held",
    "failed": "held",
    "done": "recovered",
    "stopped": "stopped",
}
"""State of a recovery -> the occasion that it is; a state that is not here is none."""

URGENCY = ("resolved", "held", "proposed", "flapping", "reopened", "opened", "updated",
           "recovering", "recovered", "stopped")  # fmt: skip
"""Of several occasions at once the first one is told; its text shows the whole state anyway."""

OTHERS = ("escalated", "reminded", "still")
"""Occasions that come with time or with the end of a silence, not with a change."""

NEEDS_NOW = frozenset({"held", "proposed", "escalated"})
"""Somebody has to do something: no digest and no limit holds these up."""

WIDER_RATIO, WIDER_LEAST, WIDER_SECONDS = 2, 5, 60.0
"""An incident that has so many times as many nodes, and so many more, as people were told, is told
again; not within a minute, in which a rack that falls silent is still being counted."""

FLAPPING_RETURNS = 3
"""The return at which people hear that it comes and goes, and then no more of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the notices of an incident have told last."""

    revision: int
    severity: int
    root_fault: int | None
    is_resolved: bool
    recovery: str | None
    recovery_state: str | None
    reopened_count: int = 0
    nodes: int = 0
    """How many the last notice named; 0: it is not known."""
    told_at: float = 0.0
    """When that was; UNIX seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the incident is now."""

    revision: int
    severity: int
    root_fault: int | None
    is_resolved: bool
    """And not only until its next return: see `is_over`."""
    reopened_count: int = 0
    recovery: str | None = None
    recovery_state: str | None = None
    is_proposal: bool = False
    """The recovery waits for a person before it begins, also while it is still being planned."""
    is_return: bool = False
    """It gives a node back: people hear of its question and of its end, not of its beginning."""
    nodes: int = 0
    at: float = 0.0
    """Now; UNIX seconds."""


def is_over(state: str, resolved_at: float | None, reopened_count: int, now: float,
            quiet_seconds: float) -> bool:  # fmt: skip
    """Whether an incident has ended so that people may be told.

    One that has come back before must stay away for a while first: else each return of a flapping
    part would cost two notices.
    """
    if state != "resolved":
        return False
    return reopened_count == 0 or now - (resolved_at or 0.0) >= quiet_seconds


def occasion(told: Told | None, present: Present) -> str | None:
    """Return what people must be told now, or None."""
    if told is None:
        return "resolved" if present.is_resolved else _first(present)
    found = [
        name
        for name, is_so in (
            ("resolved", present.is_resolved and not told.is_resolved),
            ("reopened", told.is_resolved and not present.is_resolved),
            ("flapping", _is_flapping(told, present)),
            ("updated", _is_worse(told, present)),
            (_recovery(told, present), True),
        )
        if is_so and name
    ]
    return min(found, key=URGENCY.index, default=None)


def _first(present: Present) -> str:
    """A first notice that finds a recovery waiting for a person says so in its title."""
    phase = PHASES.get(present.recovery_state or "")
    return phase if phase in ("held", "proposed") else "opened"


def _is_flapping(told: Told, present: Present) -> bool:
    """Whether the incident has come back often enough by now that this is the news."""
    returns = (told.reopened_count, present.reopened_count)
    return returns[0] < FLAPPING_RETURNS <= returns[1] and not present.is_resolved


def _is_worse(told: Told, present: Present) -> bool:
    """Whether the incident got worse or much larger, or another fault is its root now."""
    if present.is_resolved:
        return False
    is_new = present.revision > told.revision
    is_other = present.severity > told.severity or present.root_fault != told.root_fault
    return (is_new and is_other) or _is_wider(told, present)


def _is_wider(told: Told, present: Present) -> bool:
    enough = max(WIDER_RATIO * told.nodes, told.nodes + WIDER_LEAST)
    is_due = present.at - told.told_at >= WIDER_SECONDS
    return bool(told.nodes) and is_due and present.nodes >= enough


def _recovery(told: Told, present: Present) -> str | None:
    """Return the occasion of the recovery, where its phase is another one than told."""
    phase = PHASES.get(present.recovery_state or "")
    if phase == "recovering" and (present.is_proposal or present.is_return):
        return None  # it is being planned; people hear of it when it can be approved
    is_same = present.recovery == told.recovery and phase == PHASES.get(told.recovery_state or "")
    if phase is None or is_same:
        return None
    was_told = told.recovery == present.recovery and told.recovery_state is not None
    return None if phase == "stopped" and not was_told else phase
