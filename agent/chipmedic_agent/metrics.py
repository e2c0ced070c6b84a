"""/metrics: made from what is known at the moment of the scrape, so nothing outlives its component.

Names are `chipmedic_<part>_<what>_<unit>[_total]`. A value that is too old to say anything about
now is left out; a gap in a graph is the truth, a flat line is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from chipmedic.host import StuckTools
from chipmedic.metric import Metric as Quantity
from chipmedic.model import Component, ComponentKind, Verdict
from chipmedic_agent.exposition import Family, label_text, written
from chipmedic_agent.identity import Identity
from chipmedic_agent.inventory import Inventory
from chipmedic_agent.journal import Journal
from chipmedic_agent.membership import Membership
from chipmedic_agent.own_process import own_process
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.roster import Roster
from chipmedic_agent.unheard import disconnected_seconds
from chipmedic_agent.uplink import Uplink

IN_BASE_UNITS = {Quantity.LINK_RATE: ("link_rate_bytes_per_second", 1 / 8)}
"""Quantities whose unit is not Prometheus's: the name there, and the factor."""

VERDICTS = {Verdict.OK: 0.0, Verdict.FAULT: 1.0, Verdict.UNKNOWN: 2.0}


@dataclass(slots=True)
class ReloadState:
    """How the last reading of the configuration went."""

    is_successful: bool = True
    at: float = 0.0
    problems: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    """What was changed in the file and takes effect only after a restart."""


@dataclass(slots=True, kw_only=True)
class World:
    """Everything that the pages show."""

    identity: Identity
    pipeline: Pipeline
    journal: Journal
    roster: Roster
    uplink: Uplink
    membership: Membership | None = None
    now: Callable[[], float]
    reload: ReloadState = field(default_factory=ReloadState)
    changes_told: dict[str, int] = field(default_factory=dict)
    """Transitions of faults since the start, by sort."""
    stuck_tools: StuckTools = field(default_factory=StuckTools)


