"""`nvidia-smi --query-…  --format=csv`."""

from __future__ import annotations

import pytest

from chipmedic.tool_report import Health, ProcessReport, ToolReport, ToolRun
from chipmedic_collectors.nvidia.smi import READER
from chipmedic_collectors.values import MIB


def read(query: str, text: str, *more: str) -> ToolReport:
    return READER.read(ToolRun(["nvidia-smi", query, *more], text))


def kinds(report: ToolReport) -> set[str]:
    return {problem.kind.value for problem in report.problems}


GPU = "--query-gpu=index,pci.bus_id,temperature.gpu,memory.used,utilization.gpu"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("5, 00000000:2A:00.0, 41, 512 MiB, 7 %\n", "csv,noheader"),
        ("5, 00000000:2A:00.0, 41, 512, 7\n", "csv,noheader,nounits"),
        (
            "index, pci.bus_id, temperature.gpu, memory.used [MiB], utilization.gpu [%]\n"
            "5, 00000000:2A:00.0, 41, 512, 7\n",
            "csv,nounits",
        ),
        (
            "WARNING: something harmless\n"
            "index, pci.bus_id, temperature.gpu, memory.used [MiB], utilization.gpu [%]\n"
            "5, 00000000:2A:00.0, 41, 512 MiB, 7 %\n",
            "csv",
        ),
    ],
)
def test_one_row_in_all_its_dresses(text: str, form: str) -> None:
    report = read(GPU, text, f"--format={form}")
    (chip,) = report.chips
    assert report.problems == []
    assert (chip.index, chip.pci, chip.temperature_celsius) == (5, "0000:2a:00.0", 41)
    assert (chip.memory_used_bytes, chip.utilization_ratio) == (512 * MIB, 0.07)


def test_a_header_tells_the_columns_where_the_arguments_do_not() -> None:
    text = "index, temperature.gpu, memory.used [MiB]\n3, 40, 7 MiB\n"
    (chip,) = READER.read(ToolRun(["srun", "-w", "node7", "nvidia-smi"], text)).chips
    assert (chip.index, chip.temperature_celsius) == (3, 40)


def test_a_cell_that_failed_costs_nothing_else() -> None:
    report = read(GPU, "0, 00000000:2A:00.0, 41, [Unknown Error], 7 %\n")
    (chip,) = report.chips
    assert (chip.memory_used_bytes, chip.temperature_celsius, chip.health) == (None, 41, None)
    assert kinds(report) == {"partial"}
    assert read(GPU, "0, 00000000:2A:00.0, 41, [N/A], 7 %\n").problems == []


@pytest.mark.parametrize(
    ("cell", "health", "lost", "kind"),
    [
        ("[Unknown Error]", Health.UNKNOWN, None, "partial"),
        ("[GPU requires reset]", Health.CRITICAL, None, "partial"),
        ("[GPU is lost]", Health.CRITICAL, True, "chip_lost"),
    ],
)
def test_a_row_of_errors(cell: str, health: Health, lost: bool | None, kind: str) -> None:
    rows = f"0, 00000000:2A:00.0, {cell}, {cell}, {cell}\n1, 00000000:2B:00.0, 30, 1 MiB, 0 %\n"
    report = read(GPU, rows)
    bad, good = report.chips
    assert (bad.health, bad.lost) == (health, lost)
    assert (good.health, good.temperature_celsius) == (None, 30)
    assert kinds(report) == {kind}


def test_a_chip_without_handle_stands_beside_the_rows() -> None:
    text = (
        "Unable to determine the device handle for GPU1: 0000:2B:00.0: Unknown Error\n"
        "0, 00000000:2A:00.0, 41, 512 MiB, 7 %\n2, 00000000:2C:00.0, 42, 512 MiB, 7 %\n"
    )
    report = read(GPU, text)
    assert [(chip.index, chip.lost) for chip in report.chips] == [(0, None), (2, None), (1, True)]
    assert kinds(report) == {"chip_lost"}


def test_the_last_row_that_was_cut_is_told_from_rubbish() -> None:
    whole = "0, 00000000:2A:00.0, 41, 512 MiB, 7 %\n"
    assert kinds(read(GPU, whole + "1, 00000000:2B")) == {"truncated"}
    assert kinds(read(GPU, whole + "1")) == {"truncated"}
    assert kinds(read(GPU, "0, 1, 2\n" + whole)) == {"malformed"}
    assert kinds(read(GPU, whole + "logout\n")) == set()
    assert kinds(read(GPU, "logout\n")) == {"malformed"}


