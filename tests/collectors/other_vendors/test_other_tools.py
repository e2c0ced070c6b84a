"""What the readers of the six smaller vendors make of recorded and typical answers."""

from __future__ import annotations

import json

import pytest

from chipmedic.tool_report import Health, ProblemKind
from chipmedic_collectors.values import MIB
from vendor_readings import kinds, read, recorded


def test_cambricon_table_of_version_6() -> None:
    report = read(recorded("cnmon-mlu590-6.5.txt"), "cnmon")
    busy, silent = report.chips
    assert (report.vendor, report.driver_version) == ("cambricon", "v6.5.30")
    assert (busy.index, busy.name, busy.pci) == (0, "MLU590-M9DG", "0000:64:00.0")
    assert (busy.power_watts, busy.power_limit_watts, busy.temperature_celsius) == (311, 550, 51)
    assert (busy.memory_used_bytes, busy.memory_total_bytes) == (40210 * MIB, 81920 * MIB)
    assert busy.ecc_uncorrected_total == 2
    assert [(p.pid, p.name) for p in busy.processes or []] == [
        (55120, "python3 -u train.py --tp 8"),
        (55121, None),
    ]
    assert (silent.health, silent.ecc_uncorrected_total) == (Health.UNKNOWN, None)
    assert kinds(report) == [ProblemKind.PARTIAL]


def test_cambricon_table_of_version_4_has_the_driver_in_its_rows() -> None:
    text = (
        "+-----------------------------------------------------------------------------+\n"
        "| CNMON 1.17.1                                                                |\n"
        "+------------------------------+----------------------+-----------------------+\n"
        "| Card  VF  Name      Firmware | Inited        Driver | Util        Ecc-Error |\n"
        "| Fan   Temp     Pwr:Usage/Cap |         Memory-Usage |         vMemory-Usage |\n"
        "|==============================+======================+=======================|\n"
        "| 3     /   MLU270-S4   v1.1.2 | On            v4.7.1 | 12%         N/A       |\n"
        "|  0%   43C     20.5 W/ 70.0 W |   500 MiB/ 16384 MiB | 10240 MiB/1048576 MiB |\n"
        "+------------------------------+----------------------+-----------------------+\n"
    )
    report = read(text, "cnmon")
    (chip,) = report.chips
    assert (report.tool_version, report.driver_version) == ("1.17.1", "v4.7.1")
    assert (chip.index, chip.name, chip.pci) == (3, "MLU270-S4", None)
    assert (chip.power_watts, chip.memory_total_bytes) == (20.5, 16384 * MIB)


def test_cambricon_memory_whose_total_was_masked() -> None:
    text = recorded("cnmon-mlu590-6.5.txt").replace("40210 MiB/ 81920 MiB", "40210 MiB/ xxxxx MiB")
    chip = read(text, "cnmon").chips[0]
    assert (chip.memory_used_bytes, chip.memory_total_bytes) == (40210 * MIB, None)


def test_metax_card_that_is_unavailable_is_critical_and_one_is_missing() -> None:
    report = read(recorded("mx-smi-table-c500-2.2.5-unavailable.txt"), "mx-smi")
    good, bad = report.chips
    assert (report.tool_version, report.driver_version) == ("2.2.5", "2.14.9")
    assert (good.health, good.memory_used_bytes) == (Health.OK, 1858 * MIB)
    assert (bad.index, bad.health, bad.lost) == (2, Health.CRITICAL, None)
    assert (bad.power_watts, bad.power_limit_watts) == (None, 350)
    assert [p.memory_bytes for p in good.processes or []] == [1000 * MIB]
    assert kinds(report) == [ProblemKind.PARTIAL, ProblemKind.PARTIAL]


def test_metax_tool_of_the_mars_brand() -> None:
    text = recorded("mx-smi-table-c500-2.2.5-unavailable.txt")
    for ours, theirs in (("mx-smi", "ht-smi"), ("MX-SMI", "HT-SMI"), ("MetaX", "Mars")):
        text = text.replace(ours, theirs)
    report = read(text, "ht-smi")
    assert (report.vendor, report.tool_version) == ("metax", "2.2.5")
    assert [(chip.index, chip.name) for chip in report.chips] == [
        (0, "Mars C500"),
        (2, "Mars C500"),
    ]


