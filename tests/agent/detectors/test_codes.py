"""Codes: what opens, what attaches, what escalates, and how each ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from chipmedic.metric import Metric
from chipmedic.model import (
    Action,
    Change,
    Component,
    Event,
    JobStatus,
    Reading,
    Scan,
    Severity,
    collector_component,
)
from detector_story import CHIP, OTHER, boot, detector, first, opened, readings, run, words


def xid(
    at: float,
    number: int,
    *,
    component: Component = CHIP,
    source: str = "kernel_log",
    words: str = "pid=4711, name=python",
    id: str | None = None,
    **given: object,
) -> Scan:
    event = Event(
        component=component,
        code=f"xid:{number}",
        message=f"NVRM: Xid (PCI:0000:5e:00): {number}, {words}",
        at=at,
        id=(f"boot/{at}/{number}" if source == "kernel_log" else "") if id is None else id,
        **given,  # type: ignore[arg-type]
    )
    return Scan(source=source, at=at, events=(event,))


def idle(*times: float) -> list[Scan]:
    return [Scan(source="host", at=at) for at in times]


def story(scans: Sequence[Scan]) -> str:
    return words(run(detector("codes"), scans), with_kind=True)


def test_a_code_becomes_the_fault_that_the_catalog_says() -> None:
    fault = first(run(detector("codes"), [xid(5, 79)]))
    assert (fault.kind, fault.severity, fault.codes) == (
        "chip.lost",
        Severity.CRITICAL,
        ("xid:79",),
    )
    assert "0000:5e:00" in fault.evidence[0]


def test_an_unknown_code_is_kept_and_named_with_its_line() -> None:
    fault = first(run(detector("codes"), [xid(5, 99_999, words="strange words")]))
    assert (fault.kind, fault.severity) == ("chip.internal", Severity.WARNING)
    assert "xid:99999" in fault.summary
    assert "strange words" in fault.summary


def test_what_the_text_itself_says_goes_before_the_catalog() -> None:
    scan = xid(5, 149, kind="link.down", severity=Severity.CRITICAL, action=Action.RESET_CHIP)
    fault = first(run(detector("codes"), [scan]))
    assert (fault.kind, fault.action) == ("link.down", Action.RESET_CHIP)


FATAL = {"kind": "link.down", "severity": Severity.CRITICAL, "action": Action.RESET_CHIP}


def test_the_line_behind_a_bare_xid_corrects_what_the_number_opened() -> None:
    """NVML's event set is first and knows the number; the kernel log knows that it is fatal."""
    bare, line = xid(0, 149, source="nvidia", words="by NVML"), xid(0.3, 149, **FATAL)
    told = run(detector("codes"), [bare, line, *(xid(0.4 + n / 10, 149, **FATAL) for n in (0, 1))])
    assert words(told[:3], with_kind=True) == (
        "link.errors:raised@0 link.errors:cleared@0.3 link.down:raised@0.3"
    )
    [fault] = opened(told)
    assert (fault.severity, fault.action, fault.count) == (
        Severity.CRITICAL,
        Action.RESET_CHIP,
        1,
    )
    # the other way round nothing is added
    assert story([line, xid(1, 149, source="nvidia", words="by NVML")]) == "link.down:raised@0.3"


def test_a_line_that_calls_a_bare_xid_harmless_takes_it_back() -> None:
    bare = xid(0, 149, source="nvidia", words="by NVML")
    line = xid(1, 149, kind="link.errors", severity=Severity.INFO, action=Action.NONE)
    assert story([bare, line]) == "link.errors:raised@0 link.errors:cleared@1"


def test_the_recovery_action_of_a_late_line_reaches_the_fault() -> None:
    scans = [xid(0, 119), xid(2, 154, source="nvidia", words="by NVML")]
    scans.append(xid(2.5, 154, kind="chip.reset_required", action=Action.REBOOT_NODE))
    assert opened(run(detector("codes"), scans))[0].action is Action.REBOOT_NODE


