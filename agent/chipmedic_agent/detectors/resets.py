"""Signs that a chip has been reset, which ends faults that asked for a reset.

No vendor says "I was reset" in one way: AMD prints a line, NVIDIA's driver withdraws its wish
(field 230, Xid 154), waiting rows become remapped rows, counters of the link start again. An ECC
counter that falls is no such sign: operators clear those by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chipmedic.metric import Metric
from chipmedic.model import ComponentKind, Scan

_WISHES_RESET = frozenset({1.0, 4.0, 6.0})
"""NVML field 230: reset, drain and reset, bus reset."""

_SIGNS: tuple[tuple[Metric, Callable[[float, float], bool], str], ...] = (
    (
        Metric.RECOVERY_ACTION,
        lambda old, new: old in _WISHES_RESET and new == 0,
        "driver asks for no reset any more",
    ),
    (Metric.REMAP_PENDING, lambda old, new: old >= 1 and new < 1, "waiting rows were remapped"),
    (Metric.PCIE_REPLAYS, lambda old, new: new < old, "counters of the link started again"),
)


@dataclass(frozen=True, slots=True)
class ResetWatch:
    """The readings that the next scan is compared with, by `<component> <metric>`."""

    seen: Mapping[str, float] = field(default_factory=dict)


def watch_resets(watch: ResetWatch, scan: Scan) -> tuple[ResetWatch, dict[str, str]]:
    """Return the next watch, and why by component (as text) for each chip that was reset."""
    seen = dict(watch.seen)
    resets: dict[str, str] = {}
    for metric, is_sign, words in _SIGNS:
        for component, value in scan.values(metric).items():
            if component.kind is not ComponentKind.CHIP:
                continue
            key = f"{component} {metric.value}"
            if key in seen and is_sign(seen[key], value):
                resets[str(component)] = words
            seen[key] = value
    for event in scan.events:
        if event.kind == "chip.reset":
            resets[str(event.component)] = event.message
        elif event.code == "xid:154" and event.kind == "info":
            resets[str(event.component)] = "driver asks for no recovery any more (Xid 154)"
    return ResetWatch(seen), resets