def test_metax_table_of_version_2_1_has_power_without_a_cap() -> None:
    text = (
        "+----------------------------------------------------------------------------+\n"
        "| MX-SMI 2.1.7                      Kernel Mode Driver Version: 2.5.021       |\n"
        "|-----------------------------------+-----------------+----------------------+\n"
        "| GPU         NAME                  | Bus-id          | GPU-Util             |\n"
        "| Temp        Power                 | Memory-Usage    |                      |\n"
        "|===================================+=================+======================|\n"
        "| 3           MXC550                | 0000:2b:00.0    | 12%                  |\n"
        "| 37C         57W                   | 910/65536 MiB   |                      |\n"
        "+-----------------------------------+-----------------+----------------------+\n"
    )
    (chip,) = read(text, "mx-smi").chips
    assert (chip.power_watts, chip.power_limit_watts) == (57, None)
    assert (chip.temperature_celsius, chip.health) == (37, None)


def test_metax_blocks_and_lists_tell_the_version_of_their_tool() -> None:
    for text in (
        "mx-smi  version: 2.3.7\nGPU#0 MXC500 0000:0a:00.0 Available (UUID: GPU-71)\n",
        "mx-smi  version: 2.3.7\n\nAttached GPUs : 1\nGPU#0  MXC500  0000:0a:00.0\n",
    ):
        assert read(text, "mx-smi -L").tool_version == "2.3.7"


def test_metax_list_names_a_card_that_is_gone() -> None:
    text = (
        "GPU#0 MXC500 0000:0a:00.0 Available (UUID: GPU-11112222-0000-0000-0000-000000000001)\n"
        "GPU#1 MXC500 0000:0b:00.0 Not Available(MetaX Sysfs File Unaccessible)\n"
    )
    report = read(text, "mx-smi -L")
    good, gone = report.chips
    assert (good.uuid, good.health) == ("GPU-11112222-0000-0000-0000-000000000001", Health.OK)
    assert (gone.pci, gone.lost, gone.health) == ("0000:0b:00.0", True, Health.CRITICAL)
    assert kinds(report) == [ProblemKind.CHIP_LOST]


def test_metax_blocks() -> None:
    text = (
        "mx-smi  version: 2.2.9\n\nAttached GPUs      : 1\n"
        "GPU#4  MXC500  0000:08:00.0\n\n"
        "\tChip Temperature\n\t    hotspot(sensor4)    :  39.25 C\n"
        "\tBoard Temperature\n\t    air-inlet           :  28.12 C\n"
        "    Memory\n        vram total   : 67108864 KB\n        vram used    : 879032 KB\n"
        "    Utilization\n        GPU          : 7 %\n"
        "    ECC Errors\n        SRAM Correctable : 3\n        SRAM Uncorrectable : 1\n"
        "    Retired Pages\n        Double Bit ECC : 2\n\nEnd of Log\n"
    )
    report = read(text, "mx-smi --show-memory")
    (chip,) = report.chips
    assert (chip.index, chip.pci, chip.temperature_celsius) == (4, "0000:08:00.0", 39.25)
    assert (chip.memory_used_bytes, chip.memory_total_bytes) == (879032 * 1024, 65536 * MIB)
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total, chip.retired_pages) == (3, 1, 2)
    assert chip.utilization_ratio == pytest.approx(0.07)
    assert report.problems == []


def test_metax_name_of_two_words_and_board_power() -> None:
    text = (
        "Attached GPUs      : 1\n"
        "GPU#4  MetaX C500  0000:08:00.0\n    Board Power(W)\n"
        "        12VIN/AUX   : 30.1 W\n        Total       : 57.3 W\n"
    )
    (chip,) = read(text, "mx-smi --show-board-power").chips
    assert (chip.name, chip.pci, chip.power_watts) == ("MetaX C500", "0000:08:00.0", 57.3)


@pytest.mark.parametrize(
    ("command", "word", "vendor"),
    [("mx-smi", "GPU", "metax"), ("ixsmi", "GPU", "iluvatar"), ("xpu_smi", "XPU", "kunlun")],
)
def test_the_matrix_of_connections_names_the_chips(command: str, word: str, vendor: str) -> None:
    header = f"        {word}0    {word}1    NUMA Affinity\n"
    text = f"{header}{word}0    X       PIX     0\n{word}1    PIX     X       0\n\nLegend:\n"
    report = read(text, f"{command} topo -m")
    assert (report.vendor, report.problems) == (vendor, [])
    assert [chip.index for chip in report.chips] == [0, 1]
    assert kinds(read(header, f"{command} topo -m")) == [ProblemKind.TRUNCATED]


