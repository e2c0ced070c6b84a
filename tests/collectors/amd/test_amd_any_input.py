"""What the AMD tools complain of, whose they are, and that no input breaks the reader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.tool_report import (
    ChipReport,
    ProblemKind,
    ToolReport,
    ToolRun,
)
from chipmedic_collectors.amd.tools import READER
from fuzzing import assert_possible, examples
from vendor_readings import kinds, recorded
from vendor_readings import read as read_text

MIB = 1048576
OLDEST = recorded("rocm-smi-1.4-table.txt")
OLD = recorded("rocm-smi-4.5-table.txt")
REVISION = recorded("rocm-smi-6.0-table.txt")
NODES = recorded("rocm-smi-6.3-table-cpx-dead.txt")
SECTIONS = recorded("rocm-smi-a-6.2.txt")
METRIC = recorded("amd-smi-metric-7.0.txt")
STATIC = recorded("amd-smi-static-6.3-worn.txt")
VIEW = recorded("amd-smi-7.1-one-dead.txt")
CARD = {"PCI Bus": "0000:01:00.0", "GPU use (%)": "5", "GFX Activity": "981"}


def read(command: str, text: str, *, stderr: str = "", exit_code: int | None = None) -> ToolReport:
    report = read_text(text, command, stderr=stderr, exit_code=exit_code)
    assert report.vendor == "amd"
    return report


def only(report: ToolReport) -> ChipReport:
    (chip,) = report.chips
    return chip


# -- complaints


@pytest.mark.parametrize(
    ("argv", "stdout", "stderr", "exit_code", "kind"),
    [
        ("rocm-smi --json", "", "ERROR:root:Driver not initialized (amdgpu not found)", 0,
         ProblemKind.DRIVER_DOWN),
        ("rocm-smi", "rsmi_init() failed\n", "", 8, ProblemKind.DRIVER_DOWN),
        ("rocm-smi", "", "", 0, ProblemKind.MALFORMED),
        ("rocm-smi -d 9 --json", "WARNING: No such device card9\n", "", 0, ProblemKind.CHIP_LOST),
        ("rocm-smi --json", "NOT_SUPPORTED: Cannot print JSON/CSV output for concise output", "", 1,
         ProblemKind.UNSUPPORTED),
        ("rocm-smi --showrasinfo --json", "WARNING: No JSON data to report", "", 0,
         ProblemKind.UNSUPPORTED),
        ("rocm-smi", "", "bash: rocm-smi: command not found", 127, ProblemKind.TOOL_MISSING),
        ("rocm-smi", "WARNING: No AMD GPUs specified\n", "", 0, ProblemKind.NO_DEVICES),
        ("amd-smi metric --json", '{"error": "Can not find a device: GPU 9", "code": -3}', "", 0,
         ProblemKind.CHIP_LOST),
        ("amd-smi metric --json", '{"error": "no right", "code": -1010}', "", 0,
         ProblemKind.PERMISSION),
        ("amd-smi x --json", '{"error": "bad", "error_type": "x", "code": 194}', "", 194,
         ProblemKind.UNSUPPORTED),
        ("amd-smi metric --json", '{"error": "driver", "code": 206}', "", 206,
         ProblemKind.DRIVER_DOWN),
        ("amd-smi metric -g 9", "Can not find a device: GPU '9' Error code: -3", "", 0,
         ProblemKind.CHIP_LOST),
        ("amd-smi", "", "ERROR:root:Unable to detect any GPU devices, check amdgpu version", 255,
         ProblemKind.NO_DEVICES),
        ("amd-smi metric", "", "amd-smi: error: unrecognized arguments: --nope", 2,
         ProblemKind.UNSUPPORTED),
        ("amd-smi metric --json", '[{"gpu": 0, "bdf": "0000:0', "", None, ProblemKind.TRUNCATED),
        ("amd-smi metric --json", "{oops}", "", None, ProblemKind.MALFORMED),
        ("amd-smi metric", "", "", 137, ProblemKind.TRUNCATED),
    ],
)  # fmt: skip
def test_complaints(
    argv: str, stdout: str, stderr: str, exit_code: int | None, kind: ProblemKind
) -> None:
    report = read(argv, stdout, stderr=stderr, exit_code=exit_code)
    assert kind in kinds(report)
    assert report.chips == []


def test_a_broken_cpu_driver_is_no_trouble_of_the_gpus() -> None:
    stderr = "ERROR:root:Unable to detect any CPU devices, check amd_hsmp version and module status"
    report = read("amd-smi metric", METRIC, stderr=stderr, exit_code=255)
    assert len(report.chips) == 2
    assert set(kinds(report)) <= {ProblemKind.PARTIAL}


def test_versions() -> None:
    text = "AMDSMI Tool: 24.7.1+b446d6c | AMDSMI Library version: 24.7.2.0 | ROCm version: N/A"
    report = read("amd-smi version", text + " | amdgpu version: 6.10.10 | amd_hsmp version: 2.2\n")
    assert (report.tool_version, report.driver_version) == ("24.7.1+b446d6c", "6.10.10")
    assert report.problems == []


@pytest.mark.parametrize(
    ("argv", "stdout"),
    [
        ("rocm-smi", "DCU     Temp     AvgPwr     Perf     PwrCap     VRAM%      DCU%      Mode\n"),
        ("hy-smi", "=== ROCm System Management Interface ===\n"),
        ("rocm-smi", "Open mkfd failed\n"),
        ("nvidia-smi", "no mark of anybody"),
    ],
)
def test_others_are_not_ours(argv: str, stdout: str) -> None:
    assert READER.recognises(ToolRun(argv.split(), stdout)) == 0


PIECES = (
    *(OLD, OLDEST, REVISION, NODES, SECTIONS, METRIC, STATIC, VIEW),
    json.dumps({"card0": CARD}),
    '[{"gpu": 0, "process_list": [{"process_info": {"pid": [1], "name": {}}}]}]',
    '{"gpu_data": [{"gpu": {}, "ecc_blocks": {"a": []}, "link_status": [{}, 1]}]}',
    "GPU  POWER  GPU_T\n 0 ",
    "timestamp gpu_id severity\n",
    "GPU0   0000:05:00.0  U  D\nLINK STATUS",
    "\x00\ufeff\t,\"'[]{}:|+=",
)


@settings(max_examples=examples(200))
@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=40), max_size=4),
    st.integers(0, 900),
    st.sampled_from(["amd-smi metric --json", "rocm-smi", "amd-smi"]),
    st.none() | st.integers(-20, 300),
)
def test_no_input_breaks_the_reader(
    pieces: list[str], cut: int, argv: str, exit_code: int | None
) -> None:
    text = "\n".join(pieces)
    for part in (text, text[:cut], text[cut:]):
        report = READER.read(ToolRun(argv.split(), part, part[::-1], exit_code))
        assert report.vendor == "amd"
        assert_possible(report)
