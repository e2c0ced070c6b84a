"""What the detector of codes remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmedic.model import Fault
from chipmedic_agent.detectors.escalations import Pending
from chipmedic_agent.detectors.occurrences import Occurrence
from chipmedic_agent.detectors.resets import ResetWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is remembered of an open fault to find its end."""

    seen_at: float
    quiet_seconds: float | None = None
    """Set while every word of it came from a tool that states a code as long as it is true."""
    answers_since: float | None = None
    was_ill: bool = False
    well_since: float | None = None
    """What the tool's own word of the chip's health has been since."""
    expires_seconds: float | None = None
    """A rule's own word of how long it must be quiet to be over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodesState:
    """State of `Codes`."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """By the key of the fault."""
    occurrences: Mapping[str, tuple[Occurrence, ...]] = field(default_factory=dict)
    """By `<component> <code>`, the newest first."""
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Job by process id, as of the last scan of the jobs."""
    resets: ResetWatch = field(default_factory=ResetWatch)
    pending: Mapping[str, Pending] = field(default_factory=dict)
    """Words that rules have yet to judge, by the key of their occurrences."""
