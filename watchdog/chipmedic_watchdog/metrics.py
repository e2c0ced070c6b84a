"""What the watchdog says of itself to Prometheus; one object per daemon, no globals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chipmedic_watchdog.ledger.figures import LedgerFigures
from chipmedic_watchdog.ledger.metrics import ledger_metrics
from chipmedic_watchdog.notify.standing import ChannelState
from chipmedic_watchdog.recover.figures import RecoveryFigures, recovery_metrics

PREFIX = "chipmedic_watchdog_"
COMMIT_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
AGE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFigures:
    """Counts read from the store for one scrape."""

    open_faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By (kind, severity)."""
    incidents: Mapping[str, int] = field(default_factory=dict)
    """By state."""
    notices: Mapping[str, int] = field(default_factory=dict)
    nodes: Mapping[str, int] = field(default_factory=dict)
    recoveries: Mapping[str, int] = field(default_factory=dict)
    backlog_events: int = 0
    ledger: LedgerFigures = field(default_factory=LedgerFigures)
    recovery: RecoveryFigures = field(default_factory=RecoveryFigures)


class _Figures(Collector):
    """Turns the figures of the last read into metrics, so that no old label lives on."""

    def __init__(self) -> None:
        self.figures = StoreFigures()
        self.channels: Callable[[], Iterable[ChannelState]] = tuple

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges that come from the store."""
        figures = self.figures
        faults = GaugeMetricFamily(
            "chipmedic_faults_open", "Faults that are not cleared.", labels=["kind", "severity"]
        )
        for (kind, severity), count in sorted(figures.open_faults.items()):
            faults.add_metric([kind, severity], count)
        yield faults
        for name, words, counts in (
            ("chipmedic_incidents", "Incidents by state.", figures.incidents),
            ("chipmedic_notices", "Notices in the outbox by state.", figures.notices),
            ("chipmedic_nodes", "Known nodes by state of their stream.", figures.nodes),
            ("chipmedic_recoveries", "Recoveries by state.", figures.recoveries),
        ):
            family = GaugeMetricFamily(name, words, labels=["state"])
            for state, count in sorted(counts.items()):
                family.add_metric([state], count)
            yield family
        yield from ledger_metrics(figures.ledger)
        yield from recovery_metrics(figures.recovery)
        yield from _channels(self.channels())
        yield GaugeMetricFamily(
            "chipmedic_agents_backlog_events",
            "Events that agents hold and that are not acknowledged, as they last told.",
            value=figures.backlog_events,
        )


def _channels(states: Iterable[ChannelState]) -> Iterator[Metric]:
    success = GaugeMetricFamily(
        PREFIX + "channel_last_success_timestamp_seconds",
        "When a channel took a notice last; missing: it never did.",
        labels=["channel"],
    )
    failures = GaugeMetricFamily(
        PREFIX + "channel_failures_in_a_row",
        "Attempts to deliver that have failed since the last one that did not.",
        labels=["channel"],
    )
    for state in states:
        failures.add_metric([state.name], state.failures_in_a_row)
        if state.last_success_at is not None:
            success.add_metric([state.name], state.last_success_at)
    yield success
    yield failures


class Metrics:
    """The watchdog's own counters and gauges."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._figures = _Figures()
        self.registry.register(self._figures)
        self.connected_agents = self._gauge("connected_agents", "Agents with a live stream.")
        self.events_received = self._counter("events_received", "Events received from agents.")
        self.events_committed = self._counter("events_committed", "Events made durable.")
        self.events_duplicate = self._counter(
            "events_duplicate", "Events received again; they change nothing."
        )
        self.events_unreadable = self._counter(
            "events_unreadable", "Events of which only the number could be read."
        )
        self.events_missing = self._counter(
            "events_missing", "Events that agents never sent (holes in the numbering)."
        )
        self.messages_refused = Counter(
            PREFIX + "messages_refused",
            "Messages that could not be used.",
            ["reason"],
            registry=self.registry,
        )
        self.streams_refused = Counter(
            PREFIX + "streams_refused",
            "Streams that were closed by the watchdog.",
            ["reason"],
            registry=self.registry,
        )
        self.http_refused = Counter(
            PREFIX + "http_refused",
            "Connections to the HTTP ports that were refused or ended, by why.",
            ["reason"],
            registry=self.registry,
        )
        self.certificates_issued = Counter(
            PREFIX + "certificates_issued",
            "Certificates that nodes got, by how: join or renew.",
            ["how"],
            registry=self.registry,
        )
        self.certificates_refused = Counter(
            PREFIX + "certificates_refused",
            "Certificates that nodes asked for and did not get.",
            ["how"],
            registry=self.registry,
        )
        self.audit_entries = Gauge(
            "chipmedic_audit_entries",
            "Entries of the audit; it never goes down.",
            registry=self.registry,
        )
        self.audit_head = Gauge(
            "chipmedic_audit_head",
            "The newest entry's hash, its first 48 bits as a number: what the audit can be held "
            "against.",
            registry=self.registry,
        )
        self.commit_seconds = self._histogram(
            "commit_seconds", "From the arrival of a message to its durability.", COMMIT_BUCKETS
        )
        self.event_age_seconds = self._histogram(
            "event_age_seconds",
            "Age of events on arrival by the node's own clock (skew of the clocks included).",
            AGE_BUCKETS,
        )
        self.queue_events = self._gauge("queue_events", "Events in memory, waiting for a commit.")
        self.store_failing = self._gauge(
            "store_failing", "1 while the store refuses writes (agents keep their events)."
        )
        self.store_failures = self._counter("store_failures", "Group commits that failed.")
        self.stalls = self._counter("stalls", "Pauses of the main loop; silence was not judged.")
        self.incident_passes = self._counter("incident_passes", "Runs of the correlation.")
        self.incident_delay_seconds = self._histogram(
            "incident_delay_seconds",
            "From the beginning of a fault to its incident.",
            COMMIT_BUCKETS,
        )
        self.deadman_pings = Counter(
            PREFIX + "deadman_pings",
            "Pings of the dead man's switch; not_well: one that said so, or did not arrive.",
            ["result"],
            registry=self.registry,
        )
        self.is_leader = self._gauge(
            "is_leader", "1 while this watchdog leads: decides, tells people and acts."
        )
        self.lease_token = self._gauge(
            "lease_token", "The newest token of the lead that is known; it grows with each change."
        )
        self.reload_successful = Gauge(
            "chipmedic_config_last_reload_successful",
            "1 when the configuration in force is the file's, 0 when the file was refused.",
            registry=self.registry,
        )
        self.reload_successful.set(1)

    def set_build(self, version: str) -> None:
        """Say which version runs."""
        Gauge(
            "chipmedic_build_info",
            "Always 1; the label says the version.",
            ["version", "part"],
            registry=self.registry,
        ).labels(version, "watchdog").set(1)

    def refuse_http(self, reason: str) -> None:
        """Count a connection that an HTTP port did not take, or ended."""
        self.http_refused.labels(reason).inc()

    def follow_channels(self, channels: Callable[[], Iterable[ChannelState]]) -> None:
        """Show what this returns at each scrape."""
        self._figures.channels = channels

    def render(self, figures: StoreFigures) -> bytes:
        """Return the page of `/metrics`."""
        self._figures.figures = figures
        return generate_latest(self.registry)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(PREFIX + name, words, registry=self.registry)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(PREFIX + name, words, registry=self.registry)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(PREFIX + name, words, registry=self.registry, buckets=buckets)
