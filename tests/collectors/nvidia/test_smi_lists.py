"""`nvidia-smi -L`, `nvlink`, `topo`, `--version`, `dmon` and `pmon`."""

from __future__ import annotations

import pytest

from chipmedic.tool_report import LinkReport, ProcessReport, ToolReport, ToolRun
from chipmedic_collectors.nvidia.smi import READER, recognises
from chipmedic_collectors.values import MIB


def read(arguments: str, text: str) -> ToolReport:
    return READER.read(ToolRun(["nvidia-smi", *arguments.split()], text))


def kinds(report: ToolReport) -> set[str]:
    return {problem.kind.value for problem in report.problems}


def test_the_list_of_chips_without_their_slices() -> None:
    report = read(
        "-L",
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1f6c)\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-aa)\n"
        "GPU 1: Tesla K20 (S/N: 0324)\n",
    )
    assert [(chip.index, chip.name) for chip in report.chips] == [
        (0, "NVIDIA A100-SXM4-40GB"),
        (1, "Tesla K20"),
    ]
    assert report.chips[0].uuid == "GPU-1f6c"
    assert report.problems == []


@pytest.mark.parametrize("uuid", ["GPU-", "GPU-00000000-0000", "GPU-xxxxxxxx-xxxx"])
def test_chips_that_share_a_masked_uuid_are_several(uuid: str) -> None:
    """Some drivers print none, and many captures hide it."""
    line = "GPU {}: Tesla P40 (UUID: " + uuid + ")\n\t Link 0: 25 GB/s\n"
    report = read("nvlink -s", line.format(0) + line.format(1))
    assert [chip.index for chip in report.chips] == [0, 1]
    assert {chip.uuid for chip in report.chips} == {uuid if uuid != "GPU-" else None}
    assert all(chip.links == [LinkReport(0, True)] for chip in report.chips)


def test_a_list_that_was_cut() -> None:
    report = read("-L", "GPU 0: NVIDIA A30 (UUID: GPU-1f6c)\nGPU 1: NVIDIA A30 (UUID: GPU-7")
    assert [(chip.index, chip.uuid) for chip in report.chips] == [(0, "GPU-1f6c"), (1, None)]
    assert kinds(report) == {"truncated"}


def test_links_by_their_own_number() -> None:
    report = read(
        "nvlink --status",
        "GPU 0: NVIDIA H100 (UUID: GPU-a)\n\t Link 0: 26.562 GB/s\n\t Link 3: <inactive>\n"
        "\t Link 4: 0.000 GB/s\n"
        "GPU 1: Quadro RTX 5000 (UUID: GPU-b) NVML: Unable to retrieve Nvlink information as all "
        "links are inActive\n",
    )
    first, second = report.chips
    assert first.links == [LinkReport(0, True), LinkReport(3, False), LinkReport(4, False)]
    assert second.links == []
    assert report.problems == []


def test_counters_of_links_tell_no_state() -> None:
    text = (
        "GPU 0: NVIDIA H100 (UUID: GPU-a)\n\t Link 0: Replay Errors: 0\n\t Link 0: CRC Errors: 3\n"
    )
    assert read("nvlink -e", text).chips[0].links is None


def test_links_that_were_cut_off_are_missed() -> None:
    links = "\t Link 0: 25 GB/s\n\t Link 1: 25 GB/s\n"
    head = f"GPU 0: A100 (UUID: GPU-a)\n{links}GPU 1: A100 (UUID: GPU-b)\n"
    assert kinds(read("nvlink -s", head + links)) == set()
    assert kinds(read("nvlink -s", head + "\t Link 0: 25 GB/s\n")) == {"truncated"}
    assert kinds(read("nvlink -s", head)) == {"truncated"}


def test_topology_tells_which_chips_there_are() -> None:
    text = (
        "\t\x1b[4mGPU0\tGPU1\tNIC0\tCPU Affinity\x1b[0m\n"
        "GPU0\t X \tNV12\tPXB\t0-31\nGPU1\tNV12\t X \tPXB\t0-31\nNIC0\tPXB\tPXB\t X\n\nLegend:\n"
    )
    assert [chip.index for chip in read("topo -m", text).chips] == [0, 1]
    assert kinds(read("topo -m", text)) == set()
    assert kinds(read("topo -m", text[: text.index("GPU1\tNV12")])) == {"truncated"}


def test_what_each_gpu_may_do_with_another_tells_which_there_are() -> None:
    text = (
        " \tGPU0\tGPU1\tGPU2\n GPU0\tX\tOK\tNS\n GPU1\tOK\tX\tCNS\n GPU2\tNS\tCNS\tX\n\nLegend:\n"
    )
    assert [chip.index for chip in read("topo -p2p r", text).chips] == [0, 1, 2]
    assert kinds(read("topo -p2p r", text)) == set()
    assert kinds(read("topo -p2p r", text[: text.index(" GPU2\tNS")])) == {"truncated"}


