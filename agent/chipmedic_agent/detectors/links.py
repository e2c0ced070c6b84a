"""Links between chips and ports of the network: down, flapping, too many errors.

A port counts as down only if it was up before (a learned baseline, saved): many ports are inactive
by design (an H100 NVL shows 12 of 18 links, spare InfiniBand ports are common). While a port flaps,
its downs are that one condition; when it stays down longer than the hold, that is said as well. For
the ports of a vendor's chips a rule (`lasting`) may say how long that is, before the general limit
makes it grave.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from chipmedic.faults.escalation import Lasting, builtin_rules
from chipmedic.faults.kinds import KINDS
from chipmedic.metric import Metric
from chipmedic.model import Change, Component, ComponentKind, Fault, Scan, collector_component
from chipmedic_agent.detectors.board import Board, forgotten, is_boot, key_of
from chipmedic_agent.detectors.flap import Downs, FlapRule, broken_rule, look
from chipmedic_agent.detectors.level import Hold, Judge, Level, Sight
from chipmedic_agent.detectors.rate import Rate
from chipmedic_agent.detectors.settings import DetectorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """What is remembered of one port that has been up at least once."""

    source: str
    downs: Downs = field(default_factory=Downs)
    down_since: float | None = None
    up_since: float | None = None


@dataclass(frozen=True, slots=True)
class PortsState:
    """State of `Ports`."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    ports: Mapping[str, Port] = field(default_factory=dict)
    booted_at: float | None = None
    said_down: Mapping[str, float] = field(default_factory=dict)
    """When a code said that a chip's port went down, by the chip's uid, until it is seen up."""


SAID_SECONDS = 120.0
"""A code this recent dates the down that the next look at the port finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Down and flapping, for one kind of port."""

    name: str
    component_kind: ComponentKind
    down_kind: str
    flap_kind: str
    down_seconds: float
    up_seconds: float
    rules: tuple[FlapRule, ...]
    quiet_seconds: float
    boot_grace_seconds: float
    """Downs so soon after a boot are links that train; they do not count as flapping."""
    listed_by: str | None
    """The source that lists all of these ports in each scan, so one that is absent is down."""
    tolerances: Mapping[str, Lasting] = field(default_factory=dict)
    """Rules of their own for the ports that a source reports."""

    def start(self) -> PortsState:
        """See `Detector.start`."""
        return PortsState()

    def step(self, state: PortsState, scan: Scan) -> tuple[PortsState, list[Change]]:
        """See `Detector.step`."""
        board = Board(state.open)
        ports = dict(state.ports)
        said_down = self._said_down(state.said_down, scan)
        booted_at = scan.at if is_boot(scan) else state.booted_at
        is_training = booted_at is not None and scan.at - booted_at < self.boot_grace_seconds
        for component, is_up, counter in self._sights(ports, scan):
            key = str(component)
            port = ports.get(key)
            if port is None:
                if is_up:
                    downs = Downs(was_up=True, counter=counter)
                    ports[key] = Port(source=scan.source, downs=downs, up_since=scan.at)
                continue
            if is_training:
                port = replace(port, downs=Downs())
            uid = component.name.partition("/")[0]
            if is_up:
                said_down.pop(uid, None)
            elif port.down_since is None and uid in said_down:
                port = replace(port, down_since=said_down[uid])
            ports[key] = self._look(board, port, component, is_up, counter, scan)
        for component in forgotten(scan):
            for key in [key for key in ports if _belongs(key, component)]:
                del ports[key]
                board.clear_components([Component.parse(key)], scan.at, "forgotten")
        return PortsState(board.open, ports, booted_at, said_down), board.changes

    def _said_down(self, known: Mapping[str, float], scan: Scan) -> dict[str, float]:
        """Return when a code last said that a chip's port went down."""
        said = {uid: at for uid, at in known.items() if 0 <= scan.at - at < SAID_SECONDS}
        codes = {code for rule in self.tolerances.values() for code in rule.codes}
        for event in scan.events:
            if event.code in codes and event.at <= scan.at:
                said.setdefault(event.component.name, event.at)
        return said

    def _sights(
        self, ports: Mapping[str, Port], scan: Scan
    ) -> Iterable[tuple[Component, bool, float | None]]:
        """Yield each port of this scan with its state and its counter of downs."""
        counters = scan.values(Metric.LINK_DOWNED)
        states = scan.values(Metric.LINK_UP)
        for component, value in states.items():
            if component.kind is self.component_kind:
                yield component, value >= 1, counters.get(component)
        is_unread = any(gap.component == collector_component(scan.source) for gap in scan.gaps)
        if scan.source != self.listed_by or is_unread:
            return
        spoken_of = {str(c) for c in states} | {str(gap.component) for gap in scan.gaps}
        for key, port in ports.items():
            if port.source == scan.source and key not in spoken_of:
                yield Component.parse(key), False, None

    def _look(
        self,
        board: Board,
        port: Port,
        component: Component,
        is_up: bool,
        counter: float | None,
        scan: Scan,
    ) -> Port:
        """Judge one known port and return what is remembered of it."""
        window = max(rule.window_seconds for rule in self.rules)
        downs = look(port.downs, is_up=is_up, counter=counter, at=scan.at, window_seconds=window)
        self._judge_flapping(board, component, downs, scan)
        tolerance = self.tolerances.get(scan.source)
        if is_up:
            up_since = _begun(port.up_since, scan.at)
            if scan.at - up_since >= (tolerance.good_seconds if tolerance else self.up_seconds):
                board.clear(key_of(component, self.down_kind), scan.at)
            return Port(source=scan.source, downs=downs, up_since=up_since)
        down_since = _begun(port.down_since, scan.at)
        if scan.at - down_since >= (tolerance.bad_seconds if tolerance else self.down_seconds):
            fault = self._down(component, down_since, scan)
            board.hold(self._by_rule(fault, tolerance, scan) if tolerance else fault)
        return Port(source=scan.source, downs=downs, down_since=down_since)

    def _judge_flapping(self, board: Board, component: Component, downs: Downs, scan: Scan) -> None:
        key = key_of(component, self.flap_kind)
        rule = broken_rule(downs, self.rules, scan.at)
        if key in board.open:
            last = max(downs.at, default=board.open[key].since)
            if scan.at - last >= self.quiet_seconds:
                board.clear(key, scan.at, "quiet")
        elif rule is not None and scan.at - downs.at[-1] < self.quiet_seconds:
            board.report(self._flapping(component, rule, downs, scan))

    def _down(self, component: Component, since: float, scan: Scan) -> Fault:
        defaults = KINDS[self.down_kind]
        return Fault(
            component=component,
            kind=self.down_kind,
            severity=defaults.severity,
            action=defaults.action,
            since=since,
            summary=f"{component} has been down for {scan.at - since:.0f} s and was up before",
            source=scan.source,
            evidence=(f"{Metric.LINK_UP.value} 0",),
        )

    def _by_rule(self, fault: Fault, rule: Lasting, scan: Scan) -> Fault:
        """Return the fault as the vendor grades it; past the general limit it stays grave."""
        is_grave = scan.at - fault.since >= self.down_seconds
        severity = fault.severity if is_grave else rule.outcome.severity
        return replace(
            fault,
            severity=severity or fault.severity,
            action=rule.outcome.action or fault.action,
            codes=tuple(sorted(rule.codes)),
        )

    def _flapping(self, component: Component, rule: FlapRule, downs: Downs, scan: Scan) -> Fault:
        defaults = KINDS[self.flap_kind]
        times = sum(scan.at - t < rule.window_seconds for t in downs.at)
        return Fault(
            component=component,
            kind=self.flap_kind,
            severity=defaults.severity,
            action=defaults.action,
            since=downs.at[-times],
            summary=f"{component} went down {times} times within {rule.window_seconds:.0f} s",
            source=scan.source,
            evidence=(f"went down {times} times, last at {downs.at[-1]:.0f}",),
        )


