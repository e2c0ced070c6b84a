"""What the reader makes of amd-smi: documents in three forms, and tables."""

from __future__ import annotations

import json

import pytest

from chipmedic.tool_report import (
    ChipReport,
    Health,
    LinkReport,
    ProblemKind,
    ProcessReport,
    ToolReport,
)
from vendor_readings import kinds, recorded
from vendor_readings import read as read_text

MIB = 1048576
METRIC = recorded("amd-smi-metric-7.0.txt")
STATIC = recorded("amd-smi-static-6.3-worn.txt")
VIEW = recorded("amd-smi-7.1-one-dead.txt")


def read(command: str, text: str, *, stderr: str = "", exit_code: int | None = None) -> ToolReport:
    report = read_text(text, command, stderr=stderr, exit_code=exit_code)
    assert report.vendor == "amd"
    return report


def only(report: ToolReport) -> ChipReport:
    (chip,) = report.chips
    return chip


# -- amd-smi documents


def test_metric_text() -> None:
    report = read("amd-smi metric", METRIC)
    first, second = report.chips
    assert first == ChipReport(
        index=0,
        health=Health.WARNING,
        temperature_celsius=71,
        memory_temperature_celsius=58,
        power_watts=702,
        utilization_ratio=0.97,
        memory_used_bytes=104 * MIB,
        memory_total_bytes=262128 * MIB,
        ecc_corrected_total=12,
        ecc_uncorrected_total=0,
    )
    assert second == ChipReport(index=1)
    assert report.problems == []


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_metric_json_of_6_and_7(*, is_wrapped: bool) -> None:
    gpus = [
        {
            "gpu": 5,
            "usage": {"gfx_activity": {"value": 12, "unit": "%"}},
            "power": {"socket_power": {"value": 140, "unit": "W"}},
            "temperature": {"edge": "N/A", "hotspot": {"value": 45, "unit": "C"}, "mem": "N/A"},
            "mem_usage": {"total_vram": {"value": 3, "unit": "GB"}, "used_vram": "N/A"},
            "ecc": {"total_correctable_count": "N/A", "total_uncorrectable_count": "N/A"},
            "ecc_blocks": {
                "UMC": {"correctable_count": 3, "uncorrectable_count": 1, "deferred_count": 9},
                "GFX": {"correctable_count": 4, "uncorrectable_count": "N/A"},
            },
        }
    ]
    text = json.dumps({"gpu_data": gpus} if is_wrapped else gpus, indent=4)
    report = read("amd-smi metric --json", f"WARNING: low-power [state]\n{text}\n")
    assert only(report) == ChipReport(
        index=5,
        temperature_celsius=45,
        power_watts=140,
        utilization_ratio=0.12,
        memory_total_bytes=3072 * MIB,
        ecc_corrected_total=7,
        ecc_uncorrected_total=1,
    )
    assert report.problems == []


def test_json_of_amd_smi_that_is_cut() -> None:
    gpus = [{"gpu": number, "bdf": f"0000:0{number}:00.0"} for number in range(4)]
    text = json.dumps(gpus)
    report = read("amd-smi list --json", text[: text.index('"gpu": 2') + 12])
    assert [chip.pci for chip in report.chips] == ["0000:00:00.0", "0000:01:00.0"]
    assert set(kinds(report)) == {ProblemKind.TRUNCATED}


def test_static_text() -> None:
    report = read("amd-smi static", STATIC)
    assert report.driver_version == "6.12.12"
    assert only(report) == ChipReport(
        index=2,
        name="MI308X",
        serial="0x7D110C0FFEE04421",
        pci="0000:9d:00.0",
        health=Health.CRITICAL,
        power_limit_watts=700,
        memory_total_bytes=196592 * MIB,
        remap_failed=True,
    )


def test_static_csv_knows_a_limit_from_a_reading() -> None:
    text = "gpu,max_power,min_power,socket_power\n0,750,0,700\n"
    chip = only(read("amd-smi static -l --csv", text))
    assert (chip.power_limit_watts, chip.power_watts) == (700, None)
    text = "gpu,socket_power,gfx_voltage\n0,211,N/A\n"
    chip = only(read("amd-smi metric -p --csv", text))
    assert (chip.power_limit_watts, chip.power_watts) == (None, 211)


def test_list_of_partitions() -> None:
    text = "gpu,gpu_bdf,gpu_uuid\n0,0000:0c:00.0,aa11-22\n1,0000:0c:00.1,aa11-22\n"
    report = read("amd-smi list --csv", text)
    assert [(chip.index, chip.pci, chip.uuid) for chip in report.chips] == [
        (0, "0000:0c:00.0", "aa11-22"),
        (1, "0000:0c:00.1", "aa11-22"),
    ]
    redacted = read("amd-smi list", "GPU: 0\n    BDF: 0000:0c:00.0\n    UUID: XXXX-XXXX\n")
    assert only(redacted).uuid is None