def test_a_users_own_error_expires_and_a_repeat_keeps_it() -> None:
    assert story([xid(0, 31), *idle(300, 599)]) == "app.fault:raised@0"
    assert story([xid(0, 31), *idle(300, 600)]) == "app.fault:raised@0 app.fault:cleared@600"
    kept = [xid(0, 31), xid(500, 31), *idle(700, 1100)]
    assert story(kept) == "app.fault:raised@0 app.fault:updated@500 app.fault:cleared@1100"


def test_silence_and_time_cure_no_chip() -> None:
    assert story([xid(0, 79), *idle(10_000, 900_000)]) == "chip.lost:raised@0"


def test_a_reboot_ends_what_it_cures_and_is_told() -> None:
    told = run(detector("codes"), [xid(0, 79), boot(100), *idle(800)])
    assert words(told, with_kind=True) == (
        "chip.lost:raised@0 chip.lost:cleared@100 node.rebooted:raised@100 "
        "node.rebooted:cleared@800"
    )


def test_a_reset_ends_what_asked_for_one_and_nothing_else() -> None:
    reset = [
        readings(50, (CHIP, Metric.RECOVERY_ACTION, 1)),
        readings(60, (CHIP, Metric.RECOVERY_ACTION, 0)),
    ]
    assert story([xid(0, 119), *reset]) == "chip.firmware:raised@0 chip.firmware:cleared@60"
    assert story([xid(0, 119, component=OTHER), *reset]) == "chip.firmware:raised@0"
    assert story([xid(0, 79), *reset]) == "chip.lost:raised@0"


def test_a_lost_chip_that_answers_for_a_minute_is_back() -> None:
    def present(at: float, value: float) -> Scan:
        return readings(at, (CHIP, Metric.PRESENT, value))

    back = [xid(0, 79), present(30, 1), present(60, 1), present(90, 1)]
    assert story(back) == "chip.lost:raised@0 chip.lost:cleared@90"
    dying = [xid(0, 79), present(30, 1), present(60, 0), present(90, 1), present(149, 1)]
    assert story(dying) == "chip.lost:raised@0"


def test_nvml_and_the_kernel_log_tell_one_event_once() -> None:
    scans = [xid(0, 48, source="nvidia"), xid(1.5, 48), xid(3, 48, source="nvidia")]
    told = run(detector("codes"), scans)
    assert opened(told)[0].count == 2  # at 0 and, by the same source again, at 3
    assert len(opened(told)[0].evidence) == 1


def test_a_late_word_about_the_beginning_of_a_burst_is_no_new_event() -> None:
    """The event set's words come in one go after the driver let go of it."""
    burst = [xid(at, 48) for at in (0.0, 20.0, 40.0)]
    late = [
        replace(scan, at=60.0)
        for at in (0.5, 20.5, 40.5)
        for scan in [xid(at, 48, source="nvidia")]
    ]
    assert opened(run(detector("codes"), [*burst, *late]))[0].count == 3


@pytest.mark.parametrize("order", [("nvidia", "kernel_log"), ("kernel_log", "nvidia")])
def test_the_bare_number_takes_over_what_the_kernel_log_says_of_it(order: tuple[str, str]) -> None:
    unit = "pid=9, Graphics SM Warp Exception on (GPC 2, TPC 4, SM 1): Out Of Range Address"
    scans = [
        xid(at + delay, 13, source=source, words=unit if source == "kernel_log" else "")
        for at in (0.0, 600.0, 1200.0)
        for delay, source in zip((0.0, 0.2), order, strict=True)
    ]
    told = words(run(detector("codes"), [*scans, *idle(1300)]), with_kind=True)
    assert "chip.internal:raised" in told


def test_a_record_that_is_read_again_after_a_restart_counts_once() -> None:
    told = run(detector("codes"), [xid(0, 48, id="b/17"), xid(0, 48, id="b/17")])
    assert words(told) == "raised@0"
    assert opened(told)[0].count == 1


def test_companions_attach_to_the_cause_and_open_nothing() -> None:
    announced = xid(1, 154, severity=Severity.CRITICAL, action=Action.REBOOT_NODE)
    told = run(detector("codes"), [xid(0, 119), xid(0.3, 45), announced])
    assert len(opened(told)) == 1
    fault = opened(told)[0]
    assert fault.codes == ("xid:119", "xid:45", "xid:154")
    assert (fault.action, fault.count) == (Action.REBOOT_NODE, 1)


