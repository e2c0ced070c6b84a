"""What the reader of Intel's `xpu-smi` makes of recorded and typical answers."""

from __future__ import annotations

import json

import pytest

from chipmedic import GapReason, Metric, Scan
from chipmedic.testing import FakeHost
from chipmedic.tool_report import Health, ProblemKind
from chipmedic_collectors.intel import IntelGpu
from chipmedic_collectors.values import MIB
from vendor_readings import kinds, read, recorded

HEADER = (
    "Timestamp, DeviceId, GPU Utilization (%), GPU Power (W), "
    "GPU Core Temperature (Celsius Degree), GPU Memory Used (MiB)"
)


def health(**states: str) -> str:
    """Return a JSON answer of `health` with these states of device 2."""
    parts = {key: {"status": state, "description": "."} for key, state in states.items()}
    return json.dumps({"device_list": [{"device_id": 2, **parts}]})


def stats(values: dict[str, object], **more: object) -> str:
    """Return a JSON answer of `stats -d 1`."""
    level = [{"metrics_type": f"XPUM_STATS_{k}", "value": v} for k, v in values.items()]
    return json.dumps({"device_id": 1, "device_level": level, **more})


def test_stats_of_a_chip_with_two_tiles() -> None:
    report = read(recorded("xpu-smi-intel-stats-max1550-1.3.txt"), "xpu-smi stats -d 3")
    (chip,) = report.chips
    assert (report.vendor, chip.index) == ("intel", 3)
    assert chip.utilization_ratio == pytest.approx(0.93)
    assert (chip.power_watts, chip.temperature_celsius) == (411, 71)
    assert chip.memory_temperature_celsius == 57
    assert chip.memory_used_bytes == 1024 * MIB
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (8, 1)
    assert chip.memory_used_ratio is None
    assert report.problems == []


def test_stats_of_the_daemon_with_statistics() -> None:
    rule = "+---------------------------+-------------------------------------------------+"
    text = "\n".join(
        [
            rule,
            "| Device ID                 | 1                                               |",
            rule,
            "| GPU Utilization (%)       | Tile 0: avg: 5, min: 0, max: 40, current: 7     |",
            "| Mem Errors Uncorrectable  | Tile 0: 0, total: 4                             |",
            "| GPU Power (W)             | avg: 31, min: 29, max: 33, current: 32          |",
            rule,
        ]
    )
    (chip,) = read(text, "xpumcli stats -d 1").chips
    assert chip.utilization_ratio == pytest.approx(0.07)
    assert (chip.power_watts, chip.ecc_uncorrected_total) == (32, 4)


def test_discovery_table() -> None:
    report = read(recorded("xpu-smi-intel-discovery-max1550-1.2.txt"), "xpu-smi discovery")
    assert [(chip.index, chip.pci) for chip in report.chips] == [
        (0, "0000:19:00.0"),
        (1, "0000:43:00.0"),
    ]
    assert report.chips[1].uuid == "00000000-0000-0000-c9bb-5a5a5a5acdb7"
    assert report.problems == []


def test_table_that_is_cut_says_so() -> None:
    text = recorded("xpu-smi-intel-discovery-max1550-1.2.txt")[:-150]
    assert kinds(read(text, "xpu-smi discovery")) == [ProblemKind.TRUNCATED]


def test_dump_reads_columns_by_name_and_blanks_as_nothing() -> None:
    text = f"{HEADER}\n06:00:01.000, 0, 55.10, 301.2, , 70000.5\n06:00:01.000, 1, , N/A, 61.0, 9\n"
    first, second = read(text, "xpu-smi dump -d -1 -m 0,1,3,18 -n 1").chips
    assert first.utilization_ratio == pytest.approx(0.551)
    assert (first.power_watts, first.temperature_celsius) == (301.2, None)
    assert first.memory_used_bytes == round(70000.5 * MIB)
    assert (second.utilization_ratio, second.power_watts) == (None, None)


def test_dump_whose_rows_end_with_a_comma_is_read_and_one_with_a_cell_too_many_is_not() -> None:
    text = f"{HEADER}\n06:00:01.000, 0, 5, 30, 50, 9,\n06:00:01.000, 1, 5, 30, 50, 9, 7\n"
    report = read(text, "xpu-smi dump -d -1 -m 0,1,3,18")
    assert [(chip.index, chip.power_watts) for chip in report.chips] == [(0, 30)]
    assert kinds(report) == [ProblemKind.MALFORMED]


