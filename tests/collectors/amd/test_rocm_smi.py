"""What the reader makes of rocm-smi: tables, JSON, CSV and text of all its versions."""

from __future__ import annotations

import json

import pytest

from chipmedic.tool_report import (
    ChipReport,
    Health,
    ProblemKind,
    ProcessReport,
    ToolReport,
)
from vendor_readings import kinds, recorded
from vendor_readings import read as read_text

MIB = 1048576
OLDEST = recorded("rocm-smi-1.4-table.txt")
OLD = recorded("rocm-smi-4.5-table.txt")
REVISION = recorded("rocm-smi-6.0-table.txt")
NODES = recorded("rocm-smi-6.3-table-cpx-dead.txt")
SECTIONS = recorded("rocm-smi-a-6.2.txt")


def read(command: str, text: str, *, stderr: str = "", exit_code: int | None = None) -> ToolReport:
    report = read_text(text, command, stderr=stderr, exit_code=exit_code)
    assert report.vendor == "amd"
    return report


def only(report: ToolReport) -> ChipReport:
    (chip,) = report.chips
    return chip


# -- rocm-smi without arguments


def test_concise_of_4_x() -> None:
    report = read("rocm-smi", OLD)
    assert [chip.temperature_celsius for chip in report.chips] == [38, 39]
    assert report.chips[0].power_watts == 41
    assert report.chips[0].power_limit_watts == 290
    assert report.chips[0].memory_used_ratio == 0.07
    assert report.chips[0].utilization_ratio == 0.13
    assert report.problems == []


def test_concise_of_1_x_with_blanks_in_cells() -> None:
    report = read("rocm-smi", OLDEST)
    chip = only(report)
    assert (chip.temperature_celsius, chip.power_limit_watts, chip.utilization_ratio) == (
        51,
        168,
        0,
    )


def test_concise_of_6_x_with_names_below_the_rows() -> None:
    report = read("rocm-smi", REVISION)
    assert [chip.name for chip in report.chips] == ["AMD Instinct MI325X"] * 2
    assert [chip.power_watts for chip in report.chips] == [155, 157]
    assert [chip.utilization_ratio for chip in report.chips] == [0.03, 0.05]
    assert report.problems == []


def test_concise_tells_a_partition_from_a_dead_chip() -> None:
    report = read("rocm-smi", NODES)
    alive, partition, dead = report.chips
    assert alive.health is None
    assert partition.health is None
    assert dead.health is Health.UNKNOWN
    assert dead.utilization_ratio is None
    assert dead.memory_used_ratio is None
    assert set(kinds(report)) == {ProblemKind.PARTIAL}


@pytest.mark.parametrize("lines", range(3, 5))
def test_concise_that_is_cut_between_rows(lines: int) -> None:
    report = read("rocm-smi", "\n".join(OLD.splitlines()[:lines]))
    assert set(kinds(report)) == {ProblemKind.TRUNCATED}
    assert len(report.chips) == lines - 3


def test_concise_that_is_cut_in_a_row() -> None:
    cut = OLD[: OLD.index("290.0W    0%") + 4]
    report = read("rocm-smi", cut)
    assert report.chips[1].power_limit_watts is None
    assert ProblemKind.TRUNCATED in kinds(report)


def test_power_of_a_secondary_die_is_no_reading() -> None:
    report = read("rocm-smi", OLD.replace("44.0W ", "0.0W  "))
    assert report.chips[1].power_watts is None
    assert report.chips[1].health is None


# -- rocm-smi --json, --csv

CARD = {
    "Device Name": "Instinct MI325X",
    "Unique ID": "0xd41c0ffee0a17b33",
    "Temperature (Sensor edge) (C)": "N/A",
    "Temperature (Sensor junction) (C)": "57.0",
    "Temperature (Sensor memory) (C)": "0.0",
    "Temperature (Sensor HBM 0) (C)": "48.0",
    "Temperature (Sensor HBM 1) (C)": "51.0",
    "Current Socket Graphics Package Power (W)": "321.0",
    "Max Graphics Package Power (W)": "1000.0",
    "GPU use (%)": "88",
    "GFX Activity": "918273645",
    "GPU Memory Allocated (VRAM%)": "40",
    "Serial Number": "692251004410",
    "PCI Bus": "0002:C1:00.0",
    "VRAM Total Memory (B)": str(262128 * MIB),
    "VRAM Total Used Memory (B)": str(104851 * MIB),
    "VIS_VRAM Total Memory (B)": "77",
    "GTT Total Used Memory (B)": "99",
    "Card Series": "0x74a5",
}


def test_json() -> None:
    document = {
        "card3": CARD,
        "system": {"Driver version": "6.12.12", "PID881": "a, b, 1, 9, 0, 0"},
    }
    noise = 'Expected integer value from monitor, but got ""\nWARNING: Unlocked [lock] {x}\n'
    report = read("rocm-smi -a --json", noise + json.dumps(document))
    chip = only(report)
    assert report.driver_version == "6.12.12"
    assert chip == ChipReport(
        index=3,
        name="Instinct MI325X",
        uuid="0xd41c0ffee0a17b33",
        serial="692251004410",
        pci="0002:c1:00.0",
        temperature_celsius=57,
        memory_temperature_celsius=51,
        power_watts=321,
        power_limit_watts=1000,
        utilization_ratio=0.88,
        memory_used_bytes=104851 * MIB,
        memory_total_bytes=262128 * MIB,
        processes=[ProcessReport(881, "a, b", 9)],
    )
    assert report.problems == []


