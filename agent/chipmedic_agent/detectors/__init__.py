"""The detectors: pure state machines from scans to changes of faults, one fault family per file."""

from __future__ import annotations

from typing import Any

from chipmedic.detector import Detector
from chipmedic_agent.detectors.settings import DetectorSettings

__all__ = ["DetectorSettings", "builtin_detectors"]


def builtin_detectors(settings: DetectorSettings) -> list[Detector[Any]]:
    """Return every detector of the agent, each with a name of its own under which its state is saved."""
    del settings
    return []