def test_dump_of_tiles_is_one_chip() -> None:
    header = HEADER.replace("DeviceId,", "DeviceId, TileId,")
    rows = "1:0:0.0, 4, 0, 80, 100, 60, 10\n1:0:0.0, 4, 1, 40, 90, 66, 20\n"
    (chip,) = read(f"{header}\n{rows}", "xpu-smi dump -d 4 -t 0,1 -m 0,1,3,18").chips
    assert (chip.index, chip.power_watts, chip.temperature_celsius) == (4, 190, 66)
    assert chip.utilization_ratio == pytest.approx(0.6)
    assert chip.memory_used_bytes == 30 * MIB


def test_query_of_the_new_line() -> None:
    text = "index, name, power.draw [W], memory.used [MiB]\n0, Intel(R) Arc(TM) Pro B60, 45, 120\n"
    command = "xpu-smi --query-gpu=index,name,power.draw,memory.used --format=csv"
    report = read(text, command)
    assert (report.vendor, report.chips[0].power_watts) == ("intel", 45)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"core_temperature": "Ok", "frequency": "OK"}, Health.OK),
        ({"core_temperature": "Ok", "memory": "Unknown"}, Health.UNKNOWN),
        ({"core_temperature": "Warning", "memory": "Unknown"}, Health.WARNING),
        ({"power_health": "OK", "memory_health": "Critical"}, Health.CRITICAL),
    ],
)
def test_health_is_the_worst_component(states: dict[str, str], expected: Health) -> None:
    (chip,) = read(health(**states), "xpu-smi health -l -j").chips
    assert (chip.index, chip.health) == (2, expected)


def test_stats_in_json() -> None:
    text = stats(
        {
            "GPU_UTILIZATION": 12.5,
            "POWER": "210.4",
            "MEMORY_USED": 2048,
            "GPU_CORE_TEMPERATURE": None,
            "RAS_ERROR_CAT_CACHE_ERRORS_CORRECTABLE": 3,
            "RAS_ERROR_CAT_NON_COMPUTE_ERRORS_UNCORRECTABLE": 2,
        }
    )
    (chip,) = read(text, "xpu-smi stats -d 1 -j").chips
    assert (chip.utilization_ratio, chip.power_watts) == (0.125, 210.4)
    assert (chip.memory_used_bytes, chip.temperature_celsius) == (2048 * MIB, None)
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (3, 2)


def test_stats_that_only_tiles_state() -> None:
    tiles = [
        {"tile_id": i, "data_list": [{"metrics_type": "XPUM_STATS_POWER", "value": 100 + i}]}
        for i in range(2)
    ]
    (chip,) = read(stats({}, tile_level=tiles), "xpu-smi stats -d 1 -j").chips
    assert chip.power_watts == 201


def test_processes() -> None:
    entry = {"process_id": 42, "process_name": "python", "device_id": 1, "mem_size": 2048}
    text = json.dumps({"device_util_by_proc_list": [entry]})
    (chip,) = read(text, "xpu-smi ps -j").chips
    assert [(p.pid, p.name, p.memory_bytes) for p in chip.processes or []] == [
        (42, "python", 2 * MIB)
    ]
    table = "PID       Command             DeviceID       SHR            MEM            \n"
    table += "42        python3 train.py    1              0              2048           \n"
    assert [p.pid for p in read(table, "xpu-smi ps").chips[0].processes or []] == [42]


def test_nothing_listed() -> None:
    assert kinds(read('{"device_list": []}', "xpu-smi discovery -j")) == [ProblemKind.NO_DEVICES]
    assert kinds(read('{"device_util_by_proc_list": []}', "xpu-smi ps -j")) == [ProblemKind.PARTIAL]


def test_version() -> None:
    text = (
        "CLI:\n    Version: 1.2.39.20240906\n    Build ID: 00000000\n\nService:\n    Version: 1\n"
    )
    report = read(text, "xpu-smi -v")
    assert (report.vendor, report.tool_version) == ("intel", "1.2.39.20240906")


