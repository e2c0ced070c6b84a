"""Counts of the store as Prometheus is told them; they are read anew for each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chipmedic_watchdog.ledger.figures import LedgerFigures
from chipmedic_watchdog.ledger.metrics import ledger_metrics
from chipmedic_watchdog.metric_tables import PREFIX
from chipmedic_watchdog.notify.standing import ChannelState
from chipmedic_watchdog.recover.figures import RecoveryFigures, recovery_metrics


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


class FiguresCollector(Collector):
    """Turns the figures of the last read into metrics, so that no old label lives on."""

    def __init__(self) -> None:
        self.figures = StoreFigures()
        self.channels: Callable[[], Iterable[ChannelState]] = tuple

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges that come from the store."""
        figures = self.figures
        yield _open_faults(figures.open_faults)
        for name, words, counts in (
            ("chipmedic_incidents", "Incidents by state.", figures.incidents),
            ("chipmedic_notices", "Notices in the outbox by state.", figures.notices),
            ("chipmedic_nodes", "Known nodes by state of their stream.", figures.nodes),
            ("chipmedic_recoveries", "Recoveries by state.", figures.recoveries),
        ):
            yield _by_state(name, words, counts)
        yield from ledger_metrics(figures.ledger)
        yield from recovery_metrics(figures.recovery)
        yield from _channels(self.channels())
        yield GaugeMetricFamily(
            "chipmedic_agents_backlog_events",
            "Events that agents hold and that are not acknowledged, as they last told.",
            value=figures.backlog_events,
        )


def _open_faults(counts: Mapping[tuple[str, str], int]) -> Metric:
    family = GaugeMetricFamily(
        "chipmedic_faults_open", "Faults that are not cleared.", labels=["kind", "severity"]
    )
    for (kind, severity), count in sorted(counts.items()):
        family.add_metric([kind, severity], count)
    return family


def _by_state(name: str, words: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=["state"])
    for state, count in sorted(counts.items()):
        family.add_metric([state], count)
    return family


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