def test_mthreads_table_with_performance_column() -> None:
    report = read(recorded("mthreads-gmi-s5000-2.4.txt"), "mthreads-gmi")
    busy, idle = report.chips
    assert (report.tool_version, report.driver_version) == ("2.4.3", "5.1.2-server")
    assert (busy.name, busy.pci, busy.temperature_celsius) == ("MTT S5000", "0000:19:00.0", 58)
    assert (busy.memory_used_bytes, busy.memory_total_bytes) == (71020 * MIB, 81920 * MIB)
    assert [p.pid for p in busy.processes or []] == [4120]
    assert (idle.temperature_celsius, idle.power_watts, idle.processes) == (None, None, [])
    assert report.problems == []


def test_mthreads_json() -> None:
    text = json.dumps(
        {
            "Driver Version": "3.3.6-server",
            "Attached GPUs": "1",
            "GPU": [
                {
                    "Index": "5",
                    "Product Name": "MTT S5000",
                    "GPU UUID": "499282a8-ba01-1475-893c-2eeca9e302f5",
                    "PCI": {"Bus ID": "00000000:2b:00.0"},
                    "FB Memory Usage": {"Total": "81920MiB", "Used": "12MiB"},
                    "Utilization": {"Gpu": "3%", "Memory": "0%"},
                    "Temperature": {"GPU Current Temp": "27C"},
                    "Power Readings": {"Power Draw ": "96.66W", "Current Power Limit": "950.00W"},
                }
            ],
        }
    )
    report = read(text, "mthreads-gmi -q -j")
    (chip,) = report.chips
    assert (chip.index, chip.pci, chip.power_watts) == (5, "0000:2b:00.0", 96.66)
    assert (chip.utilization_ratio, chip.temperature_celsius) == (0.03, 27)
    assert (chip.memory_used_bytes, report.driver_version) == (12 * MIB, "3.3.6-server")


def test_iluvatar_table_with_a_chip_that_has_no_power() -> None:
    report = read(recorded("ixsmi-table-mr-v100-4.4.txt"), "ixsmi")
    first, second = report.chips
    assert (report.tool_version, report.driver_version) == ("4.4.1", "4.4.2")
    assert (first.name, first.power_watts, first.power_limit_watts) == (
        "Iluvatar MR-V100 DUO",
        None,
        None,
    )
    assert (second.power_watts, second.power_limit_watts) == (42, 350)
    assert [(p.pid, p.memory_bytes) for p in first.processes or []] == [(90111, 6000 * MIB)]
    assert report.problems == []


def test_iluvatar_text_of_q() -> None:
    text = (
        "==============IXSMI LOG==============\n\n"
        "Driver Version                      : 4.4.6\n"
        "IX-ML Version                       : 4.4.5\n"
        "Attached GPUs                       : 2\n"
        "GPU 00000000:4B:00.0\n"
        "    Product Name                    : Iluvatar MR-V50\n"
        "    Serial Number                   : 99230261115000\n"
        "    Minor Number                    : 1\n"
        "    Memory Usage\n        Total   : 16384 MiB\n        Used    : 70 MiB\n"
        "    Utilization\n        Gpu     : 9 %\n"
        "    ECC Errors\n        Single Bit : 6\n        Double Bit : 1\n"
        "    Temperature\n        GPU Current Temp : 41 C\n        Memory Current Temp : 44 C\n"
        "    Power Readings\n        GPU Power Draw : 39 W\n"
        "        Current GPU Power Limit     : 75 W\n"
        "    Processes                       : None\n"
    )
    report = read(text, "ixsmi -q")
    (chip,) = report.chips
    assert (report.vendor, report.driver_version, report.tool_version) == (
        "iluvatar",
        "4.4.6",
        "4.4.5",
    )
    assert (chip.index, chip.pci, chip.serial) == (1, "0000:4b:00.0", "99230261115000")
    assert (chip.memory_used_bytes, chip.memory_total_bytes) == (70 * MIB, 16384 * MIB)
    assert (chip.temperature_celsius, chip.memory_temperature_celsius) == (41, 44)
    assert (chip.power_watts, chip.power_limit_watts) == (39, 75)
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total, chip.processes) == (6, 1, [])
    assert kinds(report) == [ProblemKind.PARTIAL]


def test_iluvatar_query() -> None:
    names = "index,uuid,gpu.power.draw,gpu.current.power.limit,temperature.memory"
    head = "index, uuid, gpu.power.draw [W], gpu.current.power.limit [W], temperature.memory"
    text = f"{head}\n0, GPU-5fe225c8-aaaa-50f5-9132-90c020e40005, 55 W, 75 W, 44\n"
    report = read(text, f"ixsmi --query-gpu={names} --format=csv")
    (chip,) = report.chips
    assert (report.vendor, chip.power_watts, chip.power_limit_watts) == ("iluvatar", 55, 75)
    assert chip.memory_temperature_celsius == 44


