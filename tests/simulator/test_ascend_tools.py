"""The simulated Ascend tools: layouts of the real ones, statuses, and state read at each call."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chipmedic.tool_report import Health, ToolReport, ToolRun
from chipmedic_collectors.ascend.tools import read
from chipmedic_simulator.ascend_tools import AscendHost, Process, hccn_tool, install, npu_smi, save
from chipmedic_simulator.ascend_tools.state import STATE_VARIABLE, FaultCode, load

RECORDED = Path(__file__).parents[1] / "recorded"


def call(host: AscendHost, line: str) -> tuple[str, str, int]:
    program, *words = line.split()
    main: Callable[..., int] = npu_smi.main if program == "npu-smi" else hccn_tool.main
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words, host=host)
    return out.getvalue(), err.getvalue(), code


def reported(host: AscendHost, line: str) -> ToolReport:
    stdout, stderr, code = call(host, line)
    return read(ToolRun(line.split(), stdout, stderr, code))


@pytest.mark.parametrize(
    ("family", "file"),
    [
        ("910B", "info-910b3-24.1.rc2-alarm"),
        ("A3", "info-a3-25.3-dead-row"),
        ("310P", "info-310p-duo-25.0"),
    ],
)
def test_box_has_the_rules_and_headers_of_a_recorded_one(family: str, file: str) -> None:
    host = AscendHost.simulated(4, family=family)
    host.chip(3).npu, host.chip(2).die = 2, 1
    host.chip(2, 1).npu = 1
    lines = call(host, "npu-smi info")[0].splitlines()
    recorded = (RECORDED / f"npu-smi-{file}.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == recorded[0]
    assert lines[2:6] == recorded[2:6]
    assert {len(line) for line in lines} == {len(recorded[0])}
    bars = [i for i, mark in enumerate(recorded[6]) if mark == "|"]
    rows = [line for line in lines[6:] if line.startswith("|") and "No running" not in line]
    assert all([i for i, mark in enumerate(row) if mark == "|"] == bars for row in rows[:8])


@pytest.mark.parametrize("family", ["910B", "A3", "310P"])
def test_reader_finds_what_the_state_says(family: str) -> None:
    host = AscendHost.simulated(3, family=family)
    host.chip(1).health = "Warning"
    host.chip(2).processes = [Process(31, "a_rather_long_process_name", 900), Process(32)]
    report = reported(host, "npu-smi info")
    assert report.problems == []
    assert [chip.pci for chip in report.chips] == [chip.pci.lower() for chip in host.chips]
    assert [chip.health for chip in report.chips] == [Health.OK, Health.WARNING, Health.OK]
    assert [chip.temperature_celsius for chip in report.chips] == [41, 42, 43]
    assert report.chips[2].processes is not None
    assert [p.pid for p in report.chips[2].processes] == [31, 32]
    assert len(reported(host, "npu-smi info -m").chips) == 3
    assert len(reported(host, "npu-smi info -l").chips) == 3


def test_topics() -> None:
    host = AscendHost.simulated(2, has_fault_events=True)
    sick = host.chip(1)
    sick.health, sick.ecc_double, sick.isolated_pages = "Alarm", 5, 2
    sick.codes = [FaultCode("80E01801", severity=3), FaultCode("80CB8009", severity=1)]
    (chip,) = reported(host, "npu-smi info -t ecc -i 1").chips
    assert (chip.ecc_uncorrected_total, chip.retired_pages) == (5, 2)
    for topic in ("health", "current-fault-event"):
        (chip,) = reported(host, f"npu-smi info -t {topic} -i 1 -c 0").chips
        assert chip.error_codes == ["80E01801", "80CB8009"]
    (chip,) = reported(host, "npu-smi info -t board -i 1 -c 0").chips
    assert chip.uuid == sick.vdie
    (chip,) = reported(host, "npu-smi info -t common -i 1").chips
    assert chip.temperature_celsius == 42


def test_statuses_are_the_codes_modulo_256() -> None:
    host = AscendHost.simulated(1)
    assert call(AscendHost.simulated(1, driver="down"), "npu-smi info")[2] == 187
    assert call(AscendHost.simulated(1, driver="occupied"), "npu-smi info")[2] == 172
    assert call(AscendHost.simulated(1, driver="no-library"), "npu-smi info")[2] == 127
    assert call(AscendHost.simulated(1, prints_nothing=True), "npu-smi info") == ("", "", 0)
    host.chip(0).kills_summary = True
    assert call(host, "npu-smi info")[2] == 180
    host.chip(0).is_lost = True
    stdout, _, code = call(host, "npu-smi info -t health -i 0 -c 0")
    assert stdout.startswith("Invalid card id.")
    assert code != 0


def test_port() -> None:
    host = AscendHost.simulated(1)
    assert call(host, "hccn_tool -i 0 -link -g")[0] == "link status: UP\n"
    host.chip(0).link, host.chip(0).link_downs = "DOWN", 3
    (chip,) = reported(host, "hccn_tool -i 0 -link_stat -g").chips
    assert chip.links is not None
    assert not chip.links[0].is_up
    host.is_hccn_busy = True
    assert call(host, "hccn_tool -i 0 -link -g")[2] == 11


def test_state_is_read_at_each_call_of_the_installed_tool(tmp_path: Path) -> None:
    state = tmp_path / "it's state.json"
    install(tmp_path / "a bin")
    env = {**os.environ, STATE_VARIABLE: str(state)}

    def shown() -> int:
        tool = tmp_path / "a bin" / "npu-smi"
        result = subprocess.run(
            [tool, "info"], env=env, capture_output=True, text=True, check=False
        )
        return len(read(ToolRun(["npu-smi", "info"], result.stdout, result.stderr)).chips)

    assert shown() == 0  # no state: no driver
    host = AscendHost.simulated(2)
    save(host, state)
    assert shown() == 2
    host.chip(0).is_lost = True
    save(host, state)
    assert shown() == 1
    assert load(state) == host


@pytest.mark.parametrize("text", ["", "[]", "{", '{"chips": 1}', '{"colour": "red"}'])
def test_state_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"."):
        load(path)
