"""Faults, records and a small detector for tests of the agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chipmedic.metric import Metric
from chipmedic.model import (
    Action,
    Change,
    Chip,
    Cleared,
    Component,
    Fault,
    Raised,
    Scan,
    Severity,
    Updated,
    chip_component,
)
from chipmedic_agent.record import Record, record_of

BOOT = "5a0e31f0-boot"


def a_fault(
    component: str = "chip:NPU-7",
    kind: str = "memory.uncorrectable",
    *,
    severity: Severity = Severity.CRITICAL,
    action: Action = Action.RESET_CHIP,
    source: str = "ascend",
    since: float = 100.0,
    codes: tuple[str, ...] = (),
    evidence: tuple[str, ...] = (),
    count: int = 1,
) -> Fault:
    return Fault(
        component=Component.parse(component),
        kind=kind,
        severity=severity,
        action=action,
        since=since,
        summary=f"{kind} on {component}",
        source=source,
        codes=codes,
        evidence=evidence,
        count=count,
    )


def a_chip(uid: str, index: int = 0, pci: str | None = None, **rest: object) -> Chip:
    return Chip(uid=uid, vendor="acme", model="A1", index=index, pci=pci, **rest)  # type: ignore[arg-type]


def records(changes: Iterable[Change], first_seq: int = 1) -> list[Record]:
    return [
        record_of(change, seq=seq, at=float(seq), boot_id=BOOT)
        for seq, change in enumerate(changes, first_seq)
    ]


def raised(number: int, severity: Severity = Severity.CRITICAL) -> Raised:
    return Raised(a_fault(f"chip:NPU-{number}", severity=severity))


def updated(number: int) -> Updated:
    return Updated(a_fault(f"chip:NPU-{number}"))


def cleared(number: int) -> Cleared:
    return Cleared(a_fault(f"chip:NPU-{number}"), 200.0)


@dataclass(frozen=True, slots=True)
class HeatState:
    hot: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Heat:
    """Raises above 90 degrees, clears below: the smallest detector that is one."""

    name: str = "heat"
    limit_celsius: float = 90.0

    def start(self) -> HeatState:
        return HeatState()

    def step(self, state: HeatState, scan: Scan) -> tuple[HeatState, list[Change]]:
        hot = dict(state.hot)
        changes: list[Change] = []
        for component, celsius in scan.values(Metric.TEMPERATURE).items():
            fault = a_fault(str(component), "thermal.critical", source=scan.source, since=scan.at)
            if celsius >= self.limit_celsius and component.name not in hot:
                hot[component.name] = scan.at
                changes.append(Raised(fault))
            elif celsius < self.limit_celsius and component.name in hot:
                del hot[component.name]
                changes.append(Cleared(fault, scan.at))
        return HeatState(hot), changes


def component(uid: str) -> Component:
    return chip_component(uid)
