"""What the reader of `hl-smi` makes of recorded and typical answers."""

from __future__ import annotations

import pytest

from chipmedic.tool_report import Health, LinkReport, ProblemKind
from chipmedic_collectors.gaudi.tools import port_kinds
from chipmedic_collectors.values import MIB
from vendor_readings import kinds, read, recorded

COLUMNS = "index,uuid,bus_id,serial,name,driver_version,memory.used,power.draw,temperature.aip"
ROWS = (
    "0, 01P9-HL2080A0-15-TT0A81-01-01-01, 0000:4e:00.0, AM70099123, HL-225, 1.20.0-ab12, "
    "768 MiB, 91 W, 27 C\n"
    "1, 01P9-HL2080A0-15-TT0A81-02-02-02, 0000:4f:00.0, AM70099124, HL-225, 1.20.0-ab12, "
    "90111 MiB, 480 W, 61 C\n"
)


def test_table_with_ragged_rows_and_processes() -> None:
    report = read(recorded("hl-smi-table-hl325-1.18.txt"), "hl-smi")
    busy, idle = report.chips
    assert report.driver_version == "1.18.2-0a1b2c3"  # and not that of the NIC
    assert report.tool_version == "hl-1.18.2-fw-53.2.0.0"
    assert (busy.name, busy.pci, busy.power_watts) == ("HL-325", "0000:2a:00.0", 301)
    assert busy.utilization_ratio == pytest.approx(0.88)
    assert idle.memory_total_bytes == 131072 * MIB
    assert [(p.pid, p.memory_bytes) for p in busy.processes or []] == [(90210, 97000 * MIB)]
    assert idle.processes == []
    assert idle.ecc_uncorrected_total == 1
    assert report.problems == []


def test_renamed_column_of_events() -> None:
    text = recorded("hl-smi-table-hl325-1.18.txt")
    text = text.replace("Volatile Uncorr. ECC ", "Volatile Uncor-Events")
    assert [c.ecc_uncorrected_total for c in read(text, "hl-smi").chips] == [0, 1]


def test_table_that_is_cut_keeps_what_is_whole() -> None:
    report = read(recorded("hl-smi-table-hl205-1.4.txt"), "hl-smi")
    first, cut = report.chips
    assert first.memory_used_bytes == 512 * MIB  # `Mib` is how 1.4 spells it
    assert (cut.index, cut.memory_total_bytes, cut.health) == (1, None, None)
    assert kinds(report) == [ProblemKind.TRUNCATED]


def test_header_alone_was_cut() -> None:
    text = recorded("hl-smi-table-hl325-1.18.txt").split("|   0  HL")[0]
    assert kinds(read(text, "hl-smi")) == [ProblemKind.TRUNCATED]


def test_query_without_header_is_named_by_the_arguments() -> None:
    report = read(ROWS, f"hl-smi -Q {COLUMNS} -f csv,noheader")
    first, second = report.chips
    assert (first.index, first.serial, first.pci) == (0, "AM70099123", "0000:4e:00.0")
    assert (second.power_watts, second.memory_used_bytes) == (480, 90111 * MIB)
    assert (report.driver_version, report.problems) == ("1.20.0-ab12", [])


def test_query_with_header_is_named_by_it() -> None:
    text = (
        "name, power.draw [W], temperature.aip [C], utilization.aip [%], memory.used [MiB]\n"
        "HL-205, N/A, 33, [N/A], 512\n"
    )
    (chip,) = read(text, "hl-smi --query-aip=name --format=csv,nounits").chips
    assert (chip.power_watts, chip.utilization_ratio) == (None, None)
    assert (chip.temperature_celsius, chip.memory_used_bytes) == (33, 512 * MIB)


def test_query_prefers_lifetime_counters() -> None:
    names = (
        "index,bus_id,ecc.errors.uncorrected.volatile.total,ecc.errors.uncorrected.aggregate.total"
    )
    (chip,) = read("3, 0000:4e:00.0, 2, 9\n", f"hl-smi -Q {names} -f csv,noheader").chips
    assert (chip.ecc_uncorrected_total, chip.health) == (9, None)


def test_query_that_is_cut_says_so() -> None:
    report = read(ROWS[:-30], f"hl-smi -Q {COLUMNS} -f csv,noheader")
    assert len(report.chips) == 1
    assert kinds(report) == [ProblemKind.TRUNCATED]


def test_ports_are_read_by_number() -> None:
    report = read("port  5:        UP\nport 22:        DOWN\n", "hl-smi -n link -i 0000:4e:00.0")
    (chip,) = report.chips
    assert chip.pci == "0000:4e:00.0"
    assert chip.links == [LinkReport(5, True), LinkReport(22, False)]


