"""Prometheus with both daemons: pages that promtool accepts, rules that fire for their causes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chipmedic_simulator.ascend_tools import AscendHost, install, save
from chipmedic_simulator.kernel_log import SimulatedKernelLog
from waiting import PATIENCE_SECONDS, until
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"
RULES = DEPLOY / "chipmedic.rules.yml"
ALERT = re.compile(r"alert: (\w+)|alertname=\"(\w+)\"")


@pytest.fixture(autouse=True)
def _needs_prometheus() -> None:
    for program in ("promtool", "prometheus"):
        if shutil.which(program) is None:
            pytest.skip(f"{program}: not installed (Debian: prometheus)")


@dataclass
class Site:
    """One watchdog, one agent on a simulated host, and the programs that were started."""

    folder: Path
    watchdog: WatchdogProcess
    kernel_log: SimulatedKernelLog
    agent_address: str
    processes: list[subprocess.Popen[bytes]]

    @property
    def pages(self) -> dict[str, str]:
        return {"agent": f"http://{self.agent_address}", "watchdog": self.watchdog.http}

    def start(self, *argv: str, name: str, **environment: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **environment})
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Both daemons, connected; two simulated Ascend chips, one kernel log."""
    watchdog = WatchdogProcess(tmp_path / "watchdog")
    root = tmp_path / "root"
    made = Site(tmp_path, watchdog, SimulatedKernelLog(root), f"127.0.0.1:{_free_port()}", [])
    try:
        watchdog.start()
        install(tmp_path / "bin")
        save(AscendHost.simulated(2), tmp_path / "ascend.json")
        config = tmp_path / "agent.toml"
        config.write_text(
            f'node = "n1"\nwatchdogs = ["{watchdog.address}"]\nhost_root = "{root}"\n'
            f'state_directory = "{tmp_path}/state"\nprogress_socket = "{tmp_path}/beats"\n'
            f'[http]\nlisten = "{made.agent_address}"\n'
        )
        made.start(
            *(sys.executable, "-c", "from chipmedic_agent.main import run; run()"),
            *("--config", str(config)),
            name="agent",
            PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            CHIPMEDIC_SIMULATOR_STATE=str(tmp_path / "ascend.json"),
        )
        until(lambda: "chipmedic_chip_power_watts" in _agent_page(made), "readings of the chips")
        until(lambda: "chipmedic_uplink_connected 1" in _agent_page(made), "the stream")
        yield made
    finally:
        for process in reversed(made.processes):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=PATIENCE_SECONDS)
        watchdog.close()


def test_promtool_accepts_both_pages(site: Site) -> None:
    site.kernel_log.say("ecc")
    until(lambda: 'chipmedic_faults_open{kind="memory' in _get(site.pages["watchdog"]), "the fault")
    for name, address in site.pages.items():
        page = _get(address)
        assert page.count("\n# TYPE chipmedic_") > 10, name
        checked = _promtool("check", "metrics", text=page)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), name


def test_promtool_refuses_what_it_should() -> None:
    """The check above can fail: promtool does not accept just anything."""
    page = "# HELP chipmedic_scans Scans.\n# TYPE chipmedic_scans counter\nchipmedic_scans 1\n"
    assert _promtool("check", "metrics", text=page).returncode != 0


def test_rules_and_example_are_well_formed() -> None:
    rules = _promtool("check", "rules", str(RULES))
    assert rules.returncode == 0, rules.stderr
    assert f"SUCCESS: {len(_alerts(RULES))} rules found" in rules.stdout
    config = _promtool("check", "config", str(DEPLOY / "prometheus.yml"))
    assert config.returncode == 0, config.stdout + config.stderr


