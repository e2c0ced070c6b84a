"""Cells with several values, and lines that may be values or complaints."""

from __future__ import annotations

import pytest

from chipmedic.tool_report import ProblemKind
from chipmedic_collectors.reading import cells
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.values import MIB
from vendor_readings import kinds, read, recorded


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("N/A   43C  N/A     98W / 400W", (98, 400)),
        ("N/A   22C   P0   88W /  600W", (88, 600)),
        ("0%   51C     3.70 W/ 8.25 W", (3.7, 8.25)),
        ("34C         97W / NA", (97, None)),
        ("N/A  37C   P0       N/A / N/A", (None, None)),
        ("45C         NA / 350W", (None, 350)),
        ("39 C   Sleep    105W  300W", (105, 300)),
        ("36℃    LP0      N/A", (None, None)),
        ("40C   17W", (17, None)),
        ("", (None, None)),
    ],
)
def test_powers(cell: str, expected: tuple[float | None, float | None]) -> None:
    assert cells.powers(cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("N/A   43C  N/A     98W / 400W", 43),
        ("39 C   Sleep    105W  300W", 39),
        ("35℃    LP1      68W / 300W", 35),
        ("35°C", 35),
        ("N/A   N/A   N/A", None),
        ("P0   CPU 5Core", None),
    ],
)
def test_temperature(cell: str, expected: float | None) -> None:
    assert cells.temperature(cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("768MiB /  98304MiB", (768 * MIB, 98304 * MIB)),
        ("666/65536 MiB", (666 * MIB, 65536 * MIB)),
        ("512Mib / 32768Mib", (512 * MIB, 32768 * MIB)),
        ("504 / 8064 MB", (504 * MIB, 8064 * MIB)),
        ("0MiB / 0MiB", (None, None)),
        ("5 MiB/ xxxxx MiB", (5 * MIB, None)),
        ("N/A / N/A", (None, None)),
    ],
)
def test_usage(cell: str, expected: tuple[int | None, int | None]) -> None:
    assert cells.usage(cell) == expected


def test_tool_is_found_inside_wrappers() -> None:
    tools = {"hl-smi"}
    wrapped = CommandLine.of(["timeout", "9", "/usr/bin/hl-smi", "-Q", "name"], tools)
    assert (wrapped.tool, wrapped.value("-Q")) == ("hl-smi", "name")
    quoted = CommandLine.of(["sh", "-c", "sudo hl-smi --query-aip=index"], tools)
    assert quoted.value("--query-aip") == "index"
    assert CommandLine.of(["nvidia-smi"], tools).tool is None


def test_not_supported_in_a_cell_is_no_complaint() -> None:
    text = "0, HL-225, 0000:4e:00.0, [Not Supported], 768 MiB\n"
    report = read(text, "hl-smi -Q index,name,bus_id,power.draw,memory.used -f csv,noheader")
    assert (report.chips[0].power_watts, report.problems) == (None, [])


def test_complaint_between_rows_does_not_hide_them() -> None:
    text = "Failed to initialize device 1\n0, HL-225, 0000:4e:00.0, 91 W, 768 MiB\n"
    report = read(text, "hl-smi -Q index,name,bus_id,power.draw,memory.used -f csv,noheader")
    assert [chip.index for chip in report.chips] == [0]
    assert kinds(report) == [ProblemKind.DRIVER_DOWN]


def test_exit_status_beside_an_answer_is_told() -> None:
    text = "0, HL-225\n"
    report = read(text, "hl-smi -Q index,name -f csv,noheader", exit_code=3)
    assert kinds(report) == [ProblemKind.PARTIAL]


@pytest.mark.parametrize("exit_code", [-11, -9, 137, 124])
def test_answer_of_a_killed_tool_is_never_whole(exit_code: int) -> None:
    """Also where it stops between two chips, and something else is said of it already."""
    text = recorded("cnmon-mlu590-6.5.txt").partition("| 1     /")[0]
    assert kinds(read(text, "cnmon")) == [ProblemKind.PARTIAL]
    report = read(text, "cnmon", exit_code=exit_code)
    assert kinds(report) == [ProblemKind.PARTIAL, ProblemKind.TRUNCATED]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("npu-smi-info-910b3-24.1.rc2-alarm", "npu-smi info"),
        ("nvidia-smi-550-table", "nvidia-smi"),
        ("nvidia-smi-535-table-dead-gpu", "nvidia-smi"),
    ],
)
def test_no_vendor_trusts_the_answer_of_a_killed_tool(name: str, command: str) -> None:
    assert ProblemKind.TRUNCATED not in kinds(read(recorded(f"{name}.txt"), command))
    assert ProblemKind.TRUNCATED in kinds(read(recorded(f"{name}.txt"), command, exit_code=-9))