@pytest.mark.parametrize(
    ("text", "stderr", "exit_code", "kind"),
    [
        ("", "", 0, ProblemKind.MALFORMED),
        ('{"device_list": [{"device_id": 0, "dev', "", 0, ProblemKind.TRUNCATED),
        ('{"error": "device not found", "errno": 4}', "", 4, ProblemKind.CHIP_LOST),
        ('{"error": "Level Zero Initialization Error", "errno": 39}', "", 39, "driver_down"),
        ('{"error": "Error", "errno": 32}', "", 32, ProblemKind.UNSUPPORTED),
        ("No device discovered", "", 0, ProblemKind.NO_DEVICES),
        ("Error: XPUM Service Status Error", "", 1, ProblemKind.DRIVER_DOWN),
        ("The following argument was not expected: --foo", "", 2, ProblemKind.UNSUPPORTED),
        ("", "xpumcli: command not found", 127, ProblemKind.TOOL_MISSING),
    ],
)
def test_failures(text: str, stderr: str, exit_code: int, kind: ProblemKind) -> None:
    report = read(text, "xpumcli discovery -j", stderr=stderr, exit_code=exit_code)
    assert (report.vendor, report.chips, kinds(report)) == ("intel", [], [kind])


def test_summary_of_version_2() -> None:
    report = read(recorded("xpu-smi-intel-table-2.0.txt"), "xpu-smi")
    busy, silent = report.chips
    assert (report.vendor, report.tool_version) == ("intel", "2.0")
    assert report.driver_version == "0A1B2C3D4E5F60718293A4B"
    assert (busy.index, busy.pci) == (0, "0000:1a:00.0")
    assert busy.name == "Intel(R) Arc(TM) Pro B60 Graphics"
    assert (busy.temperature_celsius, busy.power_watts, busy.power_limit_watts) == (58, 101, 200)
    assert (busy.memory_used_bytes, busy.memory_total_bytes) == (4410 * MIB, 24480 * MIB)
    assert busy.utilization_ratio == pytest.approx(0.77)
    assert busy.ecc_uncorrected_total is None
    assert [(p.pid, p.memory_bytes) for p in busy.processes or []] == [(51102, 4300 * MIB)]
    assert (silent.pci, silent.health) == ("0000:1b:00.0", Health.UNKNOWN)
    assert kinds(report) == [ProblemKind.PARTIAL]


@pytest.mark.parametrize(
    ("state", "health"),
    [
        ("normal", Health.OK),
        ("wedged", Health.CRITICAL),
        ("survivability", Health.CRITICAL),
        ("unknown", Health.UNKNOWN),
    ],
)
def test_state_of_a_device_is_its_health(state: str, health: Health) -> None:
    rule = "+-----------+------------------------------------------------------------+"
    rows = [f"Device State: {state}", "PCI BDF Address: 0000:1a:00.0"]
    first, *rest = [f"| {'0' if i == 0 else '':9} | {row:58} |" for i, row in enumerate(rows)]
    title = f"| Device ID | {'Device Information':58} |"
    text = "\n".join([rule, title, rule, first, *rest, rule])
    answer = json.dumps({"device_list": [{"device_id": 0, "device_state": state}]})
    for report in (read(text, "xpu-smi discovery"), read(answer, "xpu-smi discovery -j")):
        assert [chip.health for chip in report.chips] == [health]


def thresholds(memory: str) -> str:
    """Return what `health` of 2.x prints of a device."""
    return (
        "Core Temperature Thresholds:\n  Throttle Threshold: 95 C\n  Shutdown Threshold: 105 C\n"
        "Memory Temperature Thresholds:\n  Throttle Threshold: 85 C\n"
        f"  Shutdown Threshold: 105 C\n{memory}\n"
    )


def test_health_of_version_2_is_text_also_where_json_was_asked_for() -> None:
    states = ("OK", "DEGRADED", "REPLACE")
    text = "".join(
        f"device id: {number}\n{thresholds(f'Memory Health: {state}')}"
        for number, state in enumerate(states)
    )
    report = read(text, "xpu-smi health -l -j")
    assert [(chip.index, chip.health) for chip in report.chips] == [
        (0, Health.OK),
        (1, Health.WARNING),
        (2, Health.CRITICAL),
    ]
    assert {chip.temperature_celsius for chip in report.chips} == {None}


