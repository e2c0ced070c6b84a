"""What the reader of Kunlunxin's tools makes of recorded and typical answers."""

from __future__ import annotations

import pytest

from chipmedic.tool_report import Health, ProblemKind
from chipmedic_collectors.values import MIB
from vendor_readings import kinds, read, recorded

ROW = (
    "00000000:1b:00.0 0 0 02K99Z624CV00771 51 0 0 0 231 1450 1450 1450 1450 1450 1450 "
    '44 96 70440 98304 93 1.0:2.6:1.40.1.7 "P800 OAM" 0 0 0 0'
)
K200 = (
    "00000000:b1:00.0 0 0 0200990302004417 44 0 0 0 41250 900 900 900 900 900 900 "
    '14 16 504 8064 35 0001.0015.0022 "K200"'
)


def test_table_reads_the_memory_and_not_the_cache_below_it() -> None:
    report = read(recorded("xpu-smi-table-p800-5.0.30.txt"), "xpu-smi")
    assert (report.vendor, report.driver_version) == ("kunlun", "5.0.30.2")
    busy, silent = report.chips
    assert (busy.index, busy.name, busy.pci) == (0, "P800 OAM", "0000:1b:00.0")
    assert (busy.temperature_celsius, busy.power_watts, busy.power_limit_watts) == (61, 287, 400)
    assert (busy.memory_used_bytes, busy.memory_total_bytes) == (71204 * MIB, 98304 * MIB)
    assert busy.utilization_ratio == pytest.approx(0.97)
    assert [p.pid for p in busy.processes or []] == [48211, 48299]
    assert (silent.index, silent.health, silent.power_watts) == (2, Health.UNKNOWN, None)
    assert (silent.memory_used_bytes, silent.ecc_uncorrected_total) == (None, 3)
    assert kinds(report) == [ProblemKind.PARTIAL]


def test_driver_version_of_a_container_is_a_placeholder() -> None:
    text = recorded("xpu-smi-table-p800-5.0.30.txt")
    text = text.replace(
        "5.0.30.2     XPU-RT Version: 5.0.30", "515.58       XPU-RT Version: N/A   "
    )
    report = read(text, "xpu-smi")
    assert (report.vendor, report.driver_version) == ("kunlun", None)


def test_xml_takes_lifetime_counters_and_no_value_from_invalid_argument() -> None:
    report = read(recorded("xpu-smi-q-x-p800-5.20.xml"), "xpu-smi -q -x")
    good, bad = report.chips
    assert (good.ecc_corrected_total, good.ecc_uncorrected_total) == (17, 2)
    assert (good.index, good.serial, good.power_watts) == (0, "02K99Z6250V00731", 131.5)
    assert [(p.pid, p.memory_bytes) for p in good.processes or []] == [(7711, 1100 * MIB)]
    assert bad.pci == "0000:3d:00.0"
    assert (bad.health, bad.temperature_celsius, bad.memory_total_bytes) == (
        Health.UNKNOWN,
        None,
        None,
    )
    assert report.driver_version == "5.20.1.0"


def test_xml_says_that_an_attached_chip_is_not_listed() -> None:
    text = recorded("xpu-smi-q-x-p800-5.20.xml")
    assert ProblemKind.PARTIAL in kinds(
        read(text.replace("<attached_xpus>2<", "<attached_xpus>8<"), "xpu-smi -q -x")
    )
    one = read(text.replace("<attached_xpus>2<", "<attached_xpus>8<"), "xpu-smi -q -x -i 0")
    assert not [p for p in one.problems if "attached" in p.message]


def test_machine_form_is_positional() -> None:
    report = read(ROW, "xpu_smi -m")
    (chip,) = report.chips
    assert (chip.index, chip.serial, chip.name) == (0, "02K99Z624CV00771", "P800 OAM")
    assert (chip.temperature_celsius, chip.power_watts) == (51, 231)
    assert (chip.memory_used_bytes, chip.memory_total_bytes) == (70440 * MIB, 98304 * MIB)
    assert report.problems == []


def test_machine_form_below_a_warning() -> None:
    report = read(f"WARNING: the driver is older\n{ROW}\n", "xpu_smi -m")
    assert ([chip.power_watts for chip in report.chips], report.problems) == ([231], [])


def test_machine_form_of_old_cards_is_in_milliwatts() -> None:
    two = f"{K200}\n{K200.replace(' 0 0 02', ' 0 1 02')}\n"
    report = read(two, "xpu_smi -m")
    assert [chip.index for chip in report.chips] == [0, 1]
    assert [chip.power_watts for chip in report.chips] == [41.25, 41.25]


def test_machine_form_with_zeroes_only_is_no_answer() -> None:
    dead = '00000000:3d:00.0 1 1 02K99Z624CV00772 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 "P800 OAM"'
    report = read(f"{ROW}\n{dead}\n", "xpu_smi -m")
    assert report.chips[1].health is Health.UNKNOWN
    assert (report.chips[1].temperature_celsius, report.chips[1].utilization_ratio) == (None, None)
    assert kinds(report) == [ProblemKind.PARTIAL]