def test_a_teardown_alone_is_no_fault_and_an_announcement_alone_is_one() -> None:
    assert story([xid(0, 45)]) == ""
    alone = xid(0, 154, severity=Severity.CRITICAL, action=Action.RESET_CHIP)
    assert story([alone]) == "chip.reset_required:raised@0"
    assert story([xid(0, 154, kind="info", severity=Severity.INFO, action=Action.NONE)]) == ""


def test_a_companion_of_one_chip_does_not_attach_to_another() -> None:
    told = run(detector("codes"), [xid(0, 119), xid(1, 45, component=OTHER)])
    assert opened(told)[0].codes == ("xid:119",)


@pytest.mark.parametrize(
    ("programs", "escalates"),
    [
        (["pid=1", "pid=1", "pid=1", "pid=1"], False),  # one program, again and again
        (["pid=1", "pid=2"], False),
        (["pid=1", "pid=2", "pid=3"], True),
        (["", "", ""], False),  # no program named
    ],
)
def test_a_chip_that_fails_under_different_programs_is_suspected(
    programs: list[str], escalates: bool
) -> None:
    scans = [xid(n * 1000, 31, words=text) for n, text in enumerate(programs)] + idle(9000)
    kinds = {fault.kind for fault in opened(run(detector("codes"), scans))}
    assert ("chip.internal" in kinds) is escalates


def test_processes_of_one_job_are_one_program() -> None:
    status = JobStatus(job="slurm:7", at=0, pids=(1, 2, 3))
    jobs = Scan(source="jobs", at=0, jobs=(status,))
    scans = [jobs, *(xid(n * 1000, 31, words=f"pid={n}") for n in (1, 2, 3)), *idle(9000)]
    assert "chip.internal" not in {f.kind for f in opened(run(detector("codes"), scans))}


def test_the_same_code_on_two_chips_at_once_is_software() -> None:
    scans = [xid(n * 1000, 31, words=f"pid={n}") for n in (1, 2)]
    both = [xid(3000, 31, words="pid=3", component=OTHER), xid(3010, 31, words="pid=4")]
    told = run(detector("codes"), [*scans, *both, *idle(9000)])
    assert "chip.internal" not in {fault.kind for fault in opened(told)}


def ascend(at: float, code: str | None, health: float, since: float = 0) -> Scan:
    id = f"{CHIP}/ascend:{code}@{since:.0f}"
    event = Event(
        component=CHIP,
        code=f"ascend:{code}",
        message="health",
        at=at,
        id=id,
        quiet_seconds=700.0,
    )
    return Scan(
        source="ascend",
        at=at,
        readings=(Reading(CHIP, Metric.HEALTH, health),),
        events=() if code is None else (event,),
    )


def test_a_burst_of_lines_is_one_occurrence_for_escalation() -> None:
    def event(at: float, id: str) -> Scan:
        given = Event(component=CHIP, code="ascend:80E01801", message="HBM", at=at, id=id)
        return Scan(source="kernel_log", at=at, events=(given,))

    told = run(detector("codes"), [*(event(n * 0.2, f"b/{n}") for n in range(50)), *idle(100)])
    assert Action.ISOLATE_NODE not in {fault.action for fault in opened(told)}
    assert opened(told)[0].count == 50


def test_a_burst_of_one_program_does_not_push_out_the_programs_before() -> None:
    scans = [xid(0, 31, words="pid=1"), xid(4000, 31, words="pid=2")]
    scans += [xid(8000 + n, 31, words="pid=3") for n in range(50)] + idle(8100)
    assert "chip.internal" in {fault.kind for fault in opened(run(detector("codes"), scans))}


def test_a_code_that_a_tool_goes_on_stating_is_one_occurrence_and_ends_with_it() -> None:
    """The collector tells a code when it begins and reminds of it every 300 s, under one id."""
    lasting = [ascend(n * 15, "80E18008" if n % 20 == 0 else None, 2) for n in range(100)]
    assert words(run(detector("codes"), lasting)) == "raised@0"
    well = [ascend(1500 + n * 15, None, 0) for n in range(4)]
    assert words(run(detector("codes"), [*lasting, *well])) == "raised@0 cleared@1530"


