"""Prometheus's Alertmanager by its API v2: an alert for each incident.

Alertmanager knows an alert by its labels and forgets one that is not sent again. So the labels stay
the same while the incident's kind and severity do, what is open is sent again each minute with an
end four minutes ahead, and when a label changes the alert with the old labels is ended in the same
request. Prometheus does the same with its own alerts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from chipmedic.errors import ConfigError, DeliveryFailed
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.channels import post
from chipmedic_watchdog.notify.settings import ChannelSettings

REFRESH_SECONDS = 60.0
REFRESHES_MISSED = 4
"""So many may fail before Alertmanager takes the incident for over."""
BATCH = 64
PATH = "/api/v2/alerts"

Alert = dict[str, Any]


class Alertmanager:
    """One Alertmanager; of a cluster each is a channel of its own, as they deduplicate."""

    def __init__(
        self,
        name: str,
        settings: ChannelSettings,
        *,
        now: Callable[[], float] = time.time,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self.name = name
        self.refresh_seconds = refresh_seconds
        self._settings = settings
        self._now = now
        self._client = post.client(settings.timeout_seconds)

    def deliver(self, notice: Notice) -> str:
        """Send the alert; see `Notifier.deliver`."""
        now = self._now()
        alerts = [alert(notice, now, self.refresh_seconds)]
        before = labels(notice.earlier.last_data) if notice.earlier else None
        if before is not None and before != alerts[0]["labels"]:
            alerts.insert(0, alerts[0] | {"labels": before, "endsAt": _moment(now)})
        return f"HTTP {self._post(alerts)}, alert {alerts[-1]['labels']['alertname']}"

    def refresh(self, notices: Sequence[Notice]) -> None:
        """Send again what is open; see `StandingNotifier.refresh`."""
        now = self._now()
        alerts = [alert(notice, now, self.refresh_seconds) for notice in notices]
        for start in range(0, len(alerts), BATCH):
            self._post(alerts[start : start + BATCH])

    def _post(self, alerts: list[Alert]) -> int:
        try:
            url = self._settings.read_url().rstrip("/").removesuffix(PATH) + PATH
        except ConfigError as e:
            raise DeliveryFailed(str(e)) from e
        return post.post(self._client, url, post.encode(alerts), {}).status_code


def alert(notice: Notice, now: float, refresh_seconds: float = REFRESH_SECONDS) -> Alert:
    """Return the alert of a notice, as the API takes it."""
    data = notice.data
    ends_at = now + REFRESHES_MISSED * refresh_seconds
    if notice.is_resolved:
        ends_at = min(data.get("resolved_at") or now, now)
    made: Alert = {
        "labels": labels(data),
        "annotations": {"summary": notice.title, "description": notice.body}
        | {f"{act}_url": url for act, url in data.get("links", {}).items()},
        "startsAt": _moment(min(data["fault_at"], ends_at)),
        "endsAt": _moment(ends_at),
    }
    if data.get("url"):
        made["generatorURL"] = data["url"]
    return made


def labels(data: dict[str, Any]) -> dict[str, str]:
    """Return the labels: name, cluster, severity and job group well; the incident tells apart.

    A label of many values (the nodes of a whole rack) would change with each of them: only a single
    one is a label, all of them stand in the description.
    """
    chip = (data["faults"] or [{}])[0].get("chip") or {}
    nodes, jobs = data["nodes"], data["jobs"]
    found = {
        **{name: str(value) for name, value in data["labels"].items() if LABEL.fullmatch(name)},
        "alertname": alert_name(data["kind"]),
        "incident": data["incident"],
        "kind": data["kind"],
        "severity": data["severity"],
        "cluster": data.get("cluster") or "",
        "node": nodes[0] if len(nodes) == 1 else "",
        "job_id": jobs[0]["job"] if len(jobs) == 1 else "",
        "user": (jobs[0]["user"] or "") if len(jobs) == 1 else "",
        "vendor": chip.get("vendor", ""),
    }
    return {name: value for name, value in sorted(found.items()) if value}


LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def alert_name(kind: str) -> str:
    """Return the name as Prometheus people write it: `chip.lost` is ChipmedicChipLost."""
    return "Chipmedic" + "".join(word.capitalize() for word in re.split(r"[._]", kind))


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
