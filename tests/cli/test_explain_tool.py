"""`chipmedic explain` given what a vendor's tool printed instead of a log."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from chipmedic.tool_report import ChipReport, ToolReport
from chipmedic_cli import explain, explain_tool

RECORDED = Path(__file__).parents[1] / "recorded"
ALARM = RECORDED / "npu-smi-info-910b3-24.1.rc2-alarm.txt"


def told(capsys: pytest.CaptureFixture[str], file: Path, **options: object) -> str:
    given = {"as_json": False, "independent": False, "language": "en", **options}
    explain.run(str(file), **given)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_a_chip_that_the_tool_calls_ill_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, ALARM)
    assert "ascend's tool 24.1.rc3: 2 chips" in out
    assert "): states critical" in out
    assert out.count("states") == 1


def test_in_chinese_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert "状态 critical" in told(capsys, ALARM, language="zh")
    answer = json.loads(told(capsys, ALARM, as_json=True))
    assert answer["tool"]["chips"][1]["health"] == "critical"


def test_codes_come_with_where_to_start() -> None:
    report = ToolReport(vendor="ascend", chips=[ChipReport(index=3, error_codes=["80E01801"])])
    lines = explain_tool.render(report, "en")
    assert lines[1] == "ascend 3: codes 80E01801"
    assert lines[3].startswith("   First: ")


def test_a_healthy_table_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "info.txt"
    file.write_text(ALARM.read_text(encoding="utf-8").replace("Alarm", "OK   "), encoding="utf-8")
    out = told(capsys, file)
    assert "nothing is wrong" in out


@pytest.mark.parametrize("text", ["", "usb 1-1: new device\n", "a | b\n"])
def test_a_log_is_no_tool(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    file = tmp_path / "log"
    file.write_text(text, encoding="utf-8")
    assert ("is known as a fault" if text else "The log is empty") in told(capsys, file)
    assert "tool" not in json.loads(told(capsys, file, as_json=True))


def test_a_fault_in_a_log_goes_before_any_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "both"
    line = "[ascend] [ERROR] [drv] Heartbeat lost! (device_id=6; n=4)\n"
    file.write_text(ALARM.read_text(encoding="utf-8") + line, encoding="utf-8")
    assert "One thing to look at" in told(capsys, file)


@pytest.mark.parametrize("length", [0, 10, explain_tool.HEAD_MAX, explain_tool.HEAD_MAX + 100_001])
def test_nothing_of_a_stream_is_lost(length: int) -> None:
    whole = (b"0123456789abcde\n" * (length // 16 + 1))[:length]
    text, stream = explain_tool.split_head(io.BytesIO(whole))
    assert stream.read() == whole
    assert (text is None) is (length >= explain_tool.HEAD_MAX)
