"""The pages: what they say, that they say it while the loop is stuck, and what they leave out."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent_rig import orders_of
from agent_story import BOOT, Heat, a_chip, component
from chipmedic.metric import Metric
from chipmedic.model import (
    Component,
    Gap,
    GapReason,
    Reading,
    Scan,
)
from chipmedic_agent.config import AgentSettings
from chipmedic_agent.disk import Disk
from chipmedic_agent.fitness import fitness
from chipmedic_agent.health import Pulse, health
from chipmedic_agent.identity import Identity
from chipmedic_agent.journal import Journal
from chipmedic_agent.metrics import World, exposition
from chipmedic_agent.pages import Pages
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.registry import Absent
from chipmedic_agent.reporter import Reporter
from chipmedic_agent.roster import Roster
from chipmedic_agent.scanner import Scanner
from chipmedic_agent.uplink import Uplink
from waiting import PATIENCE_SECONDS

NODE = Identity(node="n-1", boot_id=BOOT, boot_time=1.0, machine_id="m", version="1.2")


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


def a_world(folder: Path, *, knows_chips: bool = False, watchdogs: tuple[str, ...] = ()) -> World:
    clock = Clock()
    pipeline = Pipeline([Heat()], boot_id=BOOT)
    disk = Disk(folder, starts=pipeline.starts(), bytes_max=1 << 26, boot_id=BOOT)
    journal = Journal(disk, boot_id=BOOT, now=clock, remember=pipeline.remember)
    scanner = Scanner(
        "acme", Absent, consume=lambda *_: None, now=clock, knows_chips=lambda: knows_chips
    )
    roster = Roster([scanner], now=clock, is_open_for=pipeline.is_open_for, disabled=lambda _: None)
    reporter = Reporter(NODE, pipeline, journal, roster, clock)
    settings = AgentSettings(watchdogs=watchdogs)
    orders = orders_of(settings, folder, roster, pipeline, journal)
    uplink = Uplink(settings, journal=journal, reporter=reporter, orders=orders)
    uplink.state.since = clock.at
    return World(
        identity=NODE,
        pipeline=pipeline,
        journal=journal,
        roster=roster,
        uplink=uplink,
        now=clock,
    )


def take(world: World, *readings: Reading, gaps: tuple[Gap, ...] = ()) -> None:
    scan = Scan(
        source="acme",
        at=world.now(),
        chips=(a_chip("A", 3, "0000:1a:00.0"),),
        readings=readings,
        gaps=gaps,
    )
    world.pipeline.consume(scan, period_seconds=5.0)


def page(world: World) -> str:
    return exposition(world)().decode()


def pass_seconds(world: World, seconds: float) -> None:
    assert isinstance(world.now, Clock)
    world.now.at += seconds


WARM = Reading(component("A"), Metric.TEMPERATURE, 41.0)


def test_tools_that_hung_are_counted_by_name(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    assert "chipmedic_tools_killed_total{" not in page(world)
    world.stuck_tools.killed["npu-smi"] += 3
    world.stuck_tools.abandoned["hccn_tool"] += 1
    text = page(world)
    assert 'chipmedic_tools_killed_total{tool="npu-smi"} 3.0' in text
    assert 'chipmedic_tools_abandoned_total{tool="hccn_tool"} 1.0' in text


def test_readings_carry_who_and_where(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    ecc = Reading(component("A"), Metric.ECC_CORRECTED, 7.0)
    port = Reading(Component.parse("nic:mlx5_0/1"), Metric.LINK_UP, 1.0)
    memory = Reading(Component.parse("host"), Metric.HOST_MEMORY_TOTAL, 5.0)
    take(world, WARM, ecc, port, memory)
    text = page(world)
    labels = '{chip="A",index="3",pci="0000:1a:00.0",vendor="acme"}'
    assert f"chipmedic_chip_temperature_celsius{labels} 41.0" in text
    assert f"chipmedic_chip_ecc_corrected_total{labels} 7.0" in text
    assert "# TYPE chipmedic_chip_ecc_corrected_total counter" in text
    assert 'chipmedic_nic_link_up{nic="mlx5_0/1"} 1.0' in text
    assert "chipmedic_host_memory_total_bytes 5.0" in text


def test_what_was_written_before_is_written_anew_when_it_has_changed(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    ecc = Reading(component("A"), Metric.ECC_CORRECTED, 7.0)
    scrape = exposition(world)

    def told(name: str) -> list[str]:
        text = scrape().decode()
        assert [line for line in text.splitlines() if "chipmedic_chip" in line] == [
            line for line in page(world).splitlines() if "chipmedic_chip" in line
        ]
        return [line for line in text.splitlines() if line.startswith(f"chipmedic_chip_{name}")]

    take(world, WARM, ecc)
    assert len(told("ecc")) == 1
    pass_seconds(world, 5.0)
    take(world, replace(WARM, value=42.0), ecc)
    assert told("temperature")[0].endswith(" 42.0")
    pass_seconds(world, 5.0)
    moved = Scan(source="acme", at=world.now(), chips=(a_chip("A", 4, "0000:1a:00.0"),))
    world.pipeline.consume(moved, period_seconds=5.0)
    assert 'index="4"' in told("ecc")[0]
    pass_seconds(world, 3600.0)
    assert told("ecc") == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_every_metric_of_the_catalogue_is_accepted_by_promtool(tmp_path: Path) -> None:
    world = a_world(tmp_path, knows_chips=True)
    parts = ("chip:A", "link:A/0", "pci:0000:1b:00.0", "nic:mlx5_0/1", "disk:/", "host")
    take(
        world,
        *(Reading(Component.parse(part), metric, 1.0) for part in parts for metric in Metric),
    )
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page(world),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_rate_is_in_bytes(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    take(world, Reading(Component.parse("nic:mlx5_0/1"), Metric.LINK_RATE, 4e11))
    assert 'chipmedic_nic_link_rate_bytes_per_second{nic="mlx5_0/1"} 5e+10' in page(world)


def test_a_stale_value_disappears(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    take(world, WARM)
    pass_seconds(world, 5)
    take(world, WARM)
    pass_seconds(world, 14)
    assert "temperature" in page(world)
    pass_seconds(world, 2)
    assert "temperature" not in page(world)


def test_a_value_that_is_read_rarely_lives_as_long_as_it_must(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    for _ in range(3):
        take(world, WARM)
        for _ in range(11):
            pass_seconds(world, 5)
            take(world)
            assert "temperature" in page(world)
        pass_seconds(world, 5)


def test_a_value_that_could_not_be_read_is_gone_at_once(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    take(world, WARM)
    take(world, gaps=(Gap(component("A"), Metric.TEMPERATURE, GapReason.DENIED),))
    assert "temperature" not in page(world)


def test_two_sources_of_one_quantity_are_one_sample(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    take(world, WARM)
    again = Reading(component("A"), Metric.TEMPERATURE, 42.0)
    world.pipeline.consume(Scan(source="other", at=world.now(), readings=(again,)))
    assert page(world).count("chipmedic_chip_temperature_celsius{") == 1


def test_a_fault_is_on_the_page_while_it_is_open(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    take(world, Reading(component("A"), Metric.TEMPERATURE, 99.0))
    line = (
        'chipmedic_fault_open{component="chip:A",kind="thermal.critical",severity="critical",'
        'source="acme"} 1.0'
    )
    assert line in page(world)
    take(world, WARM)
    assert line not in page(world)


def test_everything_well(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    status, report = health(world, Pulse())
    assert (status, report["status"], report["reasons"]) == (200, "ok", [])


def test_an_unknown_check_degrades(tmp_path: Path) -> None:
    status, report = health(a_world(tmp_path, knows_chips=True), Pulse())
    assert (status, report["status"]) == (200, "degraded")
    assert report["reasons"] == ["check acme is unknown: has not looked yet"]


def test_a_watchdog_that_is_long_away_degrades(tmp_path: Path) -> None:
    world = a_world(tmp_path, watchdogs=("127.0.0.1:1",))
    assert health(world, Pulse())[1]["status"] == "ok"
    pass_seconds(world, 31)
    assert health(world, Pulse())[1]["reasons"] == ["no watchdog for 31 s: "]


class OldPulse(Pulse):
    def age_seconds(self) -> float:
        return 60.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    world = a_world(tmp_path)
    pages = Pages(
        "127.0.0.1:0",
        metrics=exposition(world),
        health=lambda: health(world, OldPulse()),
        fitness=lambda: fitness(world, OldPulse()),
    )
    yield f"http://127.0.0.1:{pages.port}"
    pages.close()


def test_a_stuck_loop_is_503_with_the_reason(served: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{served}/healthz", timeout=PATIENCE_SECONDS)
    with answer.value as error:
        assert error.code == 503
        report = json.load(error)
    assert report["reasons"] == ["the main loop has not moved for 60 s"]


def test_the_metrics_page_is_served_while_the_loop_is_stuck(served: str) -> None:
    with urllib.request.urlopen(f"{served}/metrics?x=1", timeout=PATIENCE_SECONDS) as answer:
        assert "chipmedic_build_info" in answer.read().decode()


def test_a_stuck_agent_cannot_say_whether_the_node_is_fit(served: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{served}/fit", timeout=PATIENCE_SECONDS)
    with answer.value as error:
        assert error.code == 503
        assert error.read() == b"the agent's main loop has not moved for 60 s\n"


def test_any_other_path_is_404(served: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{served}/etc/passwd", timeout=PATIENCE_SECONDS)
    with answer.value as error:
        assert error.code == 404


def test_a_client_that_says_nothing_holds_up_no_other(served: str) -> None:

    host, port = served.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        test_the_metrics_page_is_served_while_the_loop_is_stuck(served)