def test_errors_over_life_before_errors_since_boot() -> None:
    prefix = "ecc.errors.uncorrected."
    both = f"--query-gpu=index,{prefix}volatile.total,{prefix}aggregate.total"
    assert read(both, "0, 1, 9\n").chips[0].ecc_uncorrected_total == 9
    assert read(both, "0, 1, [N/A]\n").chips[0].ecc_uncorrected_total == 1
    assert read(both, "0, [N/A], [N/A]\n").chips[0].ecc_uncorrected_total is None
    parts = f"--query-gpu=index,{prefix}aggregate.device_memory,{prefix}aggregate.dram"
    parts += f",{prefix}aggregate.sram"
    assert read(parts, "0, 4, 4, 2\n").chips[0].ecc_uncorrected_total == 6


def test_the_limit_in_force() -> None:
    query = "--query-gpu=index,power.limit,enforced.power.limit,power.default_limit"
    assert read(query, "0, 300.00 W, 250.00 W, 400.00 W\n").chips[0].power_limit_watts == 250


def test_remapped_rows() -> None:
    query = "--query-remapped-rows=gpu_bus_id,remapped_rows.correctable,"
    query += "remapped_rows.uncorrectable,remapped_rows.pending,remapped_rows.failure"
    failed, pending, fine, unknown = read(
        query,
        "00000000:01:00.0, 0, 2, 0, 1\n00000000:02:00.0, 1, 0, Yes, No\n"
        "00000000:03:00.0, 0, 0, 0, 0\n00000000:04:00.0, [N/A], [N/A], [N/A], [N/A]\n",
    ).chips
    assert (failed.health, failed.retired_pages) == (Health.CRITICAL, 2)
    assert (pending.health, pending.retired_pages) == (Health.WARNING, 1)
    assert (fine.health, fine.retired_pages) == (Health.OK, 0)
    assert (unknown.health, unknown.retired_pages) == (None, None)


def test_retired_pages_are_counted_row_by_row() -> None:
    query = "--query-retired-pages=gpu_uuid,retired_pages.address,retired_pages.cause"
    rows = "GPU-a1, 0x0000000000fe1111, Double Bit ECC\nGPU-a1, 0x00000000001, Single Bit ECC\n"
    report = read(query, rows + "GPU-b2, [N/A], [N/A]\n")
    assert [(chip.uuid, chip.retired_pages) for chip in report.chips] == [
        ("GPU-a1", 2),
        ("GPU-b2", None),
    ]


def test_processes_by_chip() -> None:
    query = "--query-compute-apps=gpu_uuid,pid,process_name,used_memory"
    report = read(query, "GPU-a1, 41, python a, b, 512\nGPU-a1, 42, [Not Found], [N/A]\n")
    (chip,) = report.chips
    assert chip.processes == [ProcessReport(41, "python a, b", 512 * MIB), ProcessReport(42)]


def test_no_process_is_an_answer_and_no_chip_is_none() -> None:
    assert read("--query-compute-apps=gpu_uuid,pid", "").problems == []
    assert kinds(read("--query-gpu=index", "")) == {"malformed"}


def test_processes_of_no_chip_are_given_to_none() -> None:
    report = read("--query-compute-apps=pid,used_memory", "41, 512 MiB\n")
    assert report.chips == []
    assert kinds(report) == {"partial"}
    report = read("--query-compute-apps=pid,used_memory", "41, 512 MiB\n", "-i", "2")
    assert report.chips[0].index == 2
    assert report.chips[0].processes == [ProcessReport(41, None, 512 * MIB)]


def test_processes_that_have_ended_are_not_on_the_chip() -> None:
    report = read("--query-accounted-apps=gpu_uuid,pid", "GPU-a1, 41\n")
    assert report.chips[0].processes is None


def test_rounds_of_a_loop_are_one_chip_each() -> None:
    rows = "2, 30\n2, 31\n2, 40\n2, 41\n"
    report = read("--query-gpu=count,temperature.gpu", rows, "-l", "1")
    assert [chip.temperature_celsius for chip in report.chips] == [40, 41]
    assert kinds(read("--query-gpu=count,index", "4, 0\n4, 1\n")) == {"partial"}
    one = read("--query-gpu=temperature.gpu", "30\n31\n", "-i", "6", "-l", "1")
    assert [(chip.index, chip.temperature_celsius) for chip in one.chips] == [(6, 31)]
