"""Stories of detectors: scans in, words out. Every state goes through JSON between two scans.

A word is `raised@30`, with the kind in front where a detector knows several. So each story also
proves that a restart of the agent at any moment neither forgets nor repeats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from cattrs.preconf.json import make_converter

from chipmedic.detector import Detector
from chipmedic.metric import Metric
from chipmedic.model import (
    HOST,
    Change,
    Chip,
    Cleared,
    Component,
    ComponentKind,
    Event,
    Fault,
    Raised,
    Reading,
    Scan,
    chip_component,
)
from chipmedic_agent.detectors import DetectorSettings, builtin_detectors

CONVERTER = make_converter()
CHIP = chip_component("GPU-7c1e")
OTHER = chip_component("GPU-88aa")
LINK = Component(ComponentKind.LINK, "GPU-7c1e/3")
NIC = Component(ComponentKind.NIC, "mlx5_2/1")
State = TypeVar("State")


def detector(name: str, settings: DetectorSettings | None = None) -> Detector[Any]:
    """Return one of the built-in detectors."""
    return next(d for d in builtin_detectors(settings or DetectorSettings()) if d.name == name)


def through_json(state: State) -> State:
    """Save and load a state as the agent does."""
    return CONVERTER.structure(json.loads(json.dumps(CONVERTER.unstructure(state))), type(state))


def run(subject: Detector[Any], scans: Iterable[Scan]) -> list[tuple[float, Change]]:
    """Return every change with the time of the scan that brought it."""
    state = subject.start()
    told: list[tuple[float, Change]] = []
    for scan in scans:
        state, changes = subject.step(through_json(state), scan)
        told += [(scan.at, change) for change in changes]
    return told


def words(told: Iterable[tuple[float, Change]], *, with_kind: bool = False) -> str:
    """Return the story in words."""
    return " ".join(
        (f"{change.fault.kind}:" if with_kind else "") + f"{type(change).__name__.lower()}@{at:g}"
        for at, change in told
    )


def replay(
    name: str,
    metric: Metric,
    values: Sequence[float | None],
    *,
    every: float,
    component: Component = CHIP,
    settings: DetectorSettings | None = None,
) -> str:
    """Return the story of one metric of one component; None is a scan without the reading."""
    scans = (
        Scan(
            source="test",
            at=number * every,
            readings=() if value is None else (Reading(component, metric, value),),
        )
        for number, value in enumerate(values)
    )
    return words(run(detector(name, settings), scans))


def opened(told: Iterable[tuple[float, Change]]) -> list[Fault]:
    """Return what is open at the end."""
    left: dict[tuple[Component, str], Fault] = {}
    for _, change in told:
        if isinstance(change, Cleared):
            left.pop(change.fault.key, None)
        else:
            left[change.fault.key] = change.fault
    return list(left.values())


def first(told: Iterable[tuple[float, Change]]) -> Fault:
    """Return the first fault that was raised."""
    return next(change.fault for _, change in told if isinstance(change, Raised))


def boot(at: float) -> Scan:
    """Return what the agent says after a reboot."""
    event = Event(component=HOST, code="agent:boot", message="the host was rebooted", at=at)
    return Scan(source="agent", at=at, events=(event,))


def readings(at: float, *given: tuple[Component, Metric, float], source: str = "test") -> Scan:
    """Return a scan of these readings."""
    return Scan(source=source, at=at, readings=tuple(Reading(*each) for each in given))


def chip(uid: str = "GPU-7c1e", vendor: str = "nvidia") -> Chip:
    """Return a chip of the inventory."""
    return Chip(uid=uid, vendor=vendor, model="X100", index=0, pci="0000:5e:00.0")