@pytest.mark.parametrize("length", [40, 90, len(ROW) - 20, len(ROW) - 2])
def test_machine_form_that_is_cut_says_so(length: int) -> None:
    report = read(f"{ROW}\n{ROW.replace(':1b:', ':2b:')[:length]}", "xpu_smi -m")
    assert ProblemKind.TRUNCATED in kinds(report)
    assert report.chips[0].power_watts == 231


def test_old_table_has_two_devices_on_one_address() -> None:
    report = read(recorded("xpu_smi-legacy-k200-4.0.txt"), "xpu_smi")
    normal, error = report.chips
    assert [chip.pci for chip in report.chips] == ["0000:b1:00.0"] * 2
    assert (normal.health, error.health) == (Health.OK, Health.CRITICAL)
    assert (normal.power_watts, normal.temperature_celsius) == (41, 44)
    assert normal.utilization_ratio == pytest.approx(0.35)
    assert [(p.pid, p.name) for p in normal.processes or []] == [(33120, "python3")]
    assert error.processes == []
    assert report.driver_version == "4.0"


def test_old_table_with_columns_left_out() -> None:
    text = (
        "  DEVICES\n" + "-" * 60 + "\n"
        "| DevID |   PCI Addr   | Model | ... |    INODE   | State | ... |   Memory   |...| \n"
        + "-"
        * 60
        + "\n"
        "|     0 | 0000:02:00.0 | R200-PF  | ... | /dev/xpu0  |  N | ... |0 / 13568 MB|...|\n"
        + "-" * 60
        + "\n...\n"
    )
    report = read(text, "xpu_smi")
    (chip,) = report.chips
    assert (chip.name, chip.health, chip.memory_total_bytes) == ("R200-PF", Health.OK, 13568 * MIB)


@pytest.mark.parametrize(
    ("text", "stderr", "exit_code", "kind"),
    [
        ("", "", 0, ProblemKind.MALFORMED),
        ("", "", 139, ProblemKind.TRUNCATED),
        ("", "bash: xpu_smi: command not found", 127, ProblemKind.TOOL_MISSING),
        ("", "xpu_smi: /lib/libxpurt.so: version `XRE5' not found", 1, ProblemKind.DRIVER_DOWN),
        ("Initialize default context for dev -1 fail", "", 1, ProblemKind.NO_DEVICES),
        ("", "open /dev/xpuctrl failed: Permission denied", 1, ProblemKind.PERMISSION),
        ("no xpu device found", "", 0, ProblemKind.NO_DEVICES),
    ],
)
def test_failures(text: str, stderr: str, exit_code: int, kind: ProblemKind) -> None:
    report = read(text, "xpu_smi -m", stderr=stderr, exit_code=exit_code)
    assert (report.vendor, report.chips, kinds(report)) == ("kunlun", [], [kind])


@pytest.mark.parametrize(
    ("command", "vendor"),
    [
        ("xpu-smi -m", "kunlun"),
        ("xpu-smi", "kunlun"),
        ("xpu_smi", "kunlun"),
        ("xpu-smi discovery -j", "intel"),
        ("timeout 10 xpu-smi dump -d -1 -m 0", "intel"),
        ("xpumcli health -l", "intel"),
    ],
)
def test_arguments_tell_whose_tool_is_missing(command: str, vendor: str) -> None:
    report = read("", command, stderr="sh: 1: tool: not found", exit_code=127)
    assert (report.vendor, kinds(report)) == (vendor, [ProblemKind.TOOL_MISSING])


def test_text_of_q_takes_lifetime_counters_and_gives_processes() -> None:
    report = read(recorded("xpu-smi-q-p800-5.0.txt"), "xpu-smi -q")
    good, silent = report.chips
    assert (report.vendor, report.driver_version) == ("kunlun", "5.0.33.7")
    assert (good.index, good.pci, good.name) == (4, "0000:2d:00.0", "P800 PCIe")
    assert (good.ecc_corrected_total, good.ecc_uncorrected_total) == (5, 2)
    assert (good.temperature_celsius, good.memory_temperature_celsius) == (57, 63)
    assert (good.power_watts, good.power_limit_watts) == (141, 350)
    assert (good.memory_used_bytes, good.memory_total_bytes) == (1530 * MIB, 98304 * MIB)
    assert good.utilization_ratio == pytest.approx(0.62)
    assert [(p.pid, p.name, p.memory_bytes) for p in good.processes or []] == [
        (40127, "python3", 1500 * MIB)
    ]
    assert (silent.index, silent.health, silent.processes) == (5, Health.UNKNOWN, [])
    assert [p for p in report.problems if "3 XPUs attached, 2 listed" in p.message]


def test_list_names_cards() -> None:
    text = "XPU 0: P800 OAM (UUID: GPU-aa)\nXPU 3: P800 OAM (UUID: GPU-bb)\n"
    report = read(text, "xpu-smi -L")
    assert [(chip.index, chip.name, chip.uuid) for chip in report.chips] == [
        (0, "P800 OAM", "GPU-aa"),
        (3, "P800 OAM", "GPU-bb"),
    ]
    assert (report.vendor, report.problems) == ("kunlun", [])
