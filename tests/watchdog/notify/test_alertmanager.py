"""The alerts of incidents: labels that stay, an end that is said, and what changes in between."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic.notifier import Earlier, Notice, StandingNotifier
from chipmedic_watchdog.notify.channels import make
from chipmedic_watchdog.notify.channels.alertmanager import Alertmanager, alert, alert_name, labels
from chipmedic_watchdog.notify.data import as_data
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story
from watchdog.notify.receivers import HttpReceiver

NOW = 1_900_000_100.0


@pytest.fixture
def notice(database: Database) -> Notice:
    story.put_node(database, "gpu-017", rack="r7", **{"not a label": "x"})
    story.put_chip(database)
    story.put_incident(database)
    story.put_fault(database)
    story.put_job(database)
    data = as_data(
        story.facts(database),
        "opened",
        language="en",
        cluster="north",
        external_url="https://watch.example.org/",
    )
    return Notice(
        id="inc-000042/opened-1/am",
        incident="inc-000042",
        severity="critical",
        is_resolved=False,
        title="CRITICAL: memory",
        body="Where: gpu-017",
        data=data | {"links": {"acknowledge": "https://watch.example.org/act/x"}},
    )


def channel(receiver: HttpReceiver, path: str = "") -> Any:
    url = f"http://127.0.0.1:{receiver.port}{path}"
    return make("am", ChannelSettings(kind=ChannelKind.ALERTMANAGER, url=url))


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_an_alert(notice: Notice) -> None:
    made = alert(notice, NOW)
    assert made["labels"] == {
        "alertname": "ChipmedicMemoryUncorrectable",
        "cluster": "north",
        "incident": "inc-000042",
        "job_id": "slurm:8812",
        "kind": "memory.uncorrectable",
        "node": "gpu-017",
        "rack": "r7",
        "severity": "critical",
        "user": "mei",
        "vendor": "nvidia",
    }
    assert made["annotations"] == {
        "summary": "CRITICAL: memory",
        "description": "Where: gpu-017",
        "acknowledge_url": "https://watch.example.org/act/x",
    }
    assert made["generatorURL"] == "https://watch.example.org/api/v1/incidents/inc-000042"
    assert moment(made["startsAt"]) == story.FAULT_AT
    assert moment(made["endsAt"]) == NOW + 240


def test_a_resolved_one_ends(notice: Notice) -> None:
    data = notice.data | {"resolved_at": NOW - 3}
    assert moment(alert(replace(notice, is_resolved=True, data=data), NOW)["endsAt"]) == NOW - 3


def test_many_nodes_and_jobs_are_no_labels(notice: Notice) -> None:
    data = notice.data | {"nodes": ["a", "b"], "jobs": notice.data["jobs"] * 2}
    assert not {"node", "job_id", "user"} & labels(data).keys()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("chip.lost", "ChipmedicChipLost"), ("memory.remap_failed", "ChipmedicMemoryRemapFailed")],
)
def test_names(kind: str, name: str) -> None:
    assert alert_name(kind) == name


@pytest.mark.parametrize("path", ["", "/", "/api/v2/alerts", "/prefix"])
def test_it_is_posted_to_the_api(notice: Notice, path: str) -> None:
    with HttpReceiver() as receiver:
        receipt = channel(receiver, path).deliver(notice)
    assert receipt == "HTTP 200, alert ChipmedicMemoryUncorrectable"
    prefix = "/prefix" if path == "/prefix" else ""
    assert receiver.requests[0].path == f"{prefix}/api/v2/alerts"
    assert len(json.loads(receiver.requests[0].body)) == 1


def test_another_label_ends_the_old_alert_in_the_same_request(notice: Notice) -> None:
    before = notice.data | {"severity": "warning"}
    with HttpReceiver() as receiver:
        channel(receiver).deliver(replace(notice, earlier=Earlier("", before)))
        channel(receiver).deliver(replace(notice, earlier=Earlier("", notice.data)))
    old, new = json.loads(receiver.requests[0].body)
    assert (old["labels"]["severity"], new["labels"]["severity"]) == ("warning", "critical")
    assert moment(old["endsAt"]) < moment(new["endsAt"])
    assert len(json.loads(receiver.requests[1].body)) == 1


def test_what_is_open_is_said_again_in_batches(notice: Notice) -> None:
    with HttpReceiver() as receiver:
        one = channel(receiver)
        assert isinstance(one, StandingNotifier)
        one.refresh([notice] * 150)
    assert [len(json.loads(r.body)) for r in receiver.requests] == [64, 64, 22]


@pytest.mark.parametrize(("status", "is_permanent"), [(400, True), (500, False), (503, False)])
def test_refusals(notice: Notice, status: int, is_permanent: bool) -> None:
    with (
        HttpReceiver(answers=[(status, {})]) as receiver,
        pytest.raises(DeliveryFailed, match=f"HTTP {status}") as failed,
    ):
        channel(receiver).deliver(notice)
    assert failed.value.is_permanent == is_permanent


def test_the_channels_own_settings() -> None:
    assert isinstance(
        make("am", ChannelSettings(kind=ChannelKind.ALERTMANAGER, url="http://x")), Alertmanager
    )
    with pytest.raises(ValueError, match="needs exactly one of: url or url_file or url_env"):
        ChannelSettings(kind=ChannelKind.ALERTMANAGER)
    with pytest.raises(ValueError, match=r"url: 'am\.example\.org:9093' is no http"):
        ChannelSettings(kind=ChannelKind.ALERTMANAGER, url="am.example.org:9093")
    with pytest.raises(ValueError, match="room: a channel of kind slack needs it"):
        ChannelSettings(kind=ChannelKind.SLACK, secret_file="/x")
