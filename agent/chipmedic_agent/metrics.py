"""/metrics: made from what is known at the moment of the scrape, so nothing outlives its component.

Names are `chipmedic_<part>_<what>_<unit>[_total]`. A value that is too old to say anything about
now is left out; a gap in a graph is the truth, a flat line is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from chipmedic.host import StuckTools
from chipmedic.metric import Metric as Quantity
from chipmedic.model import Chip, Component, ComponentKind, Verdict
from chipmedic_agent.identity import Identity
from chipmedic_agent.journal import Journal
from chipmedic_agent.membership import Membership
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


class AgentMetrics(Collector):
    """Everything but the readings as metric families; called from the page's thread."""

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._agent()
        yield from self._scans()
        yield from self._stream()
        yield from self._faults()
        yield from self._chips()

    def _agent(self) -> Iterator[Metric]:
        identity, reload = self._world.identity, self._world.reload
        info = GaugeMetricFamily(
            "chipmedic_build_info", "The running agent; always 1.", labels=("version", "node")
        )
        info.add_metric((identity.version, identity.node), 1.0)
        yield info
        yield GaugeMetricFamily(
            "chipmedic_config_last_reload_successful",
            "1 when the configuration that was read last is right and in force.",
            value=float(reload.is_successful),
        )

        joined = self._world.membership.credentials if self._world.membership else None
        yield GaugeMetricFamily(
            "chipmedic_certificate_expiry_timestamp_seconds",
            "When the certificate that this node has joined for ends; it is renewed long before.",
            value=None if joined is None else joined.expires_at,
        )

    def _scans(self) -> Iterator[Metric]:
        tallies = {name: s.tally for name, s in self._world.roster.scanners.items()}
        here = {name: t for name, t in tallies.items() if self._world.roster.scanners[name].is_here}
        yield _gauge(
            "chipmedic_collector_up",
            "1 when the last scan of a collector that is here told something.",
            {name: float(tally.is_success) for name, tally in here.items()},
        )
        yield _gauge(
            "chipmedic_scan_success",
            "1 when the last scan returned in time and without an error.",
            {name: float(tally.is_success) for name, tally in here.items()},
        )
        yield _gauge(
            "chipmedic_scan_duration_seconds",
            "How long the last scan that returned took.",
            {name: t.seconds for name, t in here.items() if t.seconds is not None},
        )
        yield _gauge(
            "chipmedic_scan_last_success_timestamp_seconds",
            "When a scan last succeeded.",
            {name: t.last_success_at for name, t in here.items() if t.last_success_at is not None},
        )
        for name, help_text, counts in (
            ("chipmedic_scans", "Scans that returned.", {n: t.scans for n, t in tallies.items()}),
            (
                "chipmedic_scans_failed",
                "Scans and discoveries that raised an error.",
                {n: t.failed for n, t in tallies.items()},
            ),
            (
                "chipmedic_scans_blocked",
                "Beats at which a scan or discovery was past its deadline.",
                {n: t.blocked for n, t in tallies.items()},
            ),
        ):
            yield _counter(name, help_text, counts)
        yield from self._stuck_tools()
        checks = GaugeMetricFamily(
            "chipmedic_check_verdict", "0 ok, 1 fault, 2 unknown.", labels=("check",)
        )
        for coverage in self._world.roster.coverage():
            checks.add_metric((coverage.check,), VERDICTS[coverage.verdict])
        yield checks

    def _stuck_tools(self) -> Iterator[Metric]:
        stuck = self._world.stuck_tools
        for name, help_text, counts in (
            ("killed", "Tools that missed their deadline and were killed.", stuck.killed),
            ("abandoned", "Tools that could not be killed and were left (D).", stuck.abandoned),
        ):
            family = CounterMetricFamily(f"chipmedic_tools_{name}", help_text, labels=("tool",))
            for tool, count in sorted(counts.copy().items()):
                family.add_metric((tool,), float(count))
            yield family

    def _stream(self) -> Iterator[Metric]:
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
            ("uplink_connected", "1 while a stream is open.", float(link.watchdog is not None)),
            (
                "uplink_large_packets_lost",
                "1 while large packets vanish on the way to a watchdog (MTU).",
                float(bool(self._world.uplink.path_trouble)),
            ),
        ):
            yield GaugeMetricFamily(f"chipmedic_{name}", help_text, value=float(value))
        if self._world.uplink.is_configured:
            yield GaugeMetricFamily(
                "chipmedic_uplink_disconnected_seconds",
                "For how long no watchdog has listened; 0 while one does.",
                value=disconnected_seconds(link, now),
            )
        yield CounterMetricFamily(
            "chipmedic_spool_lost_events",
            "Events lost to overflow or damage; each loss is reported in the stream.",
            value=float(journal.lost_total),
        )
        yield CounterMetricFamily(
            "chipmedic_uplink_sessions", "Streams opened.", value=float(link.sessions)
        )

    def _faults(self) -> Iterator[Metric]:
        faults = GaugeMetricFamily(
            "chipmedic_fault_open",
            "1 for each open fault.",
            labels=("component", "kind", "severity", "source"),
        )
        for fault in self._world.pipeline.book.open():
            labels = (str(fault.component), fault.kind, fault.severity.name.lower(), fault.source)
            faults.add_metric(labels, 1.0)
        yield faults
        told = CounterMetricFamily(
            "chipmedic_fault_events", "Transitions of faults.", labels=("transition",)
        )
        for transition, count in sorted(self._world.changes_told.copy().items()):
            told.add_metric((transition,), float(count))
        yield told
        defects = CounterMetricFamily(
            "chipmedic_agent_rule_defects",
            "Scans that a rule could not judge because of a defect of chipmedic.",
            labels=("rule",),
        )
        for rule, count in sorted(self._world.pipeline.wall.defects.copy().items()):
            defects.add_metric((rule,), float(count))
        yield defects

    def _chips(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "chipmedic_chip_info",
            "A chip that this node has, or had when it was last seen; always 1.",
            labels=("chip", "vendor", "model", "index", "die", "serial", "pci"),
        )
        for entry in self._world.pipeline.inventory.known():
            chip = entry.chip
            labels = (chip.uid, chip.vendor, chip.model, str(chip.index), str(chip.die))
            info.add_metric((*labels, chip.serial or "", chip.pci or ""), 1.0)
        yield info


