"""The words of the ledger: what a job's time can have gone to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What a stretch of a job's time went to."""

    PRODUCTIVE = "productive"
    """Steps that were never made before."""
    CHECKPOINT = "checkpoint"
    """Saving, where the job says so."""
    OTHER = "other"
    """Evaluation and whatever else the job says it does."""
    START = "start"
    """From the first sight of the job to its first step."""
    DETECT = "detect"
    """From the last step to the incident."""
    DECIDE = "decide"
    """From the incident to the first act; where nobody acts, until the job starts again."""
    ISOLATE = "isolate"
    """From the first act to the restart: the bad hardware is taken out."""
    RESTART = "restart"
    """From the restart to the first step of the new start."""
    RECOMPUTE = "recompute"
    """Steps that had been made before."""
    UNEXPLAINED = "unexplained"
    """No step, and no incident that says why."""


LOST = (
    Phase.DETECT,
    Phase.DECIDE,
    Phase.ISOLATE,
    Phase.RESTART,
    Phase.RECOMPUTE,
    Phase.UNEXPLAINED,
)
"""The phases of lost time, in the order in which they follow one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One stretch of a job's time."""

    phase: Phase
    start_at: float
    end_at: float
    is_open: bool = False
    """True: it goes on."""
    incident: str | None = None
    detail: str = ""
    checkpoint_seconds: float = 0.0
    """Of a productive stretch: what of it went to checkpoints in between."""
    other_seconds: float = 0.0
    """The same for the other pauses."""

    @property
    def seconds(self) -> float:
        """How long it lasted, or has lasted so far."""
        return self.end_at - self.start_at