@pytest.mark.parametrize(
    ("retired", "pages"),
    [
        ('"No bad pages found."', 0),
        ('"N/A"', None),
        ('{"page_address": "0x1", "page_size": 4096, "status": "reserved"}', 1),
        ('[{"page_address": "0x1"}, {"page_address": "0x2"}]', 2),
    ],
)
def test_bad_pages_json(retired: str, pages: int | None) -> None:
    text = f'[{{"gpu": 0, "retired": {retired}, "pending": "N/A", "un_res": "N/A"}}]'
    chip = only(read("amd-smi bad-pages --json", text))
    assert (chip.retired_pages, chip.remap_pending) == (pages, None)


def test_bad_pages_text() -> None:
    text = (
        "GPU: 0\n    RETIRED:\n"
        "        PAGE_ADDRESS: 0x10\n        PAGE_SIZE: 4096\n        STATUS: RESERVED\n\n"
        "        PAGE_ADDRESS: 0x20\n        PAGE_SIZE: 4096\n        STATUS: RESERVED\n"
        "    PENDING: No bad pages found.\n    UN_RES: No bad pages found.\n"
    )
    chip = only(read("amd-smi bad-pages", text))
    assert (chip.retired_pages, chip.remap_pending) == (2, False)


def test_processes() -> None:
    text = (
        "GPU: 0\n    PROCESS_INFO:\n        NAME: /usr/bin/python3\n        PID: 31\n"
        "        MEMORY_USAGE:\n            VRAM_MEM: 1.5 GB\n        MEM_USAGE: 9 GB\n\n"
        "    PROCESS_INFO:\n        NAME: N/A\n        PID: 32\n        MEM_USAGE: 0.0 B\n"
        "GPU: 1\n    PROCESS_INFO: No running processes detected\n"
    )
    report = read("amd-smi process", text)
    assert report.chips[0].processes == [
        ProcessReport(31, "/usr/bin/python3", 1536 * MIB),
        ProcessReport(32, None, 0),
    ]
    assert report.chips[1].processes == []
    csv = "gpu,name,pid,gtt_mem,vram_mem,mem_usage\n0,a,31,1,7,9\n0,b,32,1,8,9\n"
    assert only(read("amd-smi process --csv", csv)).processes == [
        ProcessReport(31, "a", 7),
        ProcessReport(32, "b", 8),
    ]


# -- amd-smi tables


def test_monitor_by_its_header() -> None:
    text = recorded("amd-smi-monitor-7.0-cpx.txt")
    report = read("amd-smi monitor", text)
    assert [chip.index for chip in report.chips] == [0, 1, 2]
    assert report.chips[0] == ChipReport(
        index=0,
        temperature_celsius=61,
        memory_temperature_celsius=55,
        power_watts=411,
        power_limit_watts=1000,
        utilization_ratio=0.77,
        memory_used_bytes=12800 * MIB,
        memory_total_bytes=262144 * MIB,
    )
    assert report.chips[1].health is None
    assert report.chips[2].health is Health.UNKNOWN
    assert set(kinds(report)) == {ProblemKind.PARTIAL}


def test_monitor_that_samples_again_and_is_cut() -> None:
    text = "GPU  POWER  GPU_TEMP  SINGLE_ECC  DOUBLE_ECC\n  0   90 W     40 \u00b0C    2    1\n"
    report = read(
        "amd-smi monitor -pte -w 1", text + "  0   95 W     41 \u00b0C    3    1\n  0   9"
    )
    chip = only(report)
    assert chip.power_watts == 95
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (3, 1)
    assert set(kinds(report)) == {ProblemKind.TRUNCATED}


def test_default_view() -> None:
    report = read("amd-smi", VIEW)
    assert (report.tool_version, report.driver_version) == ("26.2.1+e3a1b07f", "6.14.14")
    first, second = report.chips
    assert first == ChipReport(
        index=0,
        name="AMD Instinct MI325X",
        pci="0000:05:00.0",
        temperature_celsius=51,
        power_watts=340,
        power_limit_watts=1000,
        utilization_ratio=0.4,
        memory_used_bytes=9011 * MIB,
        memory_total_bytes=262128 * MIB,
        ecc_uncorrected_total=2,
        processes=[ProcessReport(51774, "python3 train.py", 2048 * MIB)],
    )
    assert second.health is Health.UNKNOWN
    assert set(kinds(report)) == {ProblemKind.PARTIAL}


def test_default_view_of_partitions_and_guests_is_not_dead() -> None:
    for text in (
        VIEW.replace("5        SPX", "5        CPX"),
        VIEW.replace("Baremetal", "Guest   "),
    ):
        assert read("amd-smi", text).chips[1].health is None


@pytest.mark.parametrize("lines", [8, 9, 12])
def test_default_view_that_is_cut(lines: int) -> None:
    report = read("amd-smi", "\n".join(VIEW.splitlines()[:lines]))
    assert ProblemKind.TRUNCATED in kinds(report)