def test_iluvatar_column_that_it_does_not_know() -> None:
    report = read('Field "foo.bar" is not a valid field to query.\n', "ixsmi --query-gpu=foo.bar")
    assert kinds(report) == [ProblemKind.UNSUPPORTED]


def test_enflame_table_without_power_and_with_a_silent_device() -> None:
    report = read(recorded("efsmi-s60g-1.6.txt"), "efsmi")
    good, silent = report.chips
    assert (report.tool_version, report.driver_version) == ("1.6.4.1", "1.6.4.0")
    assert (good.name, good.pci, good.serial) == ("Enflame S60G", "0000:2f:00.0", "A099K30520099")
    assert (good.temperature_celsius, good.power_watts) == (36, None)
    assert good.memory_total_bytes == 23552 * MIB
    assert (silent.health, silent.serial) == (Health.UNKNOWN, None)
    assert kinds(report) == [ProblemKind.PARTIAL]


def test_enflame_blocks() -> None:
    (chip,) = read(recorded("efsmi-q-1.4.txt"), "efsmi -q").chips
    assert (chip.index, chip.pci, chip.serial) == (2, "0000:18:00.0", "A0Z9650510999")
    assert (chip.health, chip.utilization_ratio) == (Health.CRITICAL, 0.125)
    assert (chip.memory_used_bytes, chip.power_watts, chip.power_limit_watts) == (
        1129 * MIB,
        104,
        300,
    )


def test_enflame_card_to_be_returned_is_critical() -> None:
    text = recorded("efsmi-q-1.4.txt").replace("Health                  : False", "Health : True")
    assert read(text, "efsmi -q").chips[0].health is Health.OK
    text += "    RMA Info\n        Flags : True\n        Total DBE : 31\n"
    (chip,) = read(text, "efsmi -q").chips
    assert (chip.health, chip.ecc_uncorrected_total) == (Health.CRITICAL, 31)


def test_enflame_json() -> None:
    device = {"id": 1, "Device Mem Info": {"Total Size": "42976", "Used Size": "1129"}}
    (chip,) = read(json.dumps({"devices": [device]}), "efsmi -q --json-format").chips
    assert (chip.index, chip.memory_total_bytes) == (1, 42976 * MIB)


def test_biren_query() -> None:
    columns = "index,name,utilization.gpu,memory.used,memory.total,temperature.gpu"
    text = "0, Biren 166M, 50, 100, 65536, 44\n1, Biren 166M, [N/A], [N/A], [N/A], [N/A]\n"
    report = read(text, f"brsmi gpu --query-gpu={columns} --format=csv,noheader,nounits")
    good, silent = report.chips
    assert (good.utilization_ratio, good.memory_used_bytes) == (0.5, 100 * MIB)
    assert silent.health is Health.UNKNOWN
    assert kinds(report) == [ProblemKind.PARTIAL]


@pytest.mark.parametrize(
    ("tool", "vendor"),
    [
        ("cnmon", "cambricon"),
        ("mx-smi", "metax"),
        ("mthreads-gmi", "mthreads"),
        ("ixsmi", "iluvatar"),
        ("efsmi", "enflame"),
        ("brsmi", "biren"),
    ],
)
def test_failures(tool: str, vendor: str) -> None:
    loader = f"{tool}: error while loading shared libraries: libx.so: cannot open shared object"
    for stderr, exit_code, kind in (
        ("", 0, ProblemKind.MALFORMED),
        (f"bash: line 1: {tool}: command not found", 127, ProblemKind.TOOL_MISSING),
        (loader, 127, ProblemKind.DRIVER_DOWN),
        (f"bash: /usr/bin/{tool}: Permission denied", 126, ProblemKind.PERMISSION),
        ("Failed to initialize the driver", 1, ProblemKind.DRIVER_DOWN),
        ("No devices were found", 0, ProblemKind.NO_DEVICES),
    ):
        report = read("", tool, stderr=stderr, exit_code=exit_code)
        assert (report.vendor, report.chips, kinds(report)) == (vendor, [], [kind])
    report = read(f"bash: {tool}: command not found\n", tool, exit_code=127)
    assert (report.chips, kinds(report)) == ([], [ProblemKind.TOOL_MISSING])