def test_each_alert_fires_for_its_cause_and_for_nothing_else(tmp_path: Path) -> None:
    courses = tmp_path / "rules_test.yml"
    text = (HERE / "rules_test.yml").read_text()
    courses.write_text(text.replace("[RULES]", f"[{RULES}]"))
    assert _alerts(courses) == _alerts(RULES), "an alert without a course that fires it"
    tested = _promtool("test", "rules", str(courses))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_metric_of_the_rules_is_on_a_page(site: Site) -> None:
    """A rule over a metric that was renamed never fires, and nothing says so; nor does a manual."""

    def served() -> set[str]:
        pages = "".join(_get(address) for address in site.pages.values())
        return set(re.findall(r"^# TYPE (chipmedic_\w+)", pages, re.MULTILINE))

    expressions = "\n".join(re.findall(r"expr: (.*)", RULES.read_text()))
    manual = (DEPLOY.parent / "docs" / "operations.md").read_text()
    told = set(re.findall(r"^\| `(chipmedic_\w+)", manual, re.MULTILINE))
    used = set(re.findall(r"chipmedic_\w+", expressions))
    assert told, "the manual names no metric"
    assert used, "no rule uses a metric"
    until(lambda: (told | used) <= served(), explain=lambda: str((told | used) - served()))


def test_prometheus_scrapes_both_and_a_rule_fires_for_a_fault(site: Site) -> None:
    shutil.copy(RULES, site.folder)
    config = (DEPLOY / "prometheus.yml").read_text().replace("15s", "1s")
    config = config.replace('"node0001:9480", "node0002:9480"', f'"{site.agent_address}"')
    config = config.replace('"watchdog:7480"', f'"{site.watchdog.http.removeprefix("http://")}"')
    (site.folder / "prometheus.yml").write_text(config)
    address = f"127.0.0.1:{_free_port()}"
    site.start(
        "prometheus",
        f"--config.file={site.folder}/prometheus.yml",
        f"--storage.tsdb.path={site.folder}/tsdb",
        f"--web.listen-address={address}",
        "--log.level=warn",
        name="prometheus",
    )
    jobs = {"chipmedic-agent": "up", "chipmedic-watchdog": "up"}
    until(lambda: _targets(address) == jobs, "both targets", explain=lambda: site.log("prometheus"))
    until(lambda: "ChipmedicDeadMansSwitch" in _firing(address), "the switch")
    assert "ChipmedicFault" not in _firing(address)
    assert "ChipmedicWatchdogDown" not in _firing(address)

    site.kernel_log.say("off-bus")

    until(
        lambda: "ChipmedicFault" in _firing(address), "the alert", explain=lambda: site.log("agent")
    )
    [alert] = [a for a in _alerts_of(address) if a["labels"]["alertname"] == "ChipmedicFault"]
    assert alert["labels"]["kind"] == "chip.lost"
    assert alert["labels"]["instance"] == site.agent_address
    assert alert["annotations"]["summary"].startswith(f"{site.agent_address}: chip.lost on ")
    query = urllib.parse.quote('chipmedic_faults_open{kind="chip.lost",severity="critical"}')
    found = f"http://{address}/api/v1/query?query={query}"
    until(lambda: json.loads(_get(found, ""))["data"]["result"] != [], "the watchdog's word")
    lost = urllib.parse.quote("sum by (phase) (chipmedic_lost_seconds)")

    def phases() -> set[str]:
        answer = json.loads(_get(f"http://{address}/api/v1/query?query={lost}", ""))
        return {series["metric"]["phase"] for series in answer["data"]["result"]}

    until(lambda: "detect" in phases(), "the phases of what was lost")


def _promtool(*argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *argv], input=text, capture_output=True, text=True, timeout=60, check=False
    )


def _alerts(path: Path) -> set[str]:
    return {a or b for a, b in ALERT.findall(path.read_text())}


def _get(address: str, path: str = "/metrics") -> str:
    try:
        with urllib.request.urlopen(address + path, timeout=60) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""  # not up yet


def _agent_page(site: Site) -> str:
    assert site.processes[0].poll() is None, site.log("agent")
    return _get(site.pages["agent"])


def _targets(address: str) -> dict[str, str]:
    answer = json.loads(_get(f"http://{address}", "/api/v1/targets") or "{}")
    active = answer.get("data", {}).get("activeTargets", [])
    return {target["labels"]["job"]: target["health"] for target in active}


def _alerts_of(address: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_get(f"http://{address}", "/api/v1/alerts"))["data"][
        "alerts"
    ]
    return [alert for alert in found if alert["state"] == "firing"]


def _firing(address: str) -> set[str]:
    return {alert["labels"]["alertname"] for alert in _alerts_of(address)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