def test_records_of_hardware_errors() -> None:
    text = (
        "timestamp            gpu_id  severity             file_name         list of afids\n"
        "2026/01/07 10:45:13  3       NONFATAL-CORRECTED   corrected-1.cper  17\n"
        "2026/01/07 10:45:13  4       FATAL                fatal-1.cper      30, 31\n"
        "2026/01/07 10:45:13  5       NONFATAL-UNCORRECTED uncorrected.cper\n"
    )
    report = read("amd-smi ras --cper --folder x", text)
    states = {chip.index: chip.health for chip in report.chips}
    assert states == {3: None, 4: Health.CRITICAL, 5: Health.WARNING}
    assert report.chips[1].error_codes == ["30", "31"]
    prose = 'Dumping CPER file header entries for GPU 6:\n"0": {\n   "error_severity": "fatal",\n'
    assert only(read("amd-smi ras --cper", prose)).health is Health.CRITICAL


def test_links_by_port() -> None:
    text = (
        "GPU LINK PORT STATUS:\n       bdf           port_num\n"
        "GPU0   0000:05:00.0  U  D  X  N/A\nGPU1   0000:15:00.0  N/A  N/A  N/A  N/A\n\n"
        "XGMI LINK STATUS:\n        bdf            GPU0          GPU1\n"
        "GPU0\t0000:05:00.0   SELF          U\nGPU1\t0000:15:00.0   U           SELF\n"
    )
    report = read("amd-smi xgmi", text)
    assert [chip.links for chip in report.chips] == [
        [LinkReport(0, is_up=True), LinkReport(1, is_up=False)],
        [],
    ]
    document = (
        '{"link_status": [{"gpu": 0, "bdf": "0000:05:00.0", "link_status": ["U", "D", "X"]}]}'
    )
    assert only(read("amd-smi xgmi -l --json", document)).links == [
        LinkReport(0, is_up=True),
        LinkReport(1, is_up=False),
    ]


def test_tables_without_states_name_the_gpus() -> None:
    metrics = (
        "LINK METRIC TABLE:\n       bdf          bit_rate max_bandwidth link_type 0000:05:00.0\n"
        "GPU0   0000:05:00.0 32 Gb/s  512 Gb/s      XGMI\n Read                     N/A\n"
    )
    (chip,) = read("amd-smi xgmi -m", metrics).chips
    assert (chip.index, chip.pci, chip.links) == (0, "0000:05:00.0", None)
    topology = (
        "ACCESS TABLE:\n             0000:05:00.0 0000:15:00.0\n"
        "0000:05:00.0 ENABLED      ENABLED\n0000:15:00.0 ENABLED      ENABLED\n\n"
        "WEIGHT TABLE:\n             0000:05:00.0 0000:15:00.0\n"
        "0000:05:00.0 0            15\n0000:15:00.0 15           0\n"
    )
    report = read("amd-smi topology", topology)
    assert [chip.pci for chip in report.chips] == ["0000:05:00.0", "0000:15:00.0"]
    partitions = "CURRENT_PARTITION:\nGPU_ID  MEMORY  ACCELERATOR_TYPE\n0       NPS1    CPX\n"
    assert [chip.index for chip in read("amd-smi partition -c", partitions).chips] == [0]
    assert kinds(read("amd-smi topology", "ACCESS TABLE:\n")) == [ProblemKind.TRUNCATED]


def test_a_tool_that_was_refused_has_not_answered_in_the_wrong_form() -> None:
    text = "User is missing the following required groups: render.\n{'error': 'NO_PERM'}\n"
    assert kinds(read("amd-smi static", text, exit_code=255)) == [ProblemKind.PERMISSION]
    assert ProblemKind.MALFORMED in kinds(read("amd-smi static --json", "{'error': 'odd'}\n"))


def test_the_time_of_a_process_on_the_engine_is_not_how_busy_the_chip_is() -> None:
    text = (
        "GPU: 3\n    PROCESS_INFO:\n        NAME: train\n        PID: 71\n"
        "        MEM_USAGE: 2.0 GB\n        USAGE:\n            GFX: 0 ns\n            ENC: 0 ns\n"
    )
    rows = "gpu,name,pid,vram_mem,mem_usage,gfx,enc\n3,train,71,2147483648,2147483648,0,0\n"
    for answer, command in ((text, "amd-smi process"), (rows, "amd-smi process --csv")):
        chip = only(read(command, answer))
        assert (chip.index, chip.utilization_ratio) == (3, None)
        assert chip.processes == [ProcessReport(71, "train", 2048 * MIB)]


def test_a_device_that_is_not_there() -> None:
    report = read("amd-smi static -g 9", "ERROR: Device 9 not found\n", exit_code=3)
    assert kinds(report) == [ProblemKind.CHIP_LOST]