def test_kinds_of_ports_state_no_link() -> None:
    text = "port 7: internal\nport 8: external\n"
    (chip,) = read(text, "hl-smi -n ports -i 0000:4e:00.0").chips
    assert chip.links is None
    assert port_kinds(text) == {7: True, 8: False}


def test_long_list() -> None:
    report = read(recorded("hl-smi-L-1.13.txt"), "hl-smi -L -i 0000:4e:00.0")
    (chip,) = report.chips
    assert (chip.index, chip.pci, chip.serial) == (0, "0000:4e:00.0", "AM70099123")
    assert (chip.uuid, chip.health) == ("01P9-HL2080A0-15-TT0A81-09-07-06", Health.OK)
    assert (report.driver_version, report.problems) == ("1.13.0-abc1234", [])


def test_long_list_of_a_chip_that_is_not_operational() -> None:
    text = recorded("hl-smi-L-1.13.txt").replace(": Operational", ": Needs reset")
    report = read(text, "hl-smi -L")
    assert report.chips[0].health is Health.CRITICAL
    assert kinds(report) == [ProblemKind.PARTIAL]  # 8 attached, 1 listed


def test_version() -> None:
    text = "Habanalabs hl-smi/hlml version hl-1.19.1-fw-57.2.2.0 (Jan 02 2025 - 10:11:12)\n"
    report = read(text, "hl-smi -v")
    assert (report.vendor, report.tool_version) == ("gaudi", "hl-1.19.1-fw-57.2.2.0")
    assert report.problems == []


@pytest.mark.parametrize(
    ("text", "stderr", "exit_code", "kind"),
    [
        ("", "", 0, ProblemKind.MALFORMED),
        ("", "", 124, ProblemKind.TRUNCATED),
        ("", "sh: 1: hl-smi: not found", 127, ProblemKind.TOOL_MISSING),
        ("", "hl-smi: failed to initialize HLML library", 1, ProblemKind.DRIVER_DOWN),
        ("No AIP devices found", "", 0, ProblemKind.NO_DEVICES),
        ("", "Unknown query field: rows.pending", 1, ProblemKind.UNSUPPORTED),
    ],
)
def test_failures(text: str, stderr: str, exit_code: int, kind: ProblemKind) -> None:
    report = read(text, "hl-smi -Q index -f csv,noheader", stderr=stderr, exit_code=exit_code)
    assert (report.vendor, report.chips, kinds(report)) == ("gaudi", [], [kind])


def log(*, pending: str = "No", hbm: str = "44 C") -> str:
    """Return a whole block of `-q` as 1.12 prints it."""
    return (
        "================ HL-SMI LOG ================\n\n"
        "Attached AIPs                           : 1\n\n"
        "[5] AIP (accel5) 0000:5a:00.0\n"
        "        Product Name                    : HL-225\n"
        "        Module status                   : Operational\n"
        "        Fan Speed\n                                        : N/A\n"
        "        Memory Usage\n"
        "                Total                   : 98304 MB\n"
        "                Used                    : 1768 MB\n"
        "        Temperature\n"
        "                [ 1] On Chip 0          :  41 C\n"
        "                [ 2] On Chip 1          :  43 C\n"
        "                [ 5] HBM 0 Temp         :  39 C\n"
        f"                [10] HBM 5 Temp         :  {hbm}\n"
        "                [22] VRM2 Temp          :  77 C\n"
        "        Power Readings (54V PSU)\n"
        "                Power Draw              : 150 W\n"
        "                Power Limit             : 550 W\n"
        "        Power Readings (12V PSU)\n"
        "                Power Draw              : 31 W\n"
        "                Power Limit             : 50 W\n"
        "        Replaced Rows\n"
        "                Single Bit ECC          : 2\n"
        "                Double Bit ECC          : 1\n"
        f"                Pending                 : {pending}\n"
    )


def test_whole_block_gives_the_hottest_sensors_and_the_replaced_rows() -> None:
    (chip,) = read(log(), "hl-smi -q").chips
    assert (chip.index, chip.pci, chip.health) == (5, "0000:5a:00.0", Health.OK)
    assert (chip.temperature_celsius, chip.memory_temperature_celsius) == (43, 44)
    assert (chip.power_watts, chip.power_limit_watts) == (150, 550)
    assert (chip.memory_used_bytes, chip.memory_total_bytes) == (1768 * MIB, 98304 * MIB)
    assert (chip.retired_pages, chip.remap_pending) == (3, False)


def test_row_that_waits_for_its_replacement_is_pending() -> None:
    (chip,) = read(log(pending="Yes", hbm="N/A"), "hl-smi -q").chips
    assert (chip.remap_pending, chip.memory_temperature_celsius) == (True, 39)