def test_json_that_is_cut_keeps_the_whole_values() -> None:
    text = json.dumps({"card0": CARD, "card1": CARD})
    report = read("rocm-smi -a --json", text[: text.rindex("Serial Number") + 22])
    assert [chip.index for chip in report.chips] == [0, 1]
    assert report.chips[1].power_watts == 321
    assert report.chips[1].serial is None
    assert set(kinds(report)) == {ProblemKind.TRUNCATED}


def test_json_of_a_dead_card() -> None:
    dead = CARD | dict.fromkeys([key for key in CARD if "(C)" in key or "Power (W)" in key], "N/A")
    dead |= {"GPU use (%)": "0", "VRAM Total Used Memory (B)": "0"}
    chip = only(read("rocm-smi -a --json", json.dumps({"card0": dead})))
    assert chip.health is Health.UNKNOWN
    assert (chip.utilization_ratio, chip.memory_used_bytes, chip.power_limit_watts) == (None,) * 3


def test_csv_is_read_by_name() -> None:
    text = (
        "device,GPU use (%),VRAM Total Used Memory (B),Card Series,"
        "Average Graphics Package Power (W)\n"
        "card0,11,5242880,AMD Instinct MI210,43.0\n"
        "card1,N/A,6291456,AMD Instinct MI210,N/A (Secondary die)\n"
    )
    report = read("rocm-smi --csv", text)
    assert [chip.power_watts for chip in report.chips] == [43, None]
    assert [chip.utilization_ratio for chip in report.chips] == [0.11, None]
    assert [chip.memory_used_bytes for chip in report.chips] == [5 * MIB, 6 * MIB]
    assert report.problems == []
    cut = read("rocm-smi --csv", text[: text.rindex("6291456") + 3])
    assert cut.chips[1].memory_used_bytes is None
    assert set(kinds(cut)) == {ProblemKind.TRUNCATED}


# -- rocm-smi in text


def test_sections_of_one_card_are_one_chip() -> None:
    report = read("rocm-smi -a", SECTIONS)
    first, second = report.chips
    assert report.driver_version == "6.10.5"
    assert (first.index, first.pci, first.temperature_celsius) == (0, "0000:43:00.0", 36)
    assert first.power_watts == 88
    assert (first.ecc_corrected_total, first.ecc_uncorrected_total) == (6, 3)
    assert (second.retired_pages, second.remap_pending) == (1, True)
    assert second.ecc_corrected_total is None
    assert set(kinds(report)) == {ProblemKind.PARTIAL}


def test_processes_by_card() -> None:
    text = (
        "=========== GPUs Indexed by PID ===========\n"
        "PID 7001 is using 2 DRM device(s):\n0 3 \nPID 7002 is using 0 DRM device(s):\n\n"
    )
    report = read("rocm-smi --showpidgpus", text)
    assert [(chip.index, [p.pid for p in chip.processes or []]) for chip in report.chips] == [
        (0, [7001]),
        (3, [7001]),
    ]


def test_processes_without_cards_are_put_on_no_card() -> None:
    table = (
        "KFD process information:\n"
        "PID\tPROCESS NAME\tGPU(s)\tVRAM USED\tSDMA USED\tCU OCCUPANCY\n"
        "7001\tray::Train Wo\t1\t4096\t0\tUNKNOWN\n7002\tgunicorn\t0\t0\t0\t0\n"
    )
    report = read("rocm-smi --showpids", table)
    assert report.chips == []
    assert set(kinds(report)) == {ProblemKind.PARTIAL}
    alone = read("rocm-smi --showuse --showpids", "GPU[0]\t\t: GPU use (%): 9\n" + table)
    assert only(alone).processes == [ProcessReport(7001, "ray::Train Wo", 4096)]


def test_a_row_that_says_unsupported_is_a_row() -> None:
    table = (
        "GPU  Temp (DieEdge)  AvgPwr  SCLK  MCLK     Fan  Perf     PwrCap       VRAM%  GPU%\n"
        "0    47.0c           31.5W   None  2400Mhz  0%   auto     Unsupported   61%   8%\n"
        "1    N/A             N/A     None  1000Mhz  0%   unknown  Unsupported    0%   0%\n"
        "==================================================================================\n"
        "=============================== End of ROCm SMI Log ==============================\n"
    )
    good, silent = read("rocm-smi", table).chips
    assert (good.index, good.power_watts, good.power_limit_watts) == (0, 31.5, None)
    assert (good.memory_used_ratio, good.utilization_ratio) == (0.61, 0.08)
    assert (silent.index, silent.health) == (1, Health.UNKNOWN)


def test_value_that_could_not_be_had_is_said() -> None:
    report = read("rocm-smi --showpower", "GPU[2]\t\t: Unable to get Average Graphics Power\n")
    assert ProblemKind.PARTIAL in kinds(report)
