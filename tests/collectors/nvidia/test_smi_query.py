"""`nvidia-smi -q`: its text and its XML."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.tool_report import Health, ProcessReport, ToolReport, ToolRun
from chipmedic_collectors.nvidia.smi import READER
from chipmedic_collectors.values import MIB

RECORDED = Path(__file__).parents[2] / "recorded"
GOOD_GPU = """
GPU 00000000:3D:00.0
    Product Name                          : NVIDIA A30
"""


def read(text: str, *arguments: str) -> ToolReport:
    return READER.read(ToolRun(["nvidia-smi", "-q", *arguments], text))


def recorded(name: str) -> str:
    return (RECORDED / f"nvidia-smi-{name}.txt").read_text(encoding="utf-8")


def kinds(report: ToolReport) -> set[str]:
    return {problem.kind.value for problem in report.problems}


def test_text_states_a_chip_in_base_units() -> None:
    report = read(recorded("565-query"))
    chip = report.chips[0]
    assert report.problems == []
    assert report.driver_version == "565.57.01"
    assert (chip.pci, chip.serial) == ("0000:3d:00.0", "1650924000777")
    assert chip.uuid == "GPU-0f3c9a52-1d1e-4b7a-9c55-7b1a60d0e001"
    assert (chip.temperature_celsius, chip.memory_temperature_celsius) == (55, 61)
    assert (chip.power_watts, chip.power_limit_watts) == (402.11, 650)
    assert (chip.memory_used_bytes, chip.memory_total_bytes) == (70012 * MIB, 81559 * MIB)
    assert chip.utilization_ratio == pytest.approx(0.88)
    assert chip.index is None, "the minor number is not the index"


def test_errors_are_of_the_lifetime_and_of_all_memories() -> None:
    chip = read(recorded("565-query")).chips[0]
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (42, 10)
    assert chip.retired_pages == 3


def test_a_pending_remap_warns_and_nothing_stated_is_nothing_known() -> None:
    pending, silent = read(recorded("565-query")).chips
    assert (pending.remap_pending, pending.remap_failed) == (True, False)
    assert pending.health is Health.WARNING
    assert (silent.ecc_corrected_total, silent.retired_pages, silent.serial) == (None, None, None)
    assert (silent.remap_pending, silent.power_watts) == (None, 71.2)
    assert silent.health is Health.OK, "recovery action None"


def test_processes_of_the_text() -> None:
    busy, idle = read(recorded("565-query")).chips
    assert busy.processes == [
        ProcessReport(9120, "/opt/env/bin/python3.11", 69990 * MIB),
        ProcessReport(9344, "nccl: helper", None),
    ]
    assert idle.processes == []


def test_the_layout_of_single_and_double_bits() -> None:
    report = read(recorded("384-query"))
    (chip,) = report.chips
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (7, 4)
    assert (chip.retired_pages, chip.health) == (7, Health.WARNING)
    assert (chip.power_watts, chip.power_limit_watts) == (60.41, 120)
    assert chip.processes == [ProcessReport(24110, "./md.x", 66 * MIB)]
    assert report.problems == []


def test_xml_states_the_chip_and_not_its_parts() -> None:
    report = read(recorded("580-query-xml"), "-x")
    good, _, _ = report.chips
    assert report.driver_version == "580.95.05"
    assert (good.pci, good.name) == ("0002:18:00.0", "NVIDIA B200")
    assert good.memory_used_bytes == 2048 * MIB, "not that of a MIG slice or of BAR1"
    assert (good.power_watts, good.power_limit_watts) == (246.75, 900)
    assert (good.temperature_celsius, good.memory_temperature_celsius) == (44, 47)
    assert (good.ecc_corrected_total, good.ecc_uncorrected_total, good.retired_pages) == (13, 0, 1)
    assert good.health is Health.OK


def test_a_program_name_that_looks_like_a_tag_is_text() -> None:
    good = read(recorded("580-query-xml"), "-x").chips[0]
    assert good.processes == [ProcessReport(3311, "run <a & b>", 1000 * MIB)]


def test_a_lost_chip_has_no_values_and_hides_no_other() -> None:
    report = read(recorded("580-query-xml"), "-x")
    _, lost, unhealthy = report.chips
    assert (lost.lost, lost.health) == (True, Health.CRITICAL)
    assert (lost.serial, lost.temperature_celsius, lost.memory_total_bytes) == (
        "1660225099002",
        None,
        None,
    )
    assert lost.processes is None
    assert (unhealthy.lost, unhealthy.temperature_celsius) == (None, 38)
    assert unhealthy.health is Health.CRITICAL, "the fabric outweighs a wanted drain"
    assert unhealthy.serial is None, "a serial of zeroes is none"
    assert kinds(report) == {"chip_lost"}


@pytest.mark.parametrize(
    ("line", "health"),
    [
        ("    GPU Recovery Action : None", Health.OK),
        ("    GPU Recovery Action : N/A", None),
        ("    GPU Recovery Action : Reset", Health.CRITICAL),
        ("    GPU Recovery Action : Reboot", Health.CRITICAL),
        ("    GPU Recovery Action : Drain P2P", Health.WARNING),
        ("    GPU Reset Status\n        Reset Required : Yes", Health.CRITICAL),
        ("    GPU Reset Status\n        Drain and Reset Recommended : Yes", Health.WARNING),
        ("    Remapped Rows\n        Remapping Failure Occurred : Yes", Health.CRITICAL),
        ("    Remapped Rows\n        Correctable Error : 8", None),
        ("    Remapped Banks\n        Pending : Yes", Health.WARNING),
        ("    Remapped Banks\n        Pending : No", None),
        ("    Retired Pages\n        Pending Page Blacklist : No", None),
        (
            "    ECC Errors\n        Aggregate\n            SRAM Threshold Exceeded : Yes",
            Health.WARNING,
        ),
        ("    Fabric\n        Health\n            Bandwidth : Degraded", Health.WARNING),
        ("    Fabric\n        Health\n            Bandwidth : Full", None),
        ("    Fabric\n        Health\n            Route Unhealthy : True", Health.CRITICAL),
        ("    Fabric\n        State : Completed\n        Status : Insufficient", Health.WARNING),
        ("    Fabric\n        State : In Progress\n        Status : N/A", None),
        ("    Clocks Event Reasons\n        SW Power Cap : Active", None),
    ],
)
def test_health_is_what_the_tool_states(line: str, health: Health | None) -> None:
    report = read(f"{GOOD_GPU}{line}\n    Processes : None\n")
    assert report.chips[0].health is health
    assert report.problems == []


def test_errors_instead_of_all_readings_are_no_health() -> None:
    section = "    Temperature\n        GPU Current Temp : Unknown Error\n"
    report = read(f"{GOOD_GPU}{section}    Processes : None\n")
    assert report.chips[0].health is Health.UNKNOWN
    assert kinds(report) == {"partial"}


def test_a_chip_that_is_not_ready_is_not_healthy() -> None:
    state = "System is not in ready state"
    readings = f"    Fan Speed : {state}\n    Utilization\n        Gpu : {state}\n"
    report = read(f"{GOOD_GPU}{readings}    Processes : None\n")
    assert report.chips[0].health is Health.UNKNOWN
    assert kinds(report) == {"partial"}


def test_a_chip_that_tells_its_rows_answers() -> None:
    sections = (
        "    ECC Mode\n        Current : Unknown Error\n    Remapped Rows\n"
        "        Correctable Error : 0\n        Uncorrectable Error : 3\n        Pending : Yes\n"
    )
    report = READER.read(ToolRun(["nvidia-smi", "-q", "-d", "ECC"], f"{GOOD_GPU}{sections}"))
    assert (report.chips[0].health, report.chips[0].retired_pages) == (Health.WARNING, 3)
    assert [problem.message for problem in report.problems] == [
        "GPU 0000:3d:00.0: an error instead of a value"
    ]


def test_fewer_chips_than_attached_are_told_unless_fewer_were_asked_for() -> None:
    text = recorded("580-query-xml").replace("<attached_gpus>3<", "<attached_gpus>8<")
    assert kinds(read(text, "-x")) == {"chip_lost", "partial"}
    assert kinds(read(text, "-x", "-i", "0,1,2")) == {"chip_lost"}


def test_the_index_is_taken_from_the_arguments() -> None:
    assert read(recorded("384-query"), "-i", "4").chips[0].index == 4
    assert read(recorded("384-query"), "--id=4").chips[0].index == 4
    assert read(recorded("384-query"), "-i", "00000000:86:00.0").chips[0].index is None


def test_xml_that_was_cut_anywhere_is_said_to_be_and_states_nothing_false() -> None:
    text = recorded("580-query-xml")
    whole = {chip.pci: chip for chip in read(text, "-x").chips}
    for end in range(200, len(text) - 20, 31):
        report = read(text[:end], "-x")
        assert "truncated" in kinds(report), end
        for chip in report.chips:
            true = whole[chip.pci]
            assert chip.ecc_corrected_total in (None, true.ecc_corrected_total), end
            assert chip.retired_pages in (None, true.retired_pages), end
            assert chip.memory_used_bytes in (None, true.memory_used_bytes), end
        last = report.chips[-1].health if report.chips else None
        assert last is not Health.OK or len(report.chips) < 3, end


def test_text_that_was_cut_is_said_to_be() -> None:
    text = recorded("565-query")
    end = text.index("    Retired Pages", text.index("GPU 00000000:5E"))
    assert "truncated" in kinds(read(text[:end]))
    assert "truncated" in kinds(read(text[: text.index("    Fabric")]))
    assert "partial" in kinds(read(text[: text.index("GPU 00000000:5E")]))


def test_a_sum_of_which_a_part_was_cut_off_is_unknown() -> None:
    text = recorded("565-query")
    chip = read(text[: text.index("            DRAM Uncorrectable            : 6")]).chips[0]
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (None, None)
    chip = read(text[: text.index("            SRAM Uncorrectable Parity     : 1")]).chips[0]
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (None, None)
    chip = read(text[: text.index("        Uncorrectable Error")]).chips[0]
    assert chip.retired_pages is None


def test_text_with_parts_left_out_is_partial() -> None:
    text = recorded("384-query").replace("    Utilization\n", "[...]\n    Utilization\n")
    assert kinds(read(text)) == {"partial"}


def test_the_query_of_virtual_gpus_has_no_processes() -> None:
    text = (
        "GPU 00000000:3D:00.0\n    Active vGPUs                          : 1\n"
        "    vGPU ID                               : 3251600001\n"
        "        VM Name                           : desk-one\n"
        "        Utilization\n            Gpu                           : 12 %\n"
    )
    report = READER.read(ToolRun(["nvidia-smi", "vgpu", "-q"], text))
    assert [(chip.pci, chip.utilization_ratio) for chip in report.chips] == [("0000:3d:00.0", None)]
    assert report.problems == []


def test_units_are_no_gpus() -> None:
    text = "<nvidia_smi_log>\n<attached_units>0</attached_units>\n</nvidia_smi_log>\n"
    assert kinds(read(text, "-u", "-x")) == {"unsupported"}


def test_asked_for_xml_and_given_nothing_of_it() -> None:
    assert kinds(read("<html>502</html>", "-x")) == {"malformed"}
