"""The words and the interfaces of chipmedic: what a plug-in or a training job imports."""

from chipmedic.collector import Collector
from chipmedic.host import Host
from chipmedic.metric import Metric
from chipmedic.model import (
    HOST,
    Action,
    Chip,
    ChipProcess,
    Component,
    ComponentKind,
    Event,
    Gap,
    GapReason,
    Reading,
    Scan,
    Severity,
    Verdict,
    chip_component,
)

__all__ = [
    "HOST",
    "Action",
    "Chip",
    "ChipProcess",
    "Collector",
    "Component",
    "ComponentKind",
    "Event",
    "Gap",
    "GapReason",
    "Host",
    "Metric",
    "Reading",
    "Scan",
    "Severity",
    "Verdict",
    "chip_component",
]
