"""What the watchdog says of itself to Prometheus; one object per daemon, no globals."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from chipmedic_watchdog.metric_tables import (
    AccessMetrics,
    ConfigurationMetrics,
    IntakeMetrics,
    LeadingMetrics,
    StoreMetrics,
    fill,
)
from chipmedic_watchdog.notify.standing import ChannelState
from chipmedic_watchdog.store_figures import FiguresCollector, StoreFigures


class Metrics(IntakeMetrics, StoreMetrics, AccessMetrics, LeadingMetrics, ConfigurationMetrics):
    """The watchdog's own counters and gauges: those of all tables, and the store's figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._figures = FiguresCollector()
        self.registry.register(self._figures)
        fill(self, self.registry)
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
