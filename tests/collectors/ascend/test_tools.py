"""What the readers of npu-smi and hccn_tool make of recorded and typical outputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_story import answer, kinds
from chipmedic.tool_report import Health, LinkReport, ProblemKind, ToolReport, ToolRun
from chipmedic_collectors.ascend.tools import READER, read, recognises
from chipmedic_collectors.values import MIB
from fuzzing import assert_possible, examples

RECORDED = Path(__file__).parents[2] / "recorded"


def recorded(name: str, command: str = "npu-smi info") -> ToolReport:
    text = (RECORDED / f"npu-smi-{name}.txt").read_text(encoding="utf-8")
    return read(ToolRun(command.split(), text, "", 0))


def test_summary_of_910b_reads_every_column() -> None:
    report = recorded("info-910b3-24.1.rc2-alarm")
    assert (report.tool_version, report.driver_version) == ("24.1.rc2", "24.1.rc3")
    busy, alarmed = report.chips
    assert (busy.index, busy.die, busy.name, busy.pci) == (4, 0, "910B3", "0000:a1:00.0")
    assert (busy.power_watts, busy.temperature_celsius) == (241.7, 57)
    assert busy.utilization_ratio == pytest.approx(0.88)
    assert (busy.memory_used_bytes, busy.memory_total_bytes) == (61020 * MIB, 65536 * MIB)
    assert busy.processes is not None
    assert [(p.pid, p.name, p.memory_bytes) for p in busy.processes] == [
        (51877, "pretrain", 57600 * MIB),
        (51990, None, 128 * MIB),
    ]
    assert (busy.health, alarmed.health) == (Health.OK, Health.CRITICAL)
    assert alarmed.processes == []
    assert kinds(report) == set()


def test_of_two_runs_in_one_log_the_later_counts() -> None:
    text = (RECORDED / "npu-smi-info-910b3-24.1.rc2-alarm.txt").read_text(encoding="utf-8")
    earlier = text.replace("241.7", "99.9").replace("910B3", "910B1").replace(" 57 ", " 33 ")
    report = answer(f"{earlier}\n--- ten seconds later\n{text}")
    assert report == answer(text)
    assert [chip.die for chip in report.chips] == [0, 0]
    cut = answer(earlier + text[: text.index("241.7")])
    assert ProblemKind.TRUNCATED in kinds(cut)


def test_zeroes_and_missing_lines_are_no_readings_and_no_health() -> None:
    report = recorded("info-a3-25.3-dead-row")
    whole, headless, zeroes, unknown = report.chips
    assert (whole.index, whole.die, whole.power_watts) == (2, 0, 171.0)
    assert (headless.index, headless.die, headless.health) == (2, 1, Health.UNKNOWN)
    assert headless.memory_used_bytes == 40102 * MIB
    assert zeroes.health is Health.UNKNOWN
    assert zeroes.power_watts is None
    assert zeroes.temperature_celsius is None
    assert zeroes.utilization_ratio is None
    assert zeroes.memory_total_bytes is None
    assert (unknown.health, unknown.power_watts) == (Health.UNKNOWN, None)
    assert unknown.temperature_celsius == 41
    assert kinds(report) == {ProblemKind.PARTIAL}


def test_310p_pair_shares_an_address_and_hugepages_are_no_memory() -> None:
    report = recorded("info-310p-duo-25.0")
    assert report.driver_version == "25.0.rc1"
    first, second = report.chips
    assert {first.pci, second.pci} == {"0000:b5:00.0"}
    assert [(chip.index, chip.die) for chip in report.chips] == [(224, 0), (224, 1)]
    assert (first.power_watts, first.memory_used_bytes) == (None, 20777 * MIB)
    assert (second.memory_used_bytes, second.memory_total_bytes) == (None, 43690 * MIB)
    assert second.health is Health.WARNING
    assert kinds(report) == set()


def test_950_has_a_bar_more_and_no_chip_column() -> None:
    (chip,) = recorded("info-950-26.0").chips
    assert (chip.index, chip.die, chip.name, chip.pci) == (6, 0, "Ascend950PR", "0000:4b:00.0")
    assert chip.health is Health.CRITICAL
    assert chip.utilization_ratio == pytest.approx(0.55)
    assert chip.memory_total_bytes == 131072 * MIB
    assert chip.processes is not None
    assert chip.processes[0].pid == 8123


def test_cut_table_keeps_whole_rows_and_says_so() -> None:
    report = recorded("info-910a-1.8-cut")
    first, second = report.chips
    assert first.memory_used_bytes == 9012 * MIB  # HBM, not the DDR column
    assert second.index == 3
    assert second.memory_used_bytes is None  # `61` may have been 6100
    assert second.processes is None
    assert ProblemKind.TRUNCATED in kinds(report)


def test_every_cut_of_a_table_is_seen_but_those_that_look_whole() -> None:
    lines = (RECORDED / "npu-smi-info-910b3-24.1.rc2-alarm.txt").read_text().splitlines()
    looks_whole: dict[int, set[ProblemKind]] = {
        6: {ProblemKind.NO_DEVICES},  # header only
        9: set(),  # after the first NPU
        12: set(),  # without the table of processes, as many versions print it
        18: {ProblemKind.PARTIAL},  # the processes of one NPU only
    }
    for length in range(2, len(lines)):
        found = kinds(answer("\n".join(lines[:length])))
        if length in looks_whole:
            assert found == looks_whole[length]
        else:
            assert ProblemKind.TRUNCATED in found, lines[length - 1]


def test_mapping_lists_no_board_controllers() -> None:
    report = recorded("m-910b4-mcu", "npu-smi info -m")
    assert [(chip.index, chip.name) for chip in report.chips] == [
        (1, "Ascend 910B4"),
        (33, "Ascend 910B4"),
    ]


def test_card_form_prints_the_chip_number_after_its_values() -> None:
    report = recorded("ecc-card-two-dies", "npu-smi info -t ecc -i 3")
    first, second = report.chips
    assert [(chip.index, chip.die) for chip in report.chips] == [(3, 0), (3, 1)]
    assert (first.ecc_corrected_total, first.ecc_uncorrected_total) == (41, 3)
    assert (first.retired_pages, first.remap_pending) == (3, True)
    assert (second.ecc_corrected_total, second.remap_pending) == (7, False)


def test_card_form_cut_before_the_number_goes_to_the_next_chip() -> None:
    text = (RECORDED / "npu-smi-ecc-card-two-dies.txt").read_text()
    text = text[: text.rindex("\tHBM Double Bit Next")]
    chips = answer(text, "npu-smi info -t ecc -i 3").chips
    assert [(chip.die, chip.ecc_corrected_total) for chip in chips] == [(0, 41), (1, 7)]


def test_volatile_ecc_counts_only_where_no_lifetime_is_printed() -> None:
    text = "\tSingle-bit Error Count : 4\n\tDouble-bit Error Count : 1\n"
    (chip,) = answer(text, "npu-smi info -t ecc -i 0 -c 0").chips
    assert (chip.ecc_corrected_total, chip.ecc_uncorrected_total) == (4, 1)
    assert chip.retired_pages is None


def test_health_gives_codes_and_their_chip() -> None:
    (chip,) = recorded("health-critical-2codes", "npu-smi info -t health -i 5 -c 1").chips
    assert (chip.index, chip.die, chip.health) == (5, 1, Health.CRITICAL)
    assert chip.error_codes == ["80E01801", "80CB8009"]


@pytest.mark.parametrize(
    ("event", "codes", "health"),
    [
        ("event id=0x80E01801, severity=3, node id=0", ["80E01801"], Health.CRITICAL),
        ("event id=0x80E01801, severity=1, node id=0", ["80E01801"], Health.WARNING),
        ("NA", None, None),
    ],
)
def test_fault_events(event: str, codes: list[str] | None, health: Health | None) -> None:
    text = f"Fault Event Count : 1\nFault Event Information : {event}\n"
    (chip,) = answer(text, "npu-smi info -t current-fault-event -i 2").chips
    assert (chip.error_codes, chip.health) == (codes, health)


def test_values_of_the_board_controller_are_not_the_chips() -> None:
    before = "NPU ID : 0\nChip Count : 1\n\nChip ID : 0\nTemperature(C) : 51\n"
    named_first = before + "\nChip Name : mcu\nTemperature(C) : 33\nPower Dissipation(W) : 9.1\n"
    (chip,) = answer(named_first, "npu-smi info -t common -i 0").chips
    assert (chip.temperature_celsius, chip.power_watts) == (51, None)
    named_last = (
        "NPU ID : 0\nChip Count : 1\n\nNPU Temperature (C) : 51\nChip ID : 0\n"
        "\nDIMM0 (C) : 30\nTemperature (C) : 33\nChip Name : mcu\n"
    )
    (chip,) = answer(named_last, "npu-smi info -t temp -i 0").chips
    assert chip.temperature_celsius == 51


def test_listing_of_cards_and_a_count_that_does_not_fit() -> None:
    text = (
        "\tTotal Count : 3\n\n\tNPU ID : 0\n\tSerial Number : 033XYZ10K\n\tChip Count : 1\n\n"
        "\tNPU ID : 32\n\tSerial Number : 033XYZ10L\n\tChip Count : 1\n\n\tNPU ID : -1\n"
    )
    report = answer(text, "npu-smi info -l")
    assert [(chip.index, chip.serial) for chip in report.chips] == [
        (0, "033XYZ10K"),
        (32, "033XYZ10L"),
    ]
    assert kinds(report) == {ProblemKind.PARTIAL}


def test_board_names_the_die() -> None:
    text = (
        "\tNPU ID : 1\n\tChip ID : 0\n\tChip Type : Ascend\n\tChip Name : 910B2\n\tPCB ID : NA\n"
        "\tVDie ID : 1A2B3C4D 00000001 00000002 00000003 00000004\n"
        "\tNDie ID : 00000000 00000000 00000000 00000000 00000000\n"
        "\tPCIe Bus Info : 0000:3B:00.0\n\tFirmware Version : 7.1\n"
    )
    (chip,) = answer(text, "npu-smi info -t board -i 1 -c 0").chips
    assert chip.uuid == "1A2B3C4D 00000001 00000002 00000003 00000004"
    assert (chip.name, chip.pci, chip.serial) == ("910B2", "0000:3b:00.0", None)


def test_topology_names_chips_and_nothing_else() -> None:
    text = (
        "\t           NPU0       NPU32      CPU Affinity\n"
        "\tNPU0       X          HCCS       0-23\n\tNPU32      HCCS       X          24-47\n"
        "\nLegend:\n  X    = Self\n"
    )
    report = answer(text, "npu-smi info -t topo")
    assert [(chip.index, chip.health) for chip in report.chips] == [(0, None), (32, None)]
    assert kinds(report) == set()


def test_watch_samples_of_one_chip_are_one_chip() -> None:
    report = recorded("watch-a3", "npu-smi info watch")
    first, second = report.chips
    assert (first.index, first.die, first.power_watts) == (7, 0, 190.0)
    assert first.memory_used_ratio == pytest.approx(0.71)
    assert (second.die, second.power_watts) == (1, None)
    assert second.utilization_ratio == pytest.approx(0.60)
    assert kinds(report) == {ProblemKind.TRUNCATED}


def test_processes_of_a_chip() -> None:
    text = (
        "Process id:4711  Process name:train_worker_01 Process memory(MB):52001\n"
        "Process id:4712  Process name: Process memory(MB):11\n"
    )
    (chip,) = answer(text, "npu-smi info -t proc-mem -i 3 -c 0").chips
    assert chip.index == 3
    assert chip.processes is not None
    assert [(p.pid, p.name) for p in chip.processes] == [(4711, "train_worker_01"), (4712, None)]
    (idle,) = answer(
        "\tNPU ID : 3\n\tNo process in device.\n", "npu-smi info -t proc-mem -i 3"
    ).chips
    assert idle.processes == []
    alone = answer("\tNo process in device.\n", "npu-smi info -t proc-mem -i 3 -c 1")
    assert [(chip.index, chip.die, chip.processes) for chip in alone.chips] == [(3, 1, [])]
    assert alone.problems == []


def test_hccs_links_that_are_not_wired_are_left_out() -> None:
    text = (
        "\thccs health status : NOK\n\thccs lane mode : [4 4 0 4]\n"
        "\thccs link lane list : [1111 1101 0000 1111]\n"
    )
    (chip,) = answer(text, "npu-smi info -t hccs -i 1 -c 0").chips
    assert chip.links == [LinkReport(0, True), LinkReport(1, False), LinkReport(3, True)]
    assert chip.health is Health.CRITICAL


@pytest.mark.parametrize(
    ("command", "text", "links"),
    [
        ("hccn_tool -i 3 -link -g", "link status: DOWN\n", [LinkReport(None, False)]),
        ("hccn_tool -g -link -i 3 -u 0 -p 5", "link status: UP\n", [LinkReport(5, True)]),
        (
            "hccn_tool -i 3 -link_stat -g",
            "[device 3]link up count       : 1\n[device 3]link change records :\n"
            "[device 3]    Fri Aug  8 01:02:03 2025    LINK UP\n"
            "[device 3]    Fri Aug  8 01:01:03 2025    LINK DOWN\n",
            [LinkReport(None, True)],
        ),
        (
            "hccn_tool -g -dev_info -i 3",
            "+----+\n| UDie ID | Port ID | Link Status |\n+----+\n"
            "| 0 | 7 | UP |\n| 0 | 8 | DOWN |\n+----+\n+----+\n"
            "| Name | EID Index | EID |\n+----+\n| udma1 | 0 | 00 |\n+----+\n",
            [LinkReport(7, True), LinkReport(8, False)],
        ),
        ("hccn_tool -i 3 -ip -g", "ipaddr:10.1.2.3\nnetmask:255.0.0.0\n", None),
    ],
)
def test_ports(command: str, text: str, links: list[LinkReport] | None) -> None:
    report = answer(text, command)
    (chip,) = report.chips
    assert (chip.index, chip.links) == (3, links)
    assert kinds(report) == set()


@pytest.mark.parametrize(
    ("state", "health"), [("Fault", Health.WARNING), ("Init", None), ("Success", None)]
)
def test_net_health(state: str, health: Health | None) -> None:
    (chip,) = answer(f"net health status: {state}\n", "hccn_tool -i 0 -net_health -g").chips
    assert chip.health is health


def test_compatibility_of_driver_and_firmware() -> None:
    text = "\tNPU ID : 0\n\tSoftware Version : 24.1.0\n\tCompatibility : {}\n"
    command = "npu-smi info -t board -i 0"
    assert answer(text.format("NOK"), command).driver_version == "24.1.0"
    assert kinds(answer(text.format("NOK"), command)) == {ProblemKind.DRIVER_DOWN}
    assert kinds(answer(text.format("NOT SUPPORT"), command)) == set()


def test_version_of_the_tool() -> None:
    report = answer("npu-smi version: 23.0.rc2\n", "npu-smi -v")
    assert report.tool_version == "23.0.rc2"
    assert kinds(report) == set()


@pytest.mark.parametrize(
    ("command", "text", "sureness"),
    [
        ("/usr/local/sbin/npu-smi info", "", 1),
        ("sudo npu-smi info -t temp -i 0", "NPU ID : 0\n", 2),
        ("cat saved.txt", "| npu-smi 24.1   Version: 24.1  |\n", 3),
        ("nvidia-smi", "| NVIDIA-SMI 550 |\n", 0),
        ("", "", 0),
    ],
)
def test_whose_tool_it_is(command: str, text: str, sureness: int) -> None:
    assert recognises(ToolRun(command.split(), text)) == sureness


COMMANDS = st.sampled_from(
    [
        "npu-smi",
        "npu-smi info",
        "npu-smi info -m",
        "npu-smi info watch",
        "npu-smi info -t ecc -i 3",
        "npu-smi info -t memory -i 0 -c 1",
        "hccn_tool -i 0 -link -g",
        "hccn_tool",
        "other",
    ]
)
PIECES = st.sampled_from(
    [
        line
        for path in sorted(RECORDED.glob("npu-smi-*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
)
LONG = st.integers(10**17, 10**400).map(str)
NUMBERED = st.builds(lambda line, number: re.sub(r"\d+", number, line), PIECES, LONG)
LINES = st.one_of(
    NUMBERED, PIECES, PIECES.map(lambda line: line[: len(line) // 2]), st.text(max_size=60)
)


@settings(max_examples=examples(200))
@given(st.lists(LINES, max_size=25).map("\n".join), st.text(max_size=60), COMMANDS, st.integers())
def test_no_output_is_too_strange(text: str, stderr: str, command: str, exit_code: int) -> None:
    run = ToolRun(command.split(), text, stderr, exit_code)
    report = READER.read(run)
    assert READER.recognises(run) in (0, 1, 2, 3)
    assert_possible(report)


def test_the_950_names_pages_and_sensors_in_its_own_way() -> None:
    (ecc,) = answer(
        "\tNPU ID                         : 3\n"
        "\tHBM Double Bit Aggregate Total Err Cnt   : 4\n"
        "\tHBM Pending Retire Page Count            : 0\n"
        "\tHBM Isolated Page Count                  : 6\n",
        "npu-smi info -t ecc -i 3",
    ).chips
    assert (ecc.ecc_uncorrected_total, ecc.retired_pages, ecc.remap_pending) == (4, 6, False)
    (sensors,) = answer(
        "\tNPU ID                         : 3\n"
        "\tSoc Max Temperature (C)        : 58\n"
        "\tSFP Temperature (C)            : 39\n"
        "\tHBM Temperature (C)            : 54\n",
        "npu-smi info -t sensors -i 3",
    ).chips
    assert (sensors.temperature_celsius, sensors.memory_temperature_celsius) == (58, 54)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (
            "npu-smi info -t hccs-bw -i 5 -c 1",
            "hccs link  rx_bandwidth(GB/S)\n0  1.25\ntotal 1.25\n",
        ),
        (
            "npu-smi info -t info-vnpu -i 5 -c 1",
            "+-----------------------+\n| AICORE    Memory      |\n| 8/8       21/21       |\n"
            "+-----------------------+\n",
        ),
    ],
)
def test_a_table_without_states_names_the_chip_that_was_asked_for(command: str, text: str) -> None:
    report = answer(text, command)
    assert [(chip.index, chip.die, chip.health) for chip in report.chips] == [(5, 1, None)]
    assert report.problems == []


def test_a_table_that_nobody_asked_for_is_malformed() -> None:
    assert kinds(answer("+----+\n| a  |\n+----+\n")) == {ProblemKind.MALFORMED}


def test_the_module_of_a_port_says_nothing_of_the_chips_temperature() -> None:
    report = answer(
        "optical info:\npresent : present\ntemperature : 44 C\nRx Power0 : 1.1 mW\n",
        "hccn_tool -i 6 -optical -g",
    )
    (chip,) = report.chips
    assert (chip.index, chip.temperature_celsius, chip.links) == (6, None, None)


@pytest.mark.parametrize(("exit_code", "is_answer"), [(0, True), (None, True), (1, False)])
def test_a_port_without_an_address_prints_nothing(exit_code: int | None, is_answer: bool) -> None:
    report = answer("", "hccn_tool -i 3 -ip -g", exit_code=exit_code)
    assert [chip.index for chip in report.chips] == ([3] if is_answer else [])
    assert bool(report.problems) is not is_answer


def test_a_process_table_with_the_number_in_the_container() -> None:
    report = answer(
        "+------------------------------------------------------------------------------------+\n"
        "| npu-smi 26.1.0                 Version: 26.1.0                                     |\n"
        "+---------------------+---------------+----------------------------------------------+\n"
        "| NPU   Name          | Health        | Power(W)  Temp(C)      Hugepages-Usage(page) |\n"
        "| Chip                | Bus-Id        | AICore(%) Memory-Usage(MB)  HBM-Usage(MB)    |\n"
        "+=====================+===============+==============================================+\n"
        "| 6     910B1         | OK            | 203.4     51           0    / 0              |\n"
        "| 0                   | 0000:42:00.0  | 71        0    / 0          40210/ 65536     |\n"
        "+=====================+===============+==============================================+\n"
        "+---------------------+------------+------------+--------------------+---------------+\n"
        "| NPU  Chip | Process id | Process name | Process memory(MB) | Process id in container |\n"
        "+=====================+============+============+====================+===============+\n"
        "| 6    0    | 88123      | train        | 37000              | 41                      |\n"
        "+=====================+============+============+====================+===============+\n"
    )
    (chip,) = report.chips
    assert chip.processes is not None
    assert [(p.pid, p.memory_bytes) for p in chip.processes] == [(88123, 37000 * MIB)]
    assert report.problems == []
