"""The labels of an incident: what routes and silences match, and what Alertmanager groups by."""

from __future__ import annotations

from chipmedic_watchdog.notify.facts import IncidentFacts
from chipmedic_watchdog.notify.matchers import Labels
from chipmedic_watchdog.notify.places import vendor_of

OWN_LABELS = (
    "severity", "kind", "cause", "incident", "node", "job", "job_name", "user", "vendor", "cluster",
)  # fmt: skip
"""What every incident has; besides them the labels of the agent of its first node."""


def labels_of(facts: IncidentFacts, cluster: str = "") -> Labels:
    """Return the labels of an incident, each with all its values; none is an empty set."""
    vendor = vendor_of(facts)
    own = {
        "severity": {facts.severity.name.lower()},
        "kind": {facts.kind},
        "cause": {facts.cause.partition("/")[0]},
        "incident": {facts.id},
        "node": set(facts.nodes),
        "job": {job.job for job in facts.jobs},
        "job_name": {job.name for job in facts.jobs if job.name},
        "user": {job.user for job in facts.jobs if job.user},
        "vendor": {vendor} - {"*", ""},
        "cluster": {facts.labels.get("cluster", cluster)} - {""},
    }
    of_node = {name: {value} for name, value in facts.labels.items()}
    return {name: frozenset(v) for name, v in (of_node | own).items() if v}
