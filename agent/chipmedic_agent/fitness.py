"""/fit: may a new job begin on this node? For a scheduler's prolog, which has no time to parse.

200 `fit`; 409 with the reason where an open fault speaks against the hardware; 503 where nobody can
say, because the agent itself does not work. A check that cannot look is not a reason to refuse.
"""

from __future__ import annotations

from chipmedic.faults.fitness import is_unfit
from chipmedic_agent.health import STALL_SECONDS, Pulse
from chipmedic_agent.metrics import World

FIT, UNFIT, UNKNOWN = 200, 409, 503
REASONS_SHOWN = 3
REASON_CHARACTERS = 200
"""A scheduler shows the reason in a table."""


def fitness(world: World, pulse: Pulse) -> tuple[int, str]:
    """Return the HTTP status and one line."""
    age = pulse.age_seconds()
    if age > STALL_SECONDS:
        return UNKNOWN, f"the agent's main loop has not moved for {age:.0f} s"
    reasons = [
        f"{fault.kind} {fault.component}"
        for fault in world.pipeline.book.open()
        if is_unfit(fault.kind, fault.severity, fault.action)
    ]
    if not reasons:
        return FIT, "fit"
    more = f" and {len(reasons) - REASONS_SHOWN} more" if len(reasons) > REASONS_SHOWN else ""
    return UNFIT, (", ".join(sorted(reasons)[:REASONS_SHOWN]) + more)[:REASON_CHARACTERS]
