"""Lost chips, contained errors, resets, ill health with and without an explanation, sources in
trouble."""

from __future__ import annotations

import pytest

from chipmedic.metric import Metric
from chipmedic.model import (
    Action,
    Event,
    Gap,
    GapReason,
    Reading,
    Scan,
    Severity,
    collector_component,
)
from detector_story import CHIP, boot, detector, first, opened, readings, run, words

M = Metric


def gone(at: float, reason: GapReason) -> Scan:
    return Scan(
        source="nvidia",
        at=at,
        readings=(Reading(CHIP, M.PRESENT, 0),),
        gaps=(Gap(CHIP, None, reason, "GPU is lost (15)"),),
    )


def event(at: float, code: str, kind: str | None = None, message: str = "words") -> Scan:
    given = Event(component=CHIP, code=code, message=message, at=at, kind=kind)
    return Scan(source="kernel_log", at=at, events=(given,))


def test_the_drivers_own_word_of_a_lost_chip_counts_at_once() -> None:
    told = run(
        detector("chip_lost"), [readings(0, (CHIP, M.PRESENT, 1)), gone(5, GapReason.FAILED)]
    )
    assert words(told) == "raised@5"
    assert first(told).action is Action.REBOOT_NODE
    assert "GPU is lost (15)" in first(told).summary


def test_a_chip_missing_from_a_list_is_lost_at_the_second_look() -> None:
    once = [gone(0, GapReason.MISSING), readings(15, (CHIP, M.PRESENT, 1))]
    assert words(run(detector("chip_lost"), once)) == ""
    twice = [*once, gone(30, GapReason.MISSING), gone(45, GapReason.MISSING)]
    assert words(run(detector("chip_lost"), twice)) == "raised@45"


def test_a_lost_chip_stays_lost_through_silence_and_a_reboot_until_it_answers() -> None:
    scans = [
        gone(0, GapReason.FAILED),
        Scan(source="nvidia", at=5),
        boot(100),
        readings(110, (CHIP, M.PRESENT, 1)),
    ]
    assert words(run(detector("chip_lost"), scans)) == "raised@0 cleared@110"


@pytest.mark.parametrize(
    ("code", "severity", "action"),
    [
        (1, Severity.CRITICAL, Action.RESET_CHIP),
        (2, Severity.CRITICAL, Action.REBOOT_NODE),
        (4, Severity.CRITICAL, Action.RESET_CHIP),
        (7, Severity.CRITICAL, Action.REBOOT_NODE),
        (5, Severity.WARNING, Action.FIX_HOST),
        (99, Severity.CRITICAL, Action.RESET_CHIP),
    ],
)
def test_what_the_driver_asks_for(code: float, severity: Severity, action: Action) -> None:
    fault = first(run(detector("chip_recovery"), [readings(0, (CHIP, M.RECOVERY_ACTION, code))]))
    assert (fault.kind, fault.severity, fault.action) == ("chip.reset_required", severity, action)


def test_an_error_that_was_contained_costs_a_job_and_no_reset() -> None:
    scans = [
        readings(0, (CHIP, M.ECC_UNCORRECTED, 4)),
        event(20, "xid:94"),
        readings(30, (CHIP, M.ECC_UNCORRECTED, 5)),
        readings(700, (CHIP, M.ECC_UNCORRECTED, 5)),
    ]
    told = run(detector("memory_uncorrected"), scans)
    assert words(told, with_kind=True) == (
        "memory.contained:raised@30 memory.contained:cleared@700"
    )


def test_a_later_error_that_was_not_contained_is_uncorrectable() -> None:
    scans = [
        readings(0, (CHIP, M.ECC_UNCORRECTED, 4)),
        event(20, "xid:94"),
        event(25, "xid:95"),
        readings(30, (CHIP, M.ECC_UNCORRECTED, 5)),
    ]
    assert first(run(detector("memory_uncorrected"), scans)).kind == "memory.uncorrectable"