def test_health_of_one_device_has_its_number_in_the_command() -> None:
    words = "The memory health cannot be determined."
    (chip,) = read(thresholds(words), "xpu-smi health -d 3").chips
    assert (chip.index, chip.health) == (3, Health.UNKNOWN)


def test_offline_pages_are_counted_per_device() -> None:
    text = (
        "Device 0 (0000:1a:00.0) - Offline Memory Pages: 2\n"
        "+--------------------+--------------+\n"
        "| Address            | Size (bytes) |\n"
        "+--------------------+--------------+\n"
        "| 0x0000000000041000 | 4096         |\n"
        "| 0x0000000000052000 | 4096         |\n"
        "+--------------------+--------------+\n"
        "Device 1 (0000:1b:00.0) - Offline Memory Pages: 0\n"
        "No offline memory pages found.\n"
    )
    report = read(text, "xpu-smi stats --list-offline-pages")
    assert [(chip.pci, chip.retired_pages) for chip in report.chips] == [
        ("0000:1a:00.0", 2),
        ("0000:1b:00.0", 0),
    ]
    assert report.problems == []


def test_a_warning_above_the_json_costs_nothing() -> None:
    text = "WARNING: the daemon is older\n" + health(core_temperature="OK") + "\n[done]\n"
    (chip,) = read(text, "xpu-smi health -l -j").chips
    assert chip.health is Health.OK


def test_offline_pages_in_json() -> None:
    answer = [
        {
            "device_index": 0,
            "pci_bdf": "0000:1a:00.0",
            "offline_page_count": 3,
            "offline_pages": [{"address": "0x0000000000041000", "size": 4096}] * 3,
        },
        {
            "device_index": 1,
            "pci_bdf": "0000:1b:00.0",
            "supported": False,
            "error": "ZE_RESULT_ERROR_UNSUPPORTED_FEATURE",
            "error_code": "0x78000003",
        },
        {
            "device_index": 2,
            "pci_bdf": "0000:1c:00.0",
            "error": "ZE_RESULT_ERROR_DEVICE_LOST",
            "error_code": "0x70000001",
        },
    ]
    report = read(json.dumps(answer), "xpu-smi stats --list-offline-pages -j")
    assert [(chip.index, chip.pci, chip.retired_pages, chip.lost) for chip in report.chips] == [
        (0, "0000:1a:00.0", 3, None),
        (1, "0000:1b:00.0", None, None),
        (2, "0000:1c:00.0", None, True),
    ]
    assert kinds(report) == [ProblemKind.UNSUPPORTED, ProblemKind.CHIP_LOST]


def test_what_an_older_tool_says_to_that_question() -> None:
    words = "The following argument was not expected: --list-offline-pages\n"
    words += "Run with --help for more information.\n"
    report = read(words, "xpu-smi stats --list-offline-pages -j", exit_code=109)
    assert set(kinds(report)) == {ProblemKind.UNSUPPORTED}


def test_stats_of_version_2_in_json() -> None:
    def of(*values: float) -> dict[str, dict[str, float]]:
        return {
            f"tile_{number}": {"avg": value + 1, "min": 0.0, "max": value + 9, "current": value}
            for number, value in enumerate(values)
        }

    device = {
        "device_index": 1,
        "pci_bdf": "0000:4d:00.0",
        "device_type": "discrete",
        "timestamps": {"start": "2026-02-03T04:05:06.789Z", "elapsed_seconds": 0.2},
        "utilization": {"compute_engines": {}, "gpu_percent": {"tile_0": 40.0, "tile_1": 60.0}},
        "power": {"gpu_power_w": of(210.5, 200.5), "energy_consumed_j": 82.1},
        "temperature": {"gpu_core_celsius": of(61, 66), "memory_celsius": of(51, 50)},
        "memory": {"used_mib": of(1024, 512), "util_percent": of(2, 1), "read_kbps": of(1, 1)},
        "offline_page_count": 5,
        "ras_errors": {
            "Reset": {"correctable_total": 9, "uncorrectable_total": 9, "total": 18},
            "Cache Errors": {"correctable_total": 2, "uncorrectable_total": 1, "total": 3},
            "Mem Errors": {"correctable_total": 4, "uncorrectable_total": 0, "total": 4},
        },
    }
    (chip,) = read(json.dumps(device), "xpu-smi stats -d 1 -r -j").chips
    assert (chip.index, chip.pci, chip.lost) == (1, "0000:4d:00.0", None)
    assert chip.utilization_ratio == pytest.approx(0.5)
    assert (chip.power_watts, chip.temperature_celsius) == (411, 66)
    assert chip.memory_temperature_celsius == 51
    assert (chip.memory_used_bytes, chip.memory_used_ratio) == (1536 * MIB, None)
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (6, 1)
    assert chip.retired_pages == 5


