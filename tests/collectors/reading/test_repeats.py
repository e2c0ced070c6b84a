"""A chip that a log states twice is one chip, with the values of the later run."""

from __future__ import annotations

import pytest

from chipmedic.tool_report import ChipReport, LinkReport, ProcessReport, ToolReport
from chipmedic_collectors.reading.repeats import merge_repeats
from vendor_readings import read, recorded


def merged(*chips: ChipReport) -> list[ChipReport]:
    report = ToolReport(vendor="x", chips=list(chips))
    merge_repeats(report)
    return report.chips


def test_the_later_values_count() -> None:
    earlier = ChipReport(index=0, uuid="a", power_watts=71, temperature_celsius=40)
    later = ChipReport(index=0, uuid="a", power_watts=99)
    assert merged(earlier, later) == [
        ChipReport(index=0, uuid="a", power_watts=99, temperature_celsius=40)
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ChipReport(index=0), ChipReport(index=1)),
        (ChipReport(index=3), ChipReport(index=3, die=1)),
        (ChipReport(serial="s", pci="0000:1a:00.0"), ChipReport(serial="s", pci="0000:1b:00.0")),
        (ChipReport(power_watts=71), ChipReport(power_watts=71)),
    ],
    ids=["numbers", "dies", "one serial number of two", "no name at all"],
)
def test_what_is_not_named_alike_is_not_one(one: ChipReport, other: ChipReport) -> None:
    assert merged(one, other) == [one, other]


def test_links_and_processes_are_stated_once() -> None:
    chip = ChipReport(
        index=0,
        links=[LinkReport(4, True), LinkReport(None, True), LinkReport(4, False)],
        processes=[ProcessReport(71, "a", 7), ProcessReport(71, "a", 7), ProcessReport(71, "a", 9)],
    )
    merged(chip)
    assert chip.links == [LinkReport(4, False), LinkReport(None, True)]
    assert chip.processes == [ProcessReport(71, "a", 7), ProcessReport(71, "a", 9)]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("amd-smi-7.1-one-dead.txt", "amd-smi"),
        ("amd-smi-metric-7.0.txt", "amd-smi metric"),
        ("npu-smi-info-910b3-24.1.rc2-alarm.txt", "npu-smi info"),
        ("xpu-smi-intel-stats-max1550-1.3.txt", "xpu-smi stats -d 3"),
        ("xpu-smi-table-p800-5.0.30.txt", "xpu-smi"),
    ],
)
def test_two_runs_in_one_log_are_read_as_one(name: str, command: str) -> None:
    text = recorded(name)
    assert read(f"{text}\n{text}", command).chips == read(text, command).chips