@pytest.mark.parametrize(
    "sign",
    [
        [readings(40, (CHIP, M.RECOVERY_ACTION, 1)), readings(60, (CHIP, M.RECOVERY_ACTION, 0))],
        [readings(40, (CHIP, M.REMAP_PENDING, 1)), readings(60, (CHIP, M.REMAP_PENDING, 0))],
        [readings(40, (CHIP, M.PCIE_REPLAYS, 9)), readings(60, (CHIP, M.PCIE_REPLAYS, 0))],
        [event(60, "kernel:amd.gpu_reset", kind="chip.reset")],
        [event(60, "xid:154", kind="info", message="changed from 0x1 to 0x0 (None)")],
        [boot(60)],
    ],
)
def test_a_reset_ends_an_uncorrectable_error(sign: list[Scan]) -> None:
    before = [readings(n * 30, (CHIP, M.ECC_UNCORRECTED, n)) for n in range(2)]
    assert words(run(detector("memory_uncorrected"), [*before, *sign])) == "raised@30 cleared@60"


def test_a_code_or_a_flag_explains_ill_health() -> None:
    def ill(at: float, *, remap: float = 0) -> Scan:
        return readings(at, (CHIP, M.HEALTH, 2), (CHIP, M.REMAP_PENDING, remap))

    alone = [ill(n * 30.0) for n in range(5)]
    assert words(run(detector("chip_health"), alone)) == "raised@60"
    coded = [event(0, "ascend:80E3A203"), *(ill(n * 30.0) for n in range(5))]
    assert words(run(detector("chip_health"), coded)) == ""
    flagged = [ill(n * 30.0, remap=1) for n in range(5)]
    assert words(run(detector("chip_health"), flagged)) == ""


def trouble(at: float, source: str, reason: GapReason) -> Scan:
    gap = Gap(collector_component(source), None, reason, "no answer in 10 s")
    return Scan(source=source, at=at, gaps=(gap,), asks_driver=source in ("nvidia", "ascend"))


def test_a_vendors_source_blocked_twice_is_a_driver_that_does_not_answer() -> None:
    scans = [
        trouble(10, "nvidia", GapReason.TIMED_OUT),
        trouble(25, "nvidia", GapReason.TIMED_OUT),
        readings(60, (CHIP, M.PRESENT, 1), source="nvidia"),
    ]
    told = run(detector("sources"), scans)
    assert words(told, with_kind=True) == (
        "collector.blocked:raised@10 driver.fault:raised@25 "
        "collector.blocked:cleared@60 driver.fault:cleared@60"
    )
    assert "nvidia" in opened(told[:2])[1].summary


def test_the_scans_of_others_tell_how_long_a_source_has_been_stuck() -> None:
    scans = [
        trouble(10, "ascend", GapReason.TIMED_OUT),
        *[Scan(source="host", at=t) for t in (15.0, 32.0)],
    ]
    told = run(detector("sources"), scans)
    assert words(told, with_kind=True) == "collector.blocked:raised@10 driver.fault:raised@32"


def test_a_host_source_that_blocks_accuses_no_driver() -> None:
    for source in ("pcie", "a_sites_own_check"):
        scans = [trouble(t, source, GapReason.TIMED_OUT) for t in (10, 70, 130)]
        told = words(run(detector("sources"), scans), with_kind=True)
        assert told == "collector.blocked:raised@10"


def test_a_source_fails_when_it_has_failed_three_times_in_a_row() -> None:
    failed, good = GapReason.FAILED, Scan(source="ascend", at=30)
    twice = [trouble(0, "ascend", failed), trouble(15, "ascend", failed), good]
    assert words(run(detector("sources"), twice)) == ""
    scans = [*twice, *(trouble(t, "ascend", failed) for t in (45, 60, 75, 90))]
    told = run(detector("sources"), [*scans, Scan(source="ascend", at=105)])
    assert words(told, with_kind=True) == "collector.failed:raised@75 collector.failed:cleared@105"


def test_what_a_part_does_not_offer_is_no_trouble() -> None:
    scans = [trouble(t, "ascend", GapReason.UNSUPPORTED) for t in (0, 15, 30, 45)]
    assert words(run(detector("sources"), scans)) == ""
