"""The table of plain `nvidia-smi`, from driver 295 to 610."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.tool_report import Health, ProcessReport, ToolReport, ToolRun
from chipmedic_collectors.nvidia.smi import READER
from chipmedic_collectors.values import MIB

RECORDED = Path(__file__).parents[2] / "recorded"


def read(text: str, *arguments: str) -> ToolReport:
    return READER.read(ToolRun(["nvidia-smi", *arguments], text))


def recorded(name: str) -> str:
    return (RECORDED / f"nvidia-smi-{name}.txt").read_text(encoding="utf-8")


def kinds(report: ToolReport) -> set[str]:
    return {problem.kind.value for problem in report.problems}


def test_a_whole_table_has_no_problem() -> None:
    report = read(recorded("550-table"))
    assert report.problems == []
    assert (report.tool_version, report.driver_version) == ("550.127.08", "550.127.08")
    assert [chip.index for chip in report.chips] == [0, 1]


def test_the_cells_of_a_row_are_facts_in_base_units() -> None:
    busy, idle = read(recorded("550-table")).chips
    assert (busy.name, busy.pci) == ("NVIDIA H200", "0000:1b:00.0")
    assert (busy.temperature_celsius, busy.power_watts, busy.power_limit_watts) == (41, 312, 700)
    assert busy.utilization_ratio == pytest.approx(0.97)
    assert (busy.memory_used_bytes, busy.memory_total_bytes) == (120311 * MIB, 143771 * MIB)
    assert busy.ecc_uncorrected_total == 0
    assert (idle.pci, idle.ecc_uncorrected_total) == ("0001:9d:00.0", 2)
    assert busy.health is None, "the table states no health"


def test_processes_go_to_their_chip_and_none_is_not_unknown() -> None:
    busy, idle = read(recorded("550-table")).chips
    assert busy.processes == [
        ProcessReport(51877, "/opt/train/bin/python", 120100 * MIB),
        ProcessReport(51901, "pt_data: worker 3", 200 * MIB),
    ]
    assert idle.processes == []


def test_mig_devices_are_not_chips_and_their_processes_add_up() -> None:
    report = read(recorded("610-table-mig"))
    (chip,) = report.chips
    assert (chip.index, chip.pci) == (3, "0000:52:00.0")
    assert (chip.memory_used_bytes, chip.utilization_ratio) == (None, None)
    assert chip.ecc_uncorrected_total is None, "`On` is no count"
    assert chip.processes == [ProcessReport(40022, "serve", 1030 * MIB)]
    assert report.driver_version == "610.12.04", "since 595 it is called KMD Version"
    assert report.tool_version == "610.12.01"


def test_a_damaged_inforom_warns_of_its_chip_only() -> None:
    report = read(recorded("610-table-mig"))
    assert report.chips[0].health is Health.WARNING
    assert report.problems == []
    without = read(recorded("610-table-mig").replace("WARNING: infoROM", "NOTE: nothing"))
    assert without.chips[0].health is None


def test_the_layout_of_2012() -> None:
    report = read(recorded("295-table"))
    tesla, geforce = report.chips
    assert (tesla.index, tesla.name, tesla.pci) == (0, "Tesla M2090", "0000:14:00.0")
    assert (tesla.ecc_corrected_total, tesla.ecc_uncorrected_total) == (3, 1)
    assert (tesla.temperature_celsius, tesla.power_watts) == (61, 78)
    assert tesla.memory_total_bytes == 5375 * MIB
    assert tesla.processes == [ProcessReport(7001, "./simulate", 600 * MIB)]
    assert geforce.processes is None, "`Not Supported` is not `no process`"
    assert (geforce.utilization_ratio, geforce.ecc_uncorrected_total) == (None, None)
    assert report.problems == []


def test_a_dead_row_is_unknown_and_a_missing_cell_is_not_death() -> None:
    report = read(recorded("535-table-dead-gpu"))
    fan, dead, power = report.chips
    assert fan.health is None, "a fan that cannot be read says nothing of the chip"
    assert fan.power_watts == 36
    assert dead.health is Health.UNKNOWN
    assert (dead.name, dead.temperature_celsius, dead.power_watts) == (None, None, None)
    assert (power.health, power.power_watts, power.power_limit_watts) == (None, None, 300)
    assert kinds(report) == {"partial"}
    assert [problem.message[:5] for problem in report.problems] == ["GPU 1", "GPU 2"]


def test_a_lost_chip_in_the_table() -> None:
    text = recorded("535-table-dead-gpu").replace(
        "0MiB / 46068MiB |    ERR!", "GPU is lost |   ERR!"
    )
    chip = read(text).chips[1]
    assert chip.lost is True
    assert chip.health is Health.CRITICAL
    assert chip.memory_used_bytes is None


def test_an_excerpt_without_header_is_read_and_said_to_be_partial() -> None:
    lines = recorded("550-table").splitlines()
    report = read("\n".join(lines[8:16]))
    assert [chip.pci for chip in report.chips] == ["0000:1b:00.0", "0001:9d:00.0"]
    assert report.driver_version is None
    assert all(chip.processes is None for chip in report.chips)
    assert kinds(report) == {"partial"}


def test_a_table_of_a_loop_is_each_chip_once_with_its_last_values() -> None:
    first = recorded("550-table")
    report = read(first + first.replace("312W", "655W").replace("51901", "51999"), "-l", "5")
    assert len(report.chips) == 2
    assert report.chips[0].power_watts == 655
    assert [process.pid for process in report.chips[0].processes or ()] == [51877, 51999]


@pytest.mark.parametrize("name", ["550-table", "295-table", "535-table-dead-gpu"])
def test_no_cut_passes_for_a_whole_table(name: str) -> None:
    whole = read(recorded(name))
    text = recorded(name).rstrip("\n")
    true_values = {chip.index: chip for chip in whole.chips}
    for end in range(120, len(text), 7):
        report = read(text[:end])
        assert any(problem not in whole.problems for problem in report.problems), end
        for chip in report.chips:
            true = true_values[chip.index]
            assert chip.power_watts in (None, true.power_watts), end
            assert chip.memory_used_bytes in (None, true.memory_used_bytes), end
            assert chip.health in (None, true.health), end


def test_processes_of_a_table_that_was_cut_are_unknown_not_none() -> None:
    text = recorded("550-table")
    report = read(text[: text.index("|    0   N/A  N/A     51877")])
    assert [chip.processes for chip in report.chips] == [None, None]
    assert "truncated" in kinds(report)


TEGRA = """
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 540.9.9                Driver Version: 540.9.9      CUDA Version: 12.6     |
|-----------------------------------------+----------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |         Memory-Usage | GPU-Util  Compute M. |
|                                         |                      |               MIG M. |
|=========================================+======================+======================|
|   0  Xavier (nvgpu)                N/A  | N/A              N/A |                  N/A |
| N/A   N/A  N/A               N/A /  N/A | Not Supported        |     N/A          N/A |
|                                         |                      |                  N/A |
+-----------------------------------------+----------------------+----------------------+

