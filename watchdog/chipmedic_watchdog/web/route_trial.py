"""Which way an incident would go: the routes tried on labels that somebody gives."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from chipmedic_watchdog.notify import escalation, routes
from chipmedic_watchdog.notify.matchers import parse
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.web.endpoint import Parameter, Query
from chipmedic_watchdog.web.problem import Problem

LABELS = Parameter(name="labels", words="`label=value`, one per line; a label may come twice.")


def try_out(settings: NotifySettings, query: Query) -> dict[str, Any]:
    """Return the channels and the escalations for these labels.

    Raises:
        Problem: 400, a line is no label with its value.
    """
    labels: dict[str, frozenset[str]] = {}
    for line in filter(None, (line.strip() for line in query.get("labels", "").splitlines())):
        try:
            label = parse(line)
        except ValueError as e:
            raise Problem(HTTPStatus.BAD_REQUEST, f"labels: {e}") from e
        if label.operator != "=":
            raise Problem(HTTPStatus.BAD_REQUEST, f"labels: {line!r} is not label=value")
        labels[label.label] = labels.get(label.label, frozenset()) | {label.value}
    targets = routes.targets(settings.routes, labels, settings.channels)
    taken = routes.chosen(settings.routes, labels)
    return {
        "channels": [
            {"channel": one.channel, "route": one.route, "digest_seconds": one.digest_seconds}
            for one in targets.values()
        ],
        "escalations": [
            {"after_seconds": step.after_seconds, "channels": list(step.channels)}
            for _, step in escalation.levels(taken)
        ],
    }
