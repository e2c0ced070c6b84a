"""The thresholds of the detectors: section `[detectors]` of the agent's configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """Limits and times; the defaults are chosen to keep silent on every decoy that we know."""

    expiry_seconds: float = 600.0
    """A fault that happened once (a program's error, say) is over when it does not repeat so long."""