+---------------------------------------------------------------------------------------+
| Processes:                                                                            |
|  GPU   GI   CI        PID   Type   Process name                            GPU Memory |
|        ID   ID                                                             Usage      |
|=======================================================================================|
|  No running processes found                                                           |
+---------------------------------------------------------------------------------------+
"""


def test_a_chip_of_tegra_has_no_address() -> None:
    report = read(TEGRA)
    (chip,) = report.chips
    assert (chip.index, chip.name, chip.pci) == (0, "Xavier (nvgpu)", None)
    assert (chip.power_watts, chip.memory_used_bytes, chip.health) == (None, None, None)
    assert chip.processes == []
    assert report.problems == []


SLICE = "|  0    7   0   0  |               N/A    | 14      0 |  1   0    0    0    0 |"


def test_a_slice_without_memory_is_no_chip() -> None:
    assert len(read(TEGRA.replace("| Processes:", f"{SLICE}\n| Processes:")).chips) == 1


VIRTUAL = """
+-----------------------------------------------------------------------------+
| NVIDIA-SMI 525.1.5                Driver Version: 525.1.5                   |
|---------------------------------+------------------------------+------------+
| GPU  Name                       | Bus-Id                       | GPU-Util   |
|      vGPU ID     Name           | VM ID     VM Name            | vGPU-Util  |
|=================================+==============================+============|
|   0  NVIDIA A16                 | 00000000:A1:00.0             |  31%       |
|      3251600001  NVIDIA A16-4Q  | 00d1...  desk-one            |     12%    |
|      3251600002  NVIDIA A16-4Q  | 77aa...  desk-two            |     19%    |
+---------------------------------+------------------------------+------------+
|   1  NVIDIA A16                 | 00000000:A2:00.0             |   0%       |
+---------------------------------+------------------------------+------------+
"""


def test_the_use_of_virtual_gpus_is_not_the_chips_own() -> None:
    report = read(VIRTUAL)
    first, second = report.chips
    assert (first.pci, first.name) == ("0000:a1:00.0", "NVIDIA A16")
    assert (first.utilization_ratio, second.utilization_ratio) == (0.31, 0)
    assert first.ecc_uncorrected_total is None
    assert report.problems == []
    cut = VIRTUAL[: VIRTUAL.index("|   1  NVIDIA")]
    assert "truncated" in {p.kind.value for p in read(cut + "|   1  NVIDIA A16").problems}