def _begun(since: float | None, at: float) -> float:
    return at if since is None or since > at else since


def _belongs(key: str, component: Component) -> bool:
    """Say whether a port is this component or a link of this chip."""
    link = f"{ComponentKind.LINK.value}:{component.name}/"
    return key == str(component) or key.startswith(link)


def retries(limit: float) -> Judge:
    """Return a judge of how much a link sends again; well below the limit is good."""

    def judge(scan: Scan) -> Iterator[Sight]:
        for link, ratio in scan.values(Metric.LINK_RETRIES).items():
            yield Sight(
                link,
                is_bad=ratio >= limit,
                is_good=ratio < limit / 2,
                summary=f"{link} sends {ratio:.2%} of its data again (limit {limit:.2%})",
                evidence=(f"{Metric.LINK_RETRIES.value} {ratio:g}",),
            )

    return judge


def link_detectors(settings: DetectorSettings) -> list[Ports | Rate | Level]:
    """Return the detectors of chip links and network ports."""
    rules = (
        FlapRule(settings.flap_count, settings.flap_window_seconds),
        FlapRule(settings.flap_slow_count, settings.flap_slow_window_seconds),
    )
    return [
        Ports(
            name="links",
            component_kind=ComponentKind.LINK,
            down_kind="link.down",
            flap_kind="link.degraded",
            down_seconds=settings.link_down_seconds,
            up_seconds=settings.port_up_seconds,
            rules=rules,
            quiet_seconds=settings.flap_quiet_seconds,
            boot_grace_seconds=settings.boot_grace_seconds,
            listed_by=None,
            tolerances={rule.vendor: rule for rule in builtin_rules().lasting},
        ),
        Ports(
            name="nics",
            component_kind=ComponentKind.NIC,
            down_kind="nic.down",
            flap_kind="nic.flap",
            down_seconds=settings.nic_down_seconds,
            up_seconds=settings.port_up_seconds,
            rules=rules,
            quiet_seconds=settings.flap_quiet_seconds,
            boot_grace_seconds=settings.boot_grace_seconds,
            listed_by="rdma",
        ),
        Rate(
            name="link_errors",
            metric=Metric.LINK_ERRORS,
            kind="link.errors",
            words="link errors",
            per_hour=settings.link_errors_per_hour,
            clear_per_hour=settings.link_errors_per_hour / 4,
            component_kinds=frozenset({ComponentKind.LINK, ComponentKind.CHIP}),
        ),
        Level(
            name="link_retries",
            kind="link.errors",
            judge=retries(settings.link_retry_ratio),
            hold=Hold(
                raise_seconds=settings.link_retry_hold_seconds,
                sightings=3,
                clear_seconds=settings.link_retry_hold_seconds,
            ),
        ),
        Rate(
            name="nic_errors",
            metric=Metric.LINK_ERRORS,
            kind="nic.errors",
            words="port errors",
            per_hour=settings.nic_errors_per_hour,
            clear_per_hour=settings.nic_errors_per_hour / 4,
            component_kinds=frozenset({ComponentKind.NIC}),
        ),
    ]
