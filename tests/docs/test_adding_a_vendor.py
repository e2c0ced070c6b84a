"""docs/adding-a-vendor.md, followed to the letter: its invented vendor in an empty folder."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, Scan
from chipmedic.testing import FakeHost
from chipmedic_agent.registry import Found, discover, installed_collectors

PAGE = (Path(__file__).parents[2] / "docs/adding-a-vendor.md").read_text(encoding="utf-8")
LINES_MAX = 300
"""What a vendor of table or CSV kind may take, in one file."""
TABLE = """\
+------------------------------------------------------------+
| LUMEN-SMI 3.1.0                                            |
|-----------------------+--------------------+---------------|
| Chip  Name            | Bus-Id             | Uncorr. ECC   |
| Temp  Pwr:Usage/Cap   | Memory-Usage       | Util          |
|=======================+====================+===============|
| 0     Lumen L7        | 0000:21:00.0       | 2             |
| 58C   190W / 400W     | 1024MiB / 65536MiB | 71%           |
+-----------------------+--------------------+---------------+
| 1     Lumen L7        | 0000:22:00.0       | N/A           |
| N/A   N/A / 400W      | N/A / N/A          | N/A           |
+-----------------------+--------------------+---------------+
"""
HEAD = "index, pci.bus_id, name, uuid, temperature.core, power.draw [W], utilization.gpu [%]"
ROW = "0, 00000000:21:00.0, Lumen L7, LUM-77, 58, 190.5, 71\n"
CHIP = Component(ComponentKind.CHIP, "LUM-77")
GONE = Component(ComponentKind.CHIP, "lumen-0000:22:00.0")


def block(heading: str, language: str) -> str:
    """Return the first block of code below a heading of the page."""
    below = PAGE.partition(f"## {heading}\n")[2]
    found = re.search(rf"```{language}\n(.*?)```", below, re.DOTALL)
    assert found, heading
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installed package: the page's file and its entry points, as `pip install` leaves them."""
    (tmp_path / "lumen.py").write_text(block("A whole vendor in one file", "python"), "utf-8")
    points = tomllib.loads(block("Publish it", "toml"))["project"]["entry-points"]
    lines = [
        line
        for group, names in points.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()))
    ]
    about = tmp_path / "lumen-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lumen\nVersion: 1.0\n", "utf-8")
    (about / "entry_points.txt").write_text("\n".join([*lines, ""]), "utf-8")
    return tmp_path


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("lumen", None)


def chipmedic(folder: Path, *argv: str) -> str:
    command = [sys.executable, "-c", "from chipmedic_cli.entry import run; run()", *argv]
    env = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60).stdout


def test_the_file_is_short() -> None:
    assert len(block("A whole vendor in one file", "python").splitlines()) <= LINES_MAX


def test_parse_reads_its_table(folder: Path) -> None:
    (folder / "answer.txt").write_text(TABLE, encoding="utf-8")
    answer = chipmedic(
        folder, "parse", "--json", "--tool-argv", "lumen-smi", str(folder / "answer.txt")
    )
    report = json.loads(answer)
    good, silent = report["chips"]
    assert (report["vendor"], report["tool_version"]) == ("lumen", "3.1.0")
    assert (good["pci"], good["temperature_celsius"], good["power_limit_watts"]) == (
        "0000:21:00.0",
        58,
        400,
    )
    assert (good["utilization_ratio"], good["ecc_uncorrected_total"]) == (0.71, 2)
    assert silent["health"] == "unknown"
    assert [problem["kind"] for problem in report["problems"]] == ["partial"]


def test_doctor_knows_it(folder: Path) -> None:
    assert "lumen" in chipmedic(folder, "doctor", "--json")


def scan_of(host: FakeHost) -> Scan:
    found = discover(installed_collectors()["lumen"], host)
    assert isinstance(found, Found)
    return found.collector.scan()


def bus(*addresses: str) -> dict[str, str | OSError]:
    names = (("vendor", "0x1fe7"), ("class", "0x120000"), ("device", "0x0001"), ("uevent", ""))
    return {
        f"/sys/bus/pci/devices/{address}/{name}": text
        for address in addresses
        for name, text in names
    }


@pytest.mark.usefixtures("installed")
def test_its_collector_sees_the_loss_of_a_chip() -> None:
    scan = scan_of(FakeHost({"lumen-smi": f"{HEAD}\n{ROW}"}, bus("0000:21:00.0", "0000:22:00.0")))
    assert scan.values(Metric.TEMPERATURE) == {CHIP: 58}
    assert scan.values(Metric.PRESENT) == {CHIP: 1, GONE: 0}


@pytest.mark.usefixtures("installed")
def test_its_collector_says_that_the_driver_is_down() -> None:
    host = FakeHost({"lumen-smi": "cannot find lumen.ko\n"}, bus("0000:21:00.0"))
    scan = scan_of(host)
    assert [event.code for event in scan.events] == ["lumen:tool:driver_down"]
    assert scan.readings == ()