INSTANCES = """+-------------------------------------------------------+
| GPU instances:                                        |
| GPU   Name             Profile  Instance   Placement  |
|                          ID       ID       Start:Size |
|=======================================================|
|   4  MIG 1g.20gb         15        7          0:2     |
+-------------------------------------------------------+
|   4  MIG 3g.40gb          9        2          4:4     |
+-------------------------------------------------------+
|   6  MIG 7g.80gb          0        0          0:8     |
+-------------------------------------------------------+
"""


def test_how_a_gpu_is_cut_tells_which_there_are() -> None:
    report = read("mig -lgi", INSTANCES)
    assert [chip.index for chip in report.chips] == [4, 6]
    assert report.problems == []
    placements = "GPU  5 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1\n"
    assert [chip.index for chip in read("mig -lgipp", placements).chips] == [5]


def test_links_to_the_cpu() -> None:
    text = (
        "GPU 0: NVIDIA GH200 96GB (UUID: GPU-c)\n\t C2C Link 0: 40.500 GB/s\n"
        "\t C2C Link 1: <inactive>\n"
    )
    (chip,) = read("c2c -s", text).chips
    assert chip.links == [LinkReport(0, True), LinkReport(1, False)]


def test_no_link_at_all_on_nobody_in_particular() -> None:
    text = "NVML: Unable to retrieve NvLink information as all links are inActive\n"
    assert kinds(read("nvlink -s", text)) == {"unsupported"}


def test_versions() -> None:
    text = "NVIDIA-SMI version  : 550.54.14\nNVML version : 550.54\nDRIVER version : 550.54.15\n"
    report = read("--version", text)
    assert (report.tool_version, report.driver_version) == ("550.54.14", "550.54.15")
    assert (report.chips, report.problems) == ([], [])


def test_dmon_is_each_chip_once() -> None:
    text = """# gpu    pwr  gtemp  mtemp     sm    mem    enc    dec     fb   bar1  sbecc  dbecc
# Idx      W      C      C      %      %      %      %     MB     MB   errs   errs
    0    294     81      -     98     57      0      0  90538      4      0      1
    1      -     68     70      0     55      0      0  90536      4      -      -
    0    301     82      -     99     57      0      0  90538      4      0      2
"""
    first, second = read("dmon -s pume", text).chips
    assert (first.power_watts, first.temperature_celsius, first.memory_temperature_celsius) == (
        301,
        82,
        None,
    )
    assert (first.utilization_ratio, first.memory_used_bytes) == (0.99, 90538 * MIB)
    assert (first.ecc_corrected_total, first.ecc_uncorrected_total) == (0, 2)
    assert (second.power_watts, second.ecc_uncorrected_total) == (None, None)
    assert kinds(read("dmon -s pume", text)) == set()
    assert kinds(read("dmon -s pume", text + "    1    292")) == {"truncated"}


def test_dmon_with_date_and_time() -> None:
    text = "#Date       Time        gpu    pwr   temp\n#YYYYMMDD   HH:MM:SS    Idx      W      C\n"
    report = read("dmon -o DT", text + " 20170212   17:05:59      1     43     50\n")
    assert [(chip.index, chip.temperature_celsius) for chip in report.chips] == [(1, 50)]


def test_pmon_tells_none_from_unknown() -> None:
    text = """# gpu         pid   type     sm    mem    enc    dec    command
# Idx           #    C/G      %      %      %      %    name
    0         884     C     92     52      -      -    my prog
    1           -     -      -      -      -      -    -
"""
    busy, idle = read("pmon -c 1", text).chips
    assert busy.processes == [ProcessReport(884, "my prog")]
    assert idle.processes == []


@pytest.mark.parametrize(
    ("argv", "stdout", "certainty"),
    [
        (["nvidia-smi"], "", 1),
        (["/usr/bin/nvidia-smi", "-L"], "GPU 0: x (UUID: y)", 2),
        (["timeout", "10", "nvidia-smi"], "", 1),
        (["ssh", "node7", "nvidia-smi -q"], "", 1),
        (["C:\\Windows\\System32\\nvidia-smi.exe"], "", 1),
        (["cat", "saved.txt"], "| NVIDIA-SMI 550.54  Driver Version: 550.54 |", 3),
        (["ixsmi"], "|  IX-ML: 4.1.0       Driver Version: 4.1.0       CUDA Version: 10.2 |", 0),
        (["xpu-smi"], "", 0),
        (["hl-smi"], "| HL-SMI Version: hl-1.15.1-fw-49.0.0.0 |", 0),
        ([], "", 0),
    ],
)
def test_whose_tool_it_is(argv: list[str], stdout: str, certainty: int) -> None:
    assert recognises(ToolRun(argv, stdout)) == certainty


def test_the_output_of_dcgmi_is_said_to_be_unsupported() -> None:
    report = READER.read(ToolRun(["dcgmi", "discovery", "-l"], "8 GPUs found.\n"))
    assert kinds(report) == {"unsupported"}
