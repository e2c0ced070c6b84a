"""What the watchdog counts of its own work, as tables: a class per concern, a line per metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "chipmedic_watchdog_"
COMMIT_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
AGE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)

M = TypeVar("M")


class Line(Generic[M]):
    """One line of a table: a metric that is not made yet.

    `fill` makes it and puts it under the same name into the object, where it hides the line.
    """

    def __init__(self, make: Callable[[str, CollectorRegistry], M], full_name: str = "") -> None:
        self._make = make
        self._full_name = full_name

    def __set_name__(self, table: type, name: str) -> None:
        self._name = name
        self._full_name = self._full_name or PREFIX + name

    @overload
    def __get__(self, owner: None, table: type) -> Line[M]: ...
    @overload
    def __get__(self, owner: object, table: type) -> M: ...
    def __get__(self, owner: object | None, table: type) -> Line[M] | M:
        if owner is None:
            return self
        raise AttributeError(f"{self._name} is not made yet")

    def make(self, registry: CollectorRegistry) -> M:
        """Register the metric."""
        return self._make(self._full_name, registry)


def fill(owner: object, registry: CollectorRegistry) -> None:
    """Make every metric of the tables that the owner's class consists of."""
    for table in reversed(type(owner).__mro__):
        for name, line in vars(table).items():
            if isinstance(line, Line):
                setattr(owner, name, line.make(registry))


def _counter(words: str, labels: Sequence[str] = ()) -> Line[Counter]:
    return Line(lambda name, registry: Counter(name, words, labels, registry=registry))


def _gauge(words: str, full_name: str = "") -> Line[Gauge]:
    return Line(lambda name, registry: Gauge(name, words, registry=registry), full_name)


def _histogram(words: str, buckets: Sequence[float]) -> Line[Histogram]:
    return Line(lambda name, registry: Histogram(name, words, registry=registry, buckets=buckets))


class IntakeMetrics:
    """The agents' streams and what comes over them."""

    connected_agents = _gauge("Agents with a live stream.")
    events_received = _counter("Events received from agents.")
    events_committed = _counter("Events made durable.")
    events_duplicate = _counter("Events received again; they change nothing.")
    events_unreadable = _counter("Events of which only the number could be read.")
    events_missing = _counter("Events that agents never sent (holes in the numbering).")
    event_age_seconds = _histogram(
        "Age of events on arrival by the node's own clock (skew of the clocks included).",
        AGE_BUCKETS,
    )
    messages_refused = _counter("Messages that could not be used.", ["reason"])
    streams_refused = _counter("Streams that were closed by the watchdog.", ["reason"])
    stalls = _counter("Pauses of the main loop; silence was not judged.")


class StoreMetrics:
    """The way into the store, and the audit in it."""

    commit_seconds = _histogram("From the arrival of a message to its durability.", COMMIT_BUCKETS)
    queue_events = _gauge("Events in memory, waiting for a commit.")
    store_failing = _gauge("1 while the store refuses writes (agents keep their events).")
    store_failures = _counter("Group commits that failed.")
    audit_entries = _gauge("Entries of the audit; it never goes down.", "chipmedic_audit_entries")
    audit_head = _gauge(
        "The newest entry's hash, its first 48 bits as a number: what the audit can be held "
        "against.",
        "chipmedic_audit_head",
    )


class AccessMetrics:
    """Who came in, and who did not."""

    http_refused = _counter(
        "Connections to the HTTP ports that were refused or ended, by why.", ["reason"]
    )
    certificates_issued = _counter("Certificates that nodes got, by how: join or renew.", ["how"])
    certificates_refused = _counter("Certificates that nodes asked for and did not get.", ["how"])


class LeadingMetrics:
    """The lead, and what the leader does."""

    is_leader = _gauge("1 while this watchdog leads: decides, tells people and acts.")
    lease_token = _gauge("The newest token of the lead that is known; it grows with each change.")
    incident_passes = _counter("Runs of the correlation.")
    incident_delay_seconds = _histogram(
        "From the beginning of a fault to its incident.", COMMIT_BUCKETS
    )
    deadman_pings = _counter(
        "Pings of the dead man's switch; not_well: one that said so, or did not arrive.",
        ["result"],
    )


class ConfigurationMetrics:
    """Whether the file is what is in force."""

    reload_successful = _gauge(
        "1 when the configuration in force is the file's, 0 when the file was refused.",
        "chipmedic_config_last_reload_successful",
    )