class AgentMetrics:
    """Everything about this node as metric families; called from the page's thread."""

    def __init__(self, world: World) -> None:
        self._world = world

    def families(self) -> Iterator[Family]:
        """Yield every family."""
        yield from own_process(self._world.identity.boot_time)
        yield from self._agent()
        yield from self._scans()
        yield from self._stream()
        yield from self._faults()
        yield from self._chips()
        yield from self._readings()

    def _agent(self) -> Iterator[Family]:
        identity, reload = self._world.identity, self._world.reload
        info = Family("chipmedic_build_info", "The running agent; always 1.")
        info.add(1.0, label_text({"version": identity.version, "node": identity.node}))
        yield info
        yield Family(
            "chipmedic_config_last_reload_successful",
            "1 when the configuration that was read last is right and in force.",
            float(reload.is_successful),
        )
        joined = self._world.membership.credentials if self._world.membership else None
        yield Family(
            "chipmedic_certificate_expiry_timestamp_seconds",
            "When the certificate that this node has joined for ends; it is renewed long before.",
            None if joined is None else joined.expires_at,
        )

    def _scans(self) -> Iterator[Family]:
        tallies = {name: s.tally for name, s in self._world.roster.scanners.items()}
        here = {name: t for name, t in tallies.items() if self._world.roster.scanners[name].is_here}
        success = {name: float(tally.is_success) for name, tally in here.items()}
        for name, help_text, values in (
            (
                "collector_up",
                "1 when the last scan of a collector that is here told something.",
                success,
            ),
            (
                "scan_success",
                "1 when the last scan returned in time and without an error.",
                success,
            ),
            (
                "scan_duration_seconds",
                "How long the last scan that returned took.",
                {n: t.seconds for n, t in here.items() if t.seconds is not None},
            ),
            (
                "scan_last_success_timestamp_seconds",
                "When a scan last succeeded.",
                {n: t.last_success_at for n, t in here.items() if t.last_success_at is not None},
            ),
            ("scans_total", "Scans that returned.", {n: t.scans for n, t in tallies.items()}),
            (
                "scans_failed_total",
                "Scans and discoveries that raised an error.",
                {n: t.failed for n, t in tallies.items()},
            ),
            (
                "scans_blocked_total",
                "Beats at which a scan or discovery was past its deadline.",
                {n: t.blocked for n, t in tallies.items()},
            ),
        ):
            yield _labelled(name, help_text, "collector", values)
        yield from self._stuck_tools()
        verdicts = {one.check: VERDICTS[one.verdict] for one in self._world.roster.coverage()}
        yield _labelled("check_verdict", "0 ok, 1 fault, 2 unknown.", "check", verdicts)

    def _stuck_tools(self) -> Iterator[Family]:
        stuck = self._world.stuck_tools
        for name, help_text, counts in (
            ("killed", "Tools that missed their deadline and were killed.", stuck.killed),
            ("abandoned", "Tools that could not be killed and were left (D).", stuck.abandoned),
        ):
            by_tool = dict(sorted(counts.copy().items()))
            yield _labelled(f"tools_{name}_total", help_text, "tool", by_tool)

    def _stream(self) -> Iterator[Family]:
        journal, link, now = self._world.journal, self._world.uplink.state, self._world.now()
        for name, help_text, value in (
            ("spool_bytes", "Bytes of the events that are kept.", journal.size_bytes),
            (
                "spool_events",
                "Events that the watchdog has not acknowledged.",
                journal.backlog_events,
            ),
            (
                "spool_lag_seconds",
                "Age of the oldest event that is not acknowledged.",
                journal.lag_seconds(now),
            ),
            ("spool_failing", "1 while events are only in memory.", float(journal.is_failing)),
            (
                "spool_lost_events_total",
                "Events lost to overflow or damage; each loss is reported in the stream.",
                journal.lost_total,
            ),
            ("uplink_connected", "1 while a stream is open.", float(link.watchdog is not None)),
            ("uplink_sessions_total", "Streams opened.", link.sessions),
            (
                "uplink_large_packets_lost",
                "1 while large packets vanish on the way to a watchdog (MTU).",
                float(bool(self._world.uplink.path_trouble)),
            ),
        ):
            yield Family(f"chipmedic_{name}", help_text, float(value))
        if self._world.uplink.is_configured:
            yield Family(
                "chipmedic_uplink_disconnected_seconds",
                "For how long no watchdog has listened; 0 while one does.",
                disconnected_seconds(link, now),
            )

    def _faults(self) -> Iterator[Family]:
        faults = Family("chipmedic_fault_open", "1 for each open fault.")
        for fault in self._world.pipeline.book.open():
            labels = {
                "component": str(fault.component),
                "kind": fault.kind,
                "severity": fault.severity.name.lower(),
                "source": fault.source,
            }
            faults.add(1.0, label_text(labels))
        yield faults
        told = dict(sorted(self._world.changes_told.copy().items()))
        yield _labelled("fault_events_total", "Transitions of faults.", "transition", told)
        defects = dict(sorted(self._world.pipeline.wall.defects.copy().items()))
        yield _labelled(
            "agent_rule_defects_total",
            "Scans that a rule could not judge because of a defect of chipmedic.",
            "rule",
            defects,
        )

    def _chips(self) -> Iterator[Family]:
        info = Family(
            "chipmedic_chip_info",
            "A chip that this node has, or had when it was last seen; always 1.",
        )
        for entry in self._world.pipeline.inventory.known():
            chip = entry.chip
            labels = {
                "chip": chip.uid,
                "vendor": chip.vendor,
                "model": chip.model,
                "index": str(chip.index),
                "die": str(chip.die),
                "serial": chip.serial or "",
                "pci": chip.pci or "",
            }
            info.add(1.0, label_text(labels))
        yield info

    def _readings(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        labels: dict[Component, str] = {}
        for component, quantity, value in self._world.pipeline.readings.current(self._world.now()):
            text = labels.get(component)
            if text is None:
                text = label_text(_labels(component, self._world.pipeline.inventory))
                labels[component] = text
            name = _name(component.kind, quantity)
            family = families.get(name)
            if family is None:
                what = quantity.value.replace("_", " ").capitalize()
                family = families[name] = Family(name, f"{what} as the source reads it.")
            _, factor = IN_BASE_UNITS.get(quantity, ("", 1.0))
            family.add(value.value * factor, text)
        yield from families.values()


def exposition(world: World) -> Callable[[], bytes]:
    """Return a function that writes the page."""
    metrics = AgentMetrics(world)
    return lambda: written(metrics.families())


@cache
def _name(kind: ComponentKind, quantity: Quantity) -> str:
    """Return `chipmedic_<part>_<quantity>`, the part once where the quantity names it already."""
    name, _ = IN_BASE_UNITS.get(quantity, (quantity.value, 1.0))
    prefix = f"{kind.value}_"
    return f"chipmedic_{prefix}{name.removeprefix(prefix)}"


def _labels(component: Component, inventory: Inventory) -> dict[str, str]:
    if component.kind is ComponentKind.HOST:
        return {}
    if component.kind is not ComponentKind.CHIP:
        return {component.kind.value: component.name}
    chip = inventory.chip(component.name)
    if chip is None:
        return {"chip": component.name, "vendor": "", "index": "", "pci": ""}
    return {
        "chip": chip.uid,
        "vendor": chip.vendor,
        "index": str(chip.index),
        "pci": chip.pci or "",
    }


def _labelled(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Family:
    family = Family(f"chipmedic_{name}", help_text)
    for text, value in values.items():
        family.add(value, label_text({label: text}))
    return family