def test_a_code_of_a_chip_that_its_tool_calls_well_ends_when_no_reminder_comes() -> None:
    told = [ascend(n * 15, "80E18008" if n % 20 == 0 else None, 0) for n in range(60)]
    silent = [ascend(900 + n * 15, None, 0) for n in range(60)]
    assert words(run(detector("codes"), [*told, *silent])) == "raised@0 cleared@1305"


def test_a_code_that_comes_back_is_a_new_occurrence() -> None:
    scans = [
        ascend(0, "80E18008", 2),
        *(ascend(15 + n * 15, None, 0) for n in range(4)),
        ascend(7200, "80E18008", 2, since=7200),
        *idle(7290),
    ]
    actions = {fault.action for fault in opened(run(detector("codes"), scans))}
    assert Action.ISOLATE_NODE in actions  # twice within a day


def test_a_return_code_of_a_library_lasts_as_long_as_it_is_returned() -> None:
    def nvml(at: float, code: str | None) -> Scan:
        event = Event(
            component=CHIP, code=f"nvml:{code}", message="driver", at=at, quiet_seconds=30.0
        )
        return Scan(
            source="nvidia",
            at=at,
            readings=(Reading(CHIP, Metric.TEMPERATURE, 40),),
            events=() if code is None else (event,),
        )

    scans = [nvml(n * 5, "16" if n < 20 else None) for n in range(40)]
    assert words(run(detector("codes"), scans)) == "raised@0 cleared@125"


@pytest.mark.parametrize("vendor", ["ascend", "amd"])
def test_a_tool_that_showed_no_chip_is_well_when_it_shows_one(vendor: str) -> None:
    event = Event(
        component=collector_component(vendor),
        code=f"{vendor}:tool:driver_down",
        message="driver not initialized",
        at=0,
        id=f"{vendor}:tool:driver_down@0",
        quiet_seconds=20.0,
        kind="driver.fault",
        severity=Severity.WARNING,
        action=Action.FIX_HOST,
    )
    gone = readings(15, (CHIP, Metric.PRESENT, 0), source=vendor)
    back = [replace(ascend(at, None, 0), source=vendor) for at in (30, 45)]
    told = run(detector("codes"), [Scan(source=vendor, at=0, events=(event,)), gone, *back])
    assert words(told, with_kind=True) == "driver.fault:raised@0 driver.fault:cleared@30"


def test_a_chip_that_is_still_ill_is_not_cured_by_the_silence_of_its_tool() -> None:
    scans = [ascend(0, "80E18008", 2), *(ascend(n * 15, None, 2) for n in range(1, 60))]
    assert words(run(detector("codes"), scans)) == "raised@0"


def test_old_errors_of_programs_in_the_log_of_a_host_long_up_are_not_raised() -> None:
    old = xid(100, 31).events
    assert story([Scan(source="kernel_log", at=90_000, events=old)]) == ""
    lost = xid(100, 79).events
    told = run(detector("codes"), [Scan(source="kernel_log", at=90_000, events=lost)])
    assert first(told).since == 100


def test_infos_open_nothing_except_a_reset_that_explains() -> None:
    info = Event(component=CHIP, code="sxid:99", message="x", at=0, severity=Severity.INFO)
    assert story([Scan(source="kernel_log", at=0, events=(info,))]) == ""
    reset = Event(
        component=CHIP,
        code="kernel:amd.gpu_reset",
        message="GPU reset succeeded",
        at=0,
        id="b/1",
        kind="chip.reset",
        severity=Severity.INFO,
        action=Action.NONE,
    )
    scans = [Scan(source="kernel_log", at=0, events=(reset,)), *idle(600)]
    assert story(scans) == "chip.reset:raised@0 chip.reset:cleared@600"


def test_a_storm_of_one_code_is_one_fault_with_bounded_evidence() -> None:
    scans = [xid(n * 0.01, 95, words=f"line {n}") for n in range(500)]
    told: list[tuple[float, Change]] = run(detector("codes"), scans)
    fault = opened(told)[0]
    assert fault.count == 500
    assert len(fault.evidence) == 8
    assert "line 0" in fault.evidence[0]
    assert "line 499" in fault.evidence[-1]