class ReadingPages:
    """The readings as text, a family at a time: one in which nothing has changed is kept.

    A chip has some sixty readings, of which a dozen change from one scrape to the next; writing
    all of them anew was the dearest thing that the agent did.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._written: dict[str, tuple[list[_Shown], bytes]] = {}

    def page(self) -> bytes:
        """Return the text of every family; may be called from several threads."""
        shown: dict[str, tuple[Quantity, list[_Shown]]] = {}
        inventory = self._world.pipeline.inventory
        for component, quantity, value in self._world.pipeline.readings.current(self._world.now()):
            is_chip = component.kind is ComponentKind.CHIP
            chip = inventory.chip(component.name) if is_chip else None
            name, factor = _name(component.kind, quantity)
            _, lines = shown.setdefault(name, (quantity, []))
            lines.append((component, chip, value.value * factor))
        written: dict[str, tuple[list[_Shown], bytes]] = {}
        for name, (quantity, lines) in shown.items():
            before, text = self._written.get(name, ([], b""))
            if before != lines:
                text = generate_latest(_One(_family(name, quantity, lines)))
            written[name] = (lines, text)
        self._written = written
        return b"".join(text for _, text in written.values())


_Shown = tuple[Component, Chip | None, float]


class _One(Collector):
    """A single family, which `generate_latest` writes as it does a registry."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def exposition(world: World) -> Callable[[], bytes]:
    """Return a function that writes the page."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(AgentMetrics(world))
    readings = ReadingPages(world)
    return lambda: generate_latest(registry) + readings.page()


@cache
def _name(kind: ComponentKind, quantity: Quantity) -> tuple[str, float]:
    """Return `chipmedic_<part>_<quantity>`, the part once, and the factor to its base unit."""
    name, factor = IN_BASE_UNITS.get(quantity, (quantity.value, 1.0))
    prefix = f"{kind.value}_"
    return f"chipmedic_{prefix}{name.removeprefix(prefix)}", factor


def _labels(component: Component, chip: Chip | None) -> dict[str, str]:
    if component.kind is ComponentKind.HOST:
        return {}
    if component.kind is not ComponentKind.CHIP:
        return {component.kind.value: component.name}
    if chip is None:
        return {"chip": component.name, "vendor": "", "index": "", "pci": ""}
    return {
        "chip": chip.uid,
        "vendor": chip.vendor,
        "index": str(chip.index),
        "pci": chip.pci or "",
    }


def _family(name: str, quantity: Quantity, lines: Iterable[_Shown]) -> Metric:
    """Return the readings of one quantity of one sort of component."""
    help_text = f"{quantity.value.replace('_', ' ').capitalize()} as the source reads it."
    labelled = [(_labels(component, chip), value) for component, chip, value in lines]
    names = tuple(labelled[0][0])
    family: CounterMetricFamily | GaugeMetricFamily = (
        CounterMetricFamily(name.removesuffix("_total"), help_text, labels=names)
        if name.endswith("_total")
        else GaugeMetricFamily(name, help_text, labels=names)
    )
    for labels, value in labelled:
        family.add_metric(tuple(labels.values()), value)
    return family


def _gauge(name: str, help_text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=("collector",))
    for collector, value in values.items():
        family.add_metric((collector,), value)
    return family


def _counter(name: str, help_text: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=("collector",))
    for collector, count in counts.items():
        family.add_metric((collector,), float(count))
    return family
