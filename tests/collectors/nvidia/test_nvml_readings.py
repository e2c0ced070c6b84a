"""Raw answers of one chip as readings and gaps: units, placeholders, what belongs together."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.metric import Metric
from chipmedic.model import GapReason, chip_component
from chipmedic_collectors.nvidia.fabric import fabric_trouble, is_waiting
from chipmedic_collectors.nvidia.readings import read_chip

ALL_BITS_32, ALL_BITS_64 = (1 << 32) - 1, (1 << 64) - 1


SLICE = [1, 0, "MIG-a", 0, [5, 9]]


def read(**answers: tuple[int, Any]) -> tuple[dict[Metric, float], dict[Metric, GapReason]]:
    chip = read_chip("GPU-1", answers)
    own = chip_component("GPU-1")
    readings = {r.metric: r.value for r in chip.readings if r.component == own}
    gaps = {g.metric: g.reason for g in chip.gaps if g.component == own and g.metric}
    assert not readings.keys() & gaps.keys(), "a metric is either read or a gap"
    return readings, gaps


@pytest.mark.parametrize(
    ("reasons", "thermal", "power"),
    [
        (0x0, 0, 0),
        (0x1, 0, 0),
        (0x4, 0, 0),
        (0x2 | 0x10 | 0x100, 0, 0),
        (0x20, 1, 0),
        (0x40, 1, 0),
        (0x48, 1, 0),
        (0x80, 0, 1),
        (0x88, 0, 1),
        (0x8, 0, 1),
        (0xC8, 1, 1),
    ],
)
def test_throttle_reasons_are_split_by_cause(reasons: int, thermal: int, power: int) -> None:
    readings, _ = read(throttle=(0, reasons))
    assert readings == {Metric.THROTTLE_THERMAL: thermal, Metric.THROTTLE_POWER: power}


@pytest.mark.parametrize(
    ("name", "value", "metric"),
    [
        ("temperature", ALL_BITS_32, Metric.TEMPERATURE),
        ("power", ALL_BITS_32, Metric.POWER),
        ("utilization", 101, Metric.UTILIZATION),
        ("utilization", -1, Metric.UTILIZATION),
        ("ecc_corrected", ALL_BITS_64, Metric.ECC_CORRECTED),
        ("pcie_replays", ALL_BITS_32, Metric.PCIE_REPLAYS),
        ("pcie_generation", 9, Metric.PCIE_SPEED),
        ("pcie_width", True, Metric.PCIE_WIDTH),
        ("memory", [5, 4], Metric.MEMORY_USED),
        ("memory", [0, 0], Metric.MEMORY_TOTAL),
        ("throttle", ALL_BITS_64, Metric.THROTTLE_THERMAL),
        ("links", [[0, 0]], Metric.LINK_UP),
        ("c2c", [[0, 0, 1]], Metric.LINK_UP),
        ("mig", [SLICE, ["MIG-b"]], Metric.PARTITIONS),
        ("mig", 3, Metric.PARTITIONS),
        ("row_banks", [1, 2, 3], Metric.MEMORY_BANKS_SPENT),
        ("row_banks", [0, 0, 0, 0, ALL_BITS_32], Metric.MEMORY_BANKS_LOW),
        ("sram_threshold", 2, Metric.SRAM_THRESHOLD),
    ],
)
def test_a_value_that_cannot_be_true_is_a_gap(name: str, value: Any, metric: Metric) -> None:
    readings, gaps = read(**{name: (0, value)})
    assert metric not in readings
    assert gaps[metric] is GapReason.MALFORMED


def test_a_memory_temperature_of_zero_is_no_sensor() -> None:
    readings, gaps = read(memory_temperature=(0, 0))
    assert not readings
    assert gaps == {Metric.MEMORY_TEMPERATURE: GapReason.UNSUPPORTED}


ROWS = ("retired_single", "retired_double", "remapped_corrected", "remapped_uncorrected")


@pytest.mark.parametrize(
    ("answers", "value", "reason"),
    [
        ([(3, None), (3, None), (0, 2), (0, 1)], 3, None),
        ([(0, 5), (0, 1), (3, None), (13, None)], 6, None),
        ([(3, None), (3, None), (0, 2), (999, None)], None, GapReason.FAILED),
        ([(3, None)] * 4, None, GapReason.UNSUPPORTED),
        ([(4, None)] * 4, None, GapReason.DENIED),
    ],
)
def test_retired_pages_are_never_a_part_of_the_sum(
    answers: list[tuple[int, int | None]], value: float | None, reason: GapReason | None
) -> None:
    named = dict(zip(ROWS, answers, strict=True)) | {"remap_pending": (0, 0)}
    readings, gaps = read(**named)
    assert readings.get(Metric.RETIRED_PAGES) == value
    assert gaps.get(Metric.RETIRED_PAGES) is reason


FLAGS = ("retired_pending", "remap_pending", "bank_remap_pending", "repair_pending")


@pytest.mark.parametrize(
    ("answers", "value", "reason"),
    [
        ([(3, None), (0, 0), (13, None), (13, None)], 0, None),
        ([(3, None), (0, 1), (3, None), (3, None)], 1, None),
        ([(3, None), (0, 0), (3, None), (0, 1)], 1, None),
        ([(3, None), (0, 0), (0, 1), (4, None)], 1, None),
        ([(3, None), (0, 0), (3, None), (4, None)], None, GapReason.DENIED),
        ([(3, None)] * 4, None, GapReason.UNSUPPORTED),
        ([(3, None), (0, 7), (3, None), (3, None)], None, GapReason.MALFORMED),
    ],
)
def test_what_waits_for_a_reset_is_said_when_one_call_says_it(
    answers: list[tuple[int, int | None]], value: float | None, reason: GapReason | None
) -> None:
    readings, gaps = read(**dict(zip(FLAGS, answers, strict=True)))
    assert readings.get(Metric.REMAP_PENDING) == value
    assert gaps.get(Metric.REMAP_PENDING) is reason


def test_the_flag_of_unrepairable_memory_is_no_failed_remap() -> None:
    readings, gaps = read(remap_pending=(0, 0), remap_failed=(0, 0), unrepairable_memory=(0, 1))
    assert (readings[Metric.REMAP_FAILED], readings[Metric.UNREPAIRABLE_MEMORY]) == (0, 1)
    readings, gaps = read(unrepairable_memory=(13, None))
    assert not readings
    assert not gaps


def test_a_slice_that_is_not_one_leaves_the_others() -> None:
    chip = read_chip("GPU-1", {"mig": (0, [SLICE, "nonsense", [2, 0, None, 4, None]])})
    used = {r.component.name: r.value for r in chip.readings if r.metric is Metric.MEMORY_USED}
    assert used == {"GPU-1/1/0": 5}
    denied = {g.component.name for g in chip.gaps if g.reason is GapReason.DENIED}
    assert denied == {"GPU-1/2/0"}


@pytest.mark.parametrize(
    ("answers", "speed"),
    [
        ({"utilization": (0, 96)}, 2.5e9),
        ({"utilization": (0, 0)}, None),
        ({"utilization": (0, 30), "throttle": (0, 0x1)}, None),
        ({}, 2.5e9),
    ],
)
def test_the_speed_of_an_idle_link_says_nothing(
    answers: dict[str, tuple[int, int]], speed: float | None
) -> None:
    readings, _ = read(pcie_generation=(0, 1), pcie_generation_max=(0, 4), **answers)
    assert readings.get(Metric.PCIE_SPEED) == speed
    assert readings[Metric.PCIE_SPEED_MAX] == 16e9


@pytest.mark.parametrize(
    ("row", "trouble"),
    [
        ([3, 0, 0, 0], None),
        ([3, 0, 0b10_10_10_10, 1], None),
        ([3, 0, 1 << 8, 0], None),
        ([0, 0, 0, 0], None),
        ([2, 999, 0, 0], None),
        ([3, 0, 0b01, 0], "degraded bandwidth"),
        ([3, 0, 1 << 4, 0], "route unhealthy"),
        ([3, 0, 5 << 8, 0], "incorrect configuration: insufficient NVLinks"),
        ([3, 0, 12 << 8, 0], "incorrect configuration: 12"),
        ([3, 0, 0, 2], "unhealthy"),
        ([3, 0, 0, 3], "limited capacity"),
        ([3, 999, 0, 0], "nvml:999"),
        ([3, 0, 1], None),
        ("nonsense", None),
    ],
)
def test_fabric_masks(row: Any, trouble: str | None) -> None:
    found = fabric_trouble((0, row))
    assert found is None if trouble is None else trouble in (found or "")


def test_a_fabric_under_way_is_waiting() -> None:
    assert [is_waiting((0, [state, 0, 0, 0])) for state in range(4)] == [False, True, True, False]
    assert not is_waiting((3, None))


NAMES = (
    *ROWS,
    *("temperature", "power", "power_limit", "utilization", "recovery_action", "memory"),
    *("ecc_corrected", "ecc_uncorrected", "pcie_replays", "remap_failed", "remap_pending"),
    *("memory_temperature", "throttle", "pcie_width", "pcie_width_max", "links"),
    *("pcie_generation", "pcie_generation_max", "processes", "fabric", "surprise"),
    *("mig", "c2c", "row_banks", "sram_threshold", "repair_pending", "unrepairable_memory"),
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 65), 1 << 65)
    | st.floats()
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(-2, 1000), ANYTHING)))
def test_no_answer_breaks_the_reader(answers: dict[str, tuple[int, Any]]) -> None:
    chip = read_chip("GPU-1", answers)
    read = [(reading.component, reading.metric) for reading in chip.readings]
    missed = [(gap.component, gap.metric) for gap in chip.gaps]
    assert not set(read) & set(missed)
    assert len(read) == len(set(read)), "one value of a thing"
    for reading in chip.readings:
        assert 0 <= reading.value < math.inf or reading.metric is Metric.TEMPERATURE
        assert reading.metric is not Metric.UTILIZATION or reading.value <= 1