def test_stats_of_version_2_has_a_line_for_each_tile() -> None:
    rule = "+----------------------------+-----------------------------------------------+"
    rows = [
        ("Device ID", "1"),
        ("PCI BDF", "0000:4d:00.0"),
        ("GPU Utilization (%)", "Tile 0: 40"),
        ("", "Tile 1: 60"),
        ("Mem Errors Correctable", "Tile 0: 3, Tile 1: 1, total: 4"),
        ("GPU Power (W)", "Tile 0: avg: 31, min: 29, max: 33, current: 32"),
        ("", "Tile 1: avg: 30, min: 28, max: 31, current: 29"),
        ("GPU Core Temperature", "Tile 0: avg: 41, min: 40, max: 42, current: 41"),
        ("", "Tile 1: avg: 44, min: 43, max: 45, current: 44"),
        ("(Degrees Celsius)", ""),
        ("GPU Memory Temperature", "N/A"),
        ("(Degrees Celsius)", ""),
        ("Offline Memory Pages", "2"),
        ("Fan Speed (%)", "Fan 0: 30%"),
        ("", "Fan 1: 31%"),
        ("PCIe Read (kB/s)", "avg: 1.00, min: 1.00, max: 1.00, current: 1.00"),
    ]
    lines = [rule, *(f"| {left:<26} | {right:<45} |" for left, right in rows), rule]
    report = read("\n".join(lines) + "\n", "xpu-smi stats -d 1 -r")
    (chip,) = report.chips
    assert (chip.index, chip.pci, chip.retired_pages) == (1, "0000:4d:00.0", 2)
    assert chip.utilization_ratio == pytest.approx(0.5)
    assert (chip.power_watts, chip.temperature_celsius) == (61, 44)
    assert (chip.memory_temperature_celsius, chip.ecc_corrected_total) == (None, 4)
    assert report.problems == []


def scanned(pages: str) -> Scan:
    """Scan a host with one chip whose tool gives this answer to the question about pages."""
    chip = {"device_id": 0, "device_name": "Max", "pci_bdf_address": "0000:1a:00.0", "uuid": "u-7"}
    host = FakeHost(
        {
            "xpu-smi dump": f"{HEADER}\n06:14:46.000, 0, 5, 90, 41, 512\n",
            "xpu-smi discovery -j": json.dumps({"device_list": [chip]}),
            "xpu-smi stats": pages,
            "xpu-smi": "",
        },
        files={
            f"/sys/bus/pci/devices/0000:1a:00.0/{name}": text
            for name, text in (("vendor", "0x8086"), ("class", "0x038000"), ("device", "0x0bd5"))
        },
    )
    collector = IntelGpu.discover(host)
    assert collector is not None
    return collector.scan()


def test_the_collector_asks_for_pages_out_of_use() -> None:
    answer = [{"device_index": 0, "pci_bdf": "0000:1a:00.0", "offline_page_count": 6}]
    scan = scanned(json.dumps(answer))
    assert scan.values(Metric.RETIRED_PAGES) == {scan.chips[0].component: 6}


def test_a_tool_that_does_not_know_the_question_leaves_a_gap() -> None:
    scan = scanned("The following argument was not expected: --list-offline-pages\n")
    assert scan.values(Metric.RETIRED_PAGES) == {}
    [gap] = [gap for gap in scan.gaps if gap.metric is Metric.RETIRED_PAGES]
    assert gap.reason is GapReason.UNSUPPORTED
