"""What the reader makes of hy-smi and of the rocm-smi that the DTK ships."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.tool_report import (
    ChipReport,
    Health,
    ProblemKind,
    ProcessReport,
    ToolReport,
    ToolRun,
)
from chipmedic_collectors.hygon import READER
from fuzzing import assert_possible, examples
from vendor_readings import kinds
from vendor_readings import read as read_text

MIB = 1048576
RULE = "=" * 96

TABLE = f"""\
{" System Management Interface ".center(96, "=")}
{RULE}
HCU     Temp     AvgPwr     Perf     PwrCap     VRAM%      HCU%      Dec%      Enc%      Mode
0       47.0C    121.0W     auto     800.0W     37%        12.5%     0.0%      0.0%      Normal
1       N/A      N/A        unknown  N/A        0%         N/A       N/A       N/A       Normal
7       49.0C    125.0W     manual   800.0W     91%        0.0%      0.0%      0.0%      MIG
{RULE}
{" End of SMI Log ".center(96, "=")}
"""
OLD = """\
============================ System Management Interface =============================
DCU  Temp   AvgPwr  Fan   Perf  PwrCap  VRAM%  DCU%
0    50.0c  23.0W   0.0%  auto  300.0W    4%   2%
======================================================================================
"""


def read(command: str, text: str, *, stderr: str = "", exit_code: int | None = None) -> ToolReport:
    report = read_text(text, command, stderr=stderr, exit_code=exit_code)
    assert report.vendor == "hygon"
    return report


@pytest.mark.parametrize("command", ["hy-smi", "rocm-smi", "/opt/dtk/bin/rocm-smi"])
def test_table(command: str) -> None:
    report = read(command, TABLE)
    assert [chip.index for chip in report.chips] == [0, 1, 7]
    assert report.chips[0] == ChipReport(
        index=0,
        temperature_celsius=47,
        power_watts=121,
        power_limit_watts=800,
        utilization_ratio=0.125,
        memory_used_ratio=0.37,
    )
    assert report.chips[1] == ChipReport(index=1, health=Health.UNKNOWN)
    assert report.chips[2].utilization_ratio == 0  # full memory and no work: idle or hung, no fault
    assert kinds(report) == [ProblemKind.PARTIAL]


def test_old_table_has_a_fan() -> None:
    (chip,) = read("rocm-smi", OLD).chips
    assert (chip.power_watts, chip.utilization_ratio, chip.memory_used_ratio) == (23, 0.02, 0.04)


def test_noise_of_a_container_is_no_trouble() -> None:
    report = read("hy-smi", "Open mkfd failed\n" + TABLE)
    assert kinds(report) == [ProblemKind.PARTIAL]  # chip 1, not the noise


@pytest.mark.parametrize("lines", [3, 4, 5, 6])
def test_table_that_is_cut(lines: int) -> None:
    report = read("hy-smi", "\n".join(TABLE.splitlines()[:lines]))
    assert ProblemKind.TRUNCATED in kinds(report)


def test_json_without_commas_and_with_empty_keys() -> None:
    text = (
        '{"card2": {"Card Series": "K100_AI", "Card Vendor": "C-3000 IC Design Co., Ltd.", '
        '"Average Graphics Package Power (W)": "141.0""Average GFX Core Power (W)": "33.0"'
        '"Average Memory Power (W)": "21.0", "Temperature (Sensor edge) (C)": "51.0", '
        '"Temperature (Sensor mem) (C)": "48.0", "": "", "": "", "HCU use (%)": "17.5", '
        '"HCU memory use (%)": "3", "vram Total Memory (MiB)": "65520", '
        '"vram Total Used Memory (MiB)": "2048"}}'
    )
    (chip,) = read("hy-smi -a --json", text).chips
    assert chip == ChipReport(
        index=2,
        name="K100_AI",
        temperature_celsius=51,
        memory_temperature_celsius=48,
        power_watts=141,
        utilization_ratio=0.175,
        memory_used_bytes=2048 * MIB,
        memory_total_bytes=65520 * MIB,
    )


@pytest.mark.parametrize(
    ("value", "pci", "serial"),
    [
        ("0000:1A:00.0 --> SN: 77-2201 --> OAM ID: 3", "0000:1a:00.0", "77-2201"),
        ("0000:1a:00.0 --> SN: N/A", "0000:1a:00.0", None),
        ("0001:1a:00.0", "0001:1a:00.0", None),
    ],
)
def test_packed_address(value: str, pci: str, serial: str | None) -> None:
    (chip,) = read("hy-smi --showbus --json", f'{{"card0": {{"PCI Bus": "{value}"}}}}').chips
    assert (chip.pci, chip.serial) == (pci, serial)


def test_share_of_memory_only_where_no_size_is_printed() -> None:
    (chip,) = read("hy-smi --showmemuse", "HCU[0]\t\t: HCU memory use (%): 55\n").chips
    assert chip.memory_used_ratio == 0.55


def test_text_blocks_of_one_chip_are_one() -> None:
    report = read(
        "rocm-smi --showuse --showmeminfo vram",
        "DCU[0]\t\t: DCU use (%): 5\nDCU[1]\t\t: DCU use (%): 0\n"
        "DCU[0]\t\t: vram Total Memory (MiB): 16368\nDCU[0]\t\t: vram Total Used Memory (MiB): 7\n",
    )
    assert report.chips == [
        ChipReport(
            index=0,
            utilization_ratio=0.05,
            memory_used_bytes=7 * MIB,
            memory_total_bytes=16368 * MIB,
        ),
        ChipReport(index=1, utilization_ratio=0),
    ]


def test_processes() -> None:
    text = (
        "PIDs for KFD processes:\n\n"
        "PID: 88001\n\tPASID: 32771\n\tHCU Index: ['1'] \n\tVRAM USED(MiB): 9000\n\tSDMA USED: 0\n"
        "PID: 88002\n\tHCU Index: ['0'] ['1'] \n\tVRAM USED(MiB): 10\n"
    )
    report = read("hy-smi --showpids", text)
    held = {chip.index: chip.processes for chip in report.chips}
    assert held == {
        1: [ProcessReport(88001, None, 9000 * MIB), ProcessReport(88002)],
        0: [ProcessReport(88002)],
    }


def test_versions() -> None:
    report = read("hy-smi --showdriverversion", f"{RULE}\nDriver Version: 6.3.11-V1.2.0\n{RULE}\n")
    assert report.driver_version == "6.3.11-V1.2.0"
    assert report.problems == []


@pytest.mark.parametrize(
    ("stdout", "stderr", "exit_code", "kind"),
    [
        ("Open mkfd failed\nError: No device available, no device found or initialization failed,"
         " exiting.\n", "", 0, ProblemKind.NO_DEVICES),
        ("", "", 0, ProblemKind.MALFORMED),
        ("", "hy-smi: command not found", 127, ProblemKind.TOOL_MISSING),
        ("", "hy-smi: error while loading shared libraries: librocm_smi64.so.2: cannot open shared"
         " object file: No such file or directory", 127, ProblemKind.DRIVER_DOWN),
        ("", "usage: hy-smi [-h]\nhy-smi: error: unrecognized arguments: --showxhclstatus", 2,
         ProblemKind.UNSUPPORTED),
        ('{"card0": {"PCI Bus": "0000:1a:00.0 --> SN', "", None, ProblemKind.TRUNCATED),
    ],
)  # fmt: skip
def test_complaints(stdout: str, stderr: str, exit_code: int | None, kind: ProblemKind) -> None:
    report = read("hy-smi", stdout, stderr=stderr, exit_code=exit_code)
    assert kind in kinds(report)


def test_amd_is_not_ours() -> None:
    run = ToolRun(["rocm-smi"], "=== ROCm System Management Interface ===\nGPU  Temp  AvgPwr\n")
    assert READER.recognises(run) == 0


@settings(max_examples=examples(200))
@given(
    st.lists(st.sampled_from([TABLE, OLD, '{"card0": {"a": "b""c": "d"']) | st.text(max_size=40)),
    st.integers(0, 600),
)
def test_no_input_breaks_the_reader(pieces: list[str], cut: int) -> None:
    text = "".join(pieces)
    for part in (text, text[:cut], text[cut:]):
        report = READER.read(ToolRun(["hy-smi"], part, part, 0))
        assert_possible(report)
