"""Nobody listens: said on the host once, again each hour, and when it is over."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agent.test_pages import a_world
from chipmedic_agent.metrics import exposition
from chipmedic_agent.unheard import Unheard, disconnected_seconds
from chipmedic_agent.uplink import LinkState


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def look(unheard: Unheard, link: LinkState, now: float) -> None:
    unheard.look(link, now, kept_events=7, critical=1)


def test_it_is_said_after_a_minute_and_each_hour(said: pytest.LogCaptureFixture) -> None:
    unheard, link = Unheard(), LinkState(since=1000.0, trouble="connection refused")
    for now in range(1000, 9000):
        look(unheard, link, float(now))
    lines = [record.getMessage() for record in said.records]
    assert lines == [
        "nobody listens: seconds=60 kept_events=7 critical_faults=1 why=connection refused",
        "nobody listens: seconds=3660 kept_events=7 critical_faults=1 why=connection refused",
        "nobody listens: seconds=7260 kept_events=7 critical_faults=1 why=connection refused",
    ]
    assert unheard.is_so


def test_a_restart_of_the_watchdog_is_not_worth_a_word(said: pytest.LogCaptureFixture) -> None:
    unheard, link = Unheard(), LinkState(since=1000.0)
    look(unheard, link, 1059.0)
    link.watchdog = "watch:7443"
    look(unheard, link, 1060.0)
    assert not said.records
    assert not unheard.is_so


def test_its_end_is_said(said: pytest.LogCaptureFixture) -> None:
    unheard, link = Unheard(), LinkState(since=1000.0)
    look(unheard, link, 1100.0)
    link.watchdog, link.since = "watch:7443", 1200.0
    look(unheard, link, 1200.0)
    assert said.records[-1].getMessage() == "heard again: watchdog=watch:7443 seconds=200"
    assert not unheard.is_so


def test_the_metric_is_0_while_one_listens_and_absent_where_none_is_meant_to(
    tmp_path: Path,
) -> None:
    link = LinkState(since=1000.0)
    assert disconnected_seconds(link, 1300.0) == 300
    link.watchdog = "watch:7443"
    assert disconnected_seconds(link, 1300.0) == 0
    world = a_world(tmp_path / "one", watchdogs=("watch:7443",))
    world.now.at += 90  # type: ignore[attr-defined]
    assert b"\nchipmedic_uplink_disconnected_seconds 90.0\n" in exposition(world)()
    alone = a_world(tmp_path / "two")
    assert b"disconnected" not in exposition(alone)()
