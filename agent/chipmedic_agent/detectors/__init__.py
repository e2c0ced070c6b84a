"""The detectors: pure state machines from scans to changes of faults, one fault family per file.

Mechanisms: `level` (lasts as long as it is seen), `growth` (must not grow), `rate` (must not grow
fast), `flap` (must not come and go). Families: memory, presence, links, pcie, thermal, codes,
collector, host, hang, returned.
"""

from __future__ import annotations

from typing import Any

from chipmedic.detector import Detector
from chipmedic_agent.detectors.codes import code_detectors
from chipmedic_agent.detectors.collector import collector_detectors
from chipmedic_agent.detectors.hang import hang_detectors
from chipmedic_agent.detectors.host import host_detectors
from chipmedic_agent.detectors.links import link_detectors
from chipmedic_agent.detectors.memory import memory_detectors
from chipmedic_agent.detectors.pcie import pcie_detectors
from chipmedic_agent.detectors.presence import presence_detectors
from chipmedic_agent.detectors.returned import returned_detectors
from chipmedic_agent.detectors.settings import DetectorSettings
from chipmedic_agent.detectors.thermal import thermal_detectors

__all__ = ["DetectorSettings", "builtin_detectors"]


def builtin_detectors(settings: DetectorSettings) -> list[Detector[Any]]:
    """Return every detector of the agent; the state of each is saved under its name."""
    return [
        *memory_detectors(settings),
        *presence_detectors(settings),
        *link_detectors(settings),
        *pcie_detectors(settings),
        *thermal_detectors(settings),
        *host_detectors(settings),
        *code_detectors(settings),
        *collector_detectors(settings),
        *hang_detectors(settings),
        *returned_detectors(settings),
    ]
