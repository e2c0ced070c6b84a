"""Escalation rules as stories: what fires, what stays silent, and when it is over.

Every story goes through JSON between two scans, so each also tells of a restart of the agent.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chipmedic.faults.escalation import builtin_rules
from chipmedic.metric import Metric
from chipmedic.model import (
    Action,
    Chip,
    Component,
    ComponentKind,
    Event,
    Fault,
    Reading,
    Scan,
    Severity,
    chip_component,
)
from detector_story import CHIP, OTHER, boot, detector, opened, run, words

DAY = 86_400.0
PORT_DOWN, RETRY_FAILED, RETRY_OK = "ascend:81078603", "ascend:8C1F860B", "ascend:8C1F8609"
SWITCH = "ascend:[0x08520003,na,L2,na]"
THIRD = chip_component("NPU-3")


def said(
    at: float,
    code: str,
    component: Component = CHIP,
    *,
    source: str = "kernel_log",
    words: str = "",
    id: str | None = None,
) -> Scan:
    """Return a scan in which a source says a code once."""
    event = Event(
        component=component,
        code=code,
        message=words or code,
        at=at,
        id=f"{source}/{component}/{code}/{at}" if id is None else id,
        quiet_seconds=None if source == "kernel_log" else 700.0,  # polled tools list their codes
    )
    return Scan(source=source, at=at, events=(event,))


def idle(*times: float) -> list[Scan]:
    return [Scan(source="host", at=at) for at in times]


def left(scans: Sequence[Scan]) -> list[Fault]:
    """Return the faults that ask for more than their code alone does, at the end."""
    found = opened(run(detector("codes"), scans))
    return [fault for fault in found if " times)" in fault.summary or "times " in fault.summary]


def isolated(scans: Sequence[Scan]) -> set[Component]:
    found = opened(run(detector("codes"), scans))
    return {fault.component for fault in found if fault.action is Action.ISOLATE_NODE}


# -- repeats

TWICE = sorted(
    code for rule in builtin_rules().repeat if rule.name == "ascend.twice" for code in rule.codes
)


def test_the_vendors_list_of_codes_that_isolate_when_they_come_twice_is_whole() -> None:
    assert len(TWICE) == 41


@pytest.mark.parametrize("code", TWICE)
def test_twice_within_a_day_isolates(code: str) -> None:
    assert isolated([said(0, code), said(DAY - 3600, code), *idle(DAY - 3500)]) == {CHIP}
    assert isolated([said(0, code), *idle(100)]) == set()


@pytest.mark.parametrize(
    ("code", "times", "every", "fires"),
    [
        ("ascend:80E01801", 2, 7200, True),
        ("ascend:80E01801", 2, DAY + 60, False),  # the first one is forgotten
        ("ascend:80E18005", 2, 7200, False),
        ("ascend:80E18005", 3, 7200, True),
        ("ascend:80E18005", 3, DAY / 2, False),  # never three within one day
        (PORT_DOWN, 4, 3600, False),
        (PORT_DOWN, 5, 3600, True),
        (PORT_DOWN, 5, 5, False),  # one burst
        ("ascend:80E01805", 9, 3600, False),  # no rule counts it
    ],
)
def test_so_many_times_within_a_window(code: str, times: int, every: float, fires: bool) -> None:
    scans = [said(n * every, code) for n in range(times)]
    assert isolated([*scans, *idle(times * every + 100)]) == ({CHIP} if fires else set())


def test_different_codes_of_one_rule_are_counted_each_by_itself() -> None:
    scans = [said(0, "ascend:80E01801"), said(3600, "ascend:80E18008"), *idle(3700)]
    assert isolated(scans) == set()


def test_two_chips_are_never_mixed() -> None:
    scans = [said(0, "ascend:80E01801"), said(3600, "ascend:80E01801", OTHER), *idle(3700)]
    assert isolated(scans) == set()


def test_nothing_escalates_before_its_hold_is_over() -> None:
    """30 s for the kernel log; a tool that asks chip after chip may be a minute behind."""
    told = [said(0, "ascend:80E01801"), said(7200, "ascend:80E01801")]
    assert isolated([*told, *idle(7229)]) == set()
    assert isolated([*told, *idle(7230)]) == {CHIP}
    polled = [
        said(0, "ascend:80E01801", source="ascend", id="one"),
        said(7200, "ascend:80E01801", source="ascend", id="two"),
    ]
    assert isolated([*polled, *idle(7260)]) == set()
    assert isolated([*polled, *idle(7290)]) == {CHIP}


@pytest.mark.parametrize(
    ("seconds_between", "fires"), [(0.0, False), (-25.0, False), (30.0, False), (31.0, True)]
)
def test_the_same_code_on_two_chips_at_once_is_software(
    seconds_between: float, fires: bool
) -> None:
    """Whichever chip is first: the word of the second comes before the hold is over."""
    scans = [said(0, "ascend:80E01801"), said(7200, "ascend:80E01801")]
    scans.append(said(7200 + seconds_between, "ascend:80E01801", OTHER))
    scans.sort(key=lambda scan: scan.at)
    assert isolated([*scans, *idle(7260, 7300)]) == ({CHIP} if fires else set())


def test_a_software_occurrence_does_not_count_and_does_not_block_later_ones() -> None:
    both = [said(0, "ascend:80E01801"), said(1, "ascend:80E01801", OTHER)]
    once = said(7200, "ascend:80E01801")
    assert isolated([*both, once, *idle(7300)]) == set()
    assert isolated([*both, once, said(9000, "ascend:80E01801"), *idle(9100)]) == {CHIP}


def test_what_a_tool_goes_on_stating_counts_from_its_beginning() -> None:
    """Eight hours of reminders are one occurrence; the second one is another id."""
    lasting = [said(n * 300, "ascend:80E18008", source="ascend", id=f"{CHIP}@0") for n in range(96)]
    assert isolated([*lasting, *idle(29_000)]) == set()
    again = said(40_000, "ascend:80E18008", source="ascend", id=f"{CHIP}@40000")
    assert isolated([*lasting, again, *idle(40_100)]) == {CHIP}


def test_a_port_that_flapped_is_forgiven_after_two_quiet_days() -> None:
    scans = [said(n * 3600, PORT_DOWN) for n in range(5)]
    story = words(run(detector("codes"), [*scans, *idle(14_500, 187_000, 188_000)]), with_kind=True)
    assert story == "link.degraded:raised@14500 link.degraded:cleared@188000"


# -- the same unit


def unit13(at: float, unit: str, pid: int, component: Component = CHIP) -> Scan:
    text = f"NVRM: Xid (PCI:0000:5e:00): 13, pid={pid}, Graphics SM Warp Exception on ({unit}): x"
    return said(at, "xid:13", component, words=text)


def unit31(at: float, client: str, pid: int) -> Scan:
    text = f"NVRM: Xid (PCI:0000:5e:00): 31, pid={pid}, MMU Fault: ENGINE GRAPHICS {client} faulted"
    return said(at, "xid:31", words=text)


SAME = "GPC 2, TPC 4, SM 1"


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        ([unit13(0, SAME, 1), unit13(1000, SAME, 2)], ("warning", "reset_chip")),
        ([unit13(0, SAME, 1), unit13(1000, SAME, 1)], None),
        ([unit13(n * 1000, SAME, 1) for n in range(3)], ("warning", "none")),  # to be diagnosed
        ([unit13(0, SAME, 1), unit13(1000, "GPC 2, TPC 4, SM 0", 2)], None),  # another unit
        ([unit13(0, SAME, 1), unit13(90_000, SAME, 2)], None),  # another day
        (
            [unit31(0, "GPC1 GPCCLIENT_T3_0", 1), unit31(900, "GPC1 GPCCLIENT_T3_0", 2)],
            ("warning", "reset_chip"),
        ),
        ([unit31(0, "GPC1 GPCCLIENT_T3_0", 1), unit31(900, "GPC0 GPCCLIENT_T3_0", 2)], None),
        ([unit31(0, "GPCCLIENT_T3_0", 1), unit31(900, "GPCCLIENT_T3_0", 2)], None),  # no GPC named
        ([unit13(0, SAME, 1), unit31(900, "GPC2 GPCCLIENT_T4_1", 2)], None),  # two kinds of error
    ],
)
def test_the_same_unit_again(scans: list[Scan], expected: tuple[str, str] | None) -> None:
    found = left([*scans, *idle(scans[-1].at + 60)])
    if expected is None:
        assert found == []
        return
    [fault] = found
    assert fault.kind == "chip.internal"
    assert (fault.severity.name.lower(), fault.action.value) == expected
    assert "same unit" in fault.summary


def test_a_program_that_fails_all_over_the_chip_names_no_unit() -> None:
    """Each failure prints a line per SM: the one unit that all share is chance."""
    scans = []
    for run_number in range(3):
        for line, unit in enumerate((SAME, "GPC 0, TPC 0, SM 0", "GPC 5, TPC 1, SM 1")):
            scans.append(unit13(run_number * 1000 + line / 10, unit, 1))
    assert left([*scans, *idle(4000)]) == []


def test_a_unit_that_fails_on_many_chips_at_once_is_software() -> None:
    scans = []
    for n in range(3):
        scans += [unit13(n * 1000, SAME, n), unit13(n * 1000 + 5, SAME, n + 10, OTHER)]
    assert left([*scans, *idle(4000)]) == []


# -- together


@pytest.mark.parametrize(
    ("scans", "kind", "severity", "action"),
    [
        (
            [said(0, PORT_DOWN), said(200, RETRY_FAILED, OTHER)],
            "link.down",
            Severity.CRITICAL,
            Action.ISOLATE_NODE,
        ),
        (
            [said(0, RETRY_FAILED, OTHER), said(200, PORT_DOWN)],  # in either order
            "link.down",
            Severity.CRITICAL,
            Action.ISOLATE_NODE,
        ),
        (
            [said(0, PORT_DOWN), said(250, "ascend:8C1F8608")],
            "link.down",
            Severity.CRITICAL,
            Action.ISOLATE_NODE,
        ),
        (
            [said(0, PORT_DOWN), said(250, "ascend:4C1F8608")],
            "link.down",
            Severity.CRITICAL,
            Action.ISOLATE_NODE,
        ),
        (
            [said(0, PORT_DOWN), said(299, RETRY_OK)],
            "link.degraded",
            Severity.WARNING,
            Action.NONE,
        ),
        (
            [said(0, SWITCH), said(10, RETRY_FAILED, OTHER)],
            "link.down",
            Severity.CRITICAL,
            Action.ISOLATE_NODE,
        ),
    ],
)
def test_two_signals_mean_more_than_each_alone(
    scans: list[Scan], kind: str, severity: Severity, action: Action
) -> None:
    [fault] = left([*scans, *idle(scans[-1].at + 60)])
    assert (fault.component, fault.kind, fault.severity, fault.action) == (
        CHIP,
        kind,
        severity,
        action,
    )


@pytest.mark.parametrize(
    "scans",
    [
        [said(0, PORT_DOWN)],
        [said(0, RETRY_FAILED)],
        [said(0, RETRY_FAILED), said(10, RETRY_OK)],  # the port never went down
        [said(0, PORT_DOWN), said(301, RETRY_FAILED)],
        [said(0, SWITCH), said(10, RETRY_OK)],
    ],
)
def test_each_signal_alone_or_too_far_from_the_other_is_nothing(scans: list[Scan]) -> None:
    assert left([*scans, *idle(scans[-1].at + 100)]) == []


def test_ports_that_go_down_together_are_the_networks_fault() -> None:
    ports = [said(n, PORT_DOWN, chip) for n, chip in enumerate((CHIP, OTHER, THIRD))]
    assert left([*ports, said(20, RETRY_FAILED), *idle(100)]) == []


def test_a_failed_retry_of_every_rank_blames_the_one_port_that_was_down() -> None:
    retries = [said(20 + n, RETRY_FAILED, chip) for n, chip in enumerate((CHIP, OTHER, THIRD))]
    assert isolated([said(0, PORT_DOWN, OTHER), *retries, *idle(100)]) == {OTHER}


def test_what_nobody_judged_for_a_day_or_before_a_boot_is_not_judged_any_more() -> None:
    pair = [said(0, PORT_DOWN), said(9, RETRY_FAILED)]
    assert isolated([*pair, *idle(60)]) == {CHIP}
    assert isolated([*pair, *idle(2 * DAY)]) == set()
    assert isolated([*pair, boot(20), *idle(60)]) == set()


def test_a_pair_is_over_after_a_quiet_hour() -> None:
    told = run(
        detector("codes"), [said(0, PORT_DOWN), said(9, RETRY_FAILED), *idle(60, 3600, 3700)]
    )
    assert words(told, with_kind=True) == "link.down:raised@60 link.down:cleared@3700"


# -- companions


def test_what_a_memory_error_brings_along_belongs_to_it() -> None:
    scans = [said(100, "ascend:80E01801"), said(104, "ascend:80FA4E00"), *idle(130)]
    [fault] = opened(run(detector("codes"), scans))
    assert (fault.kind, fault.codes) == (
        "memory.uncorrectable",
        ("ascend:80E01801", "ascend:80FA4E00"),
    )
    assert fault.action is Action.RESTART_JOB  # the companion asks for nothing


@pytest.mark.parametrize(
    "second",
    [
        said(106, "ascend:80FA4E00"),  # too late
        said(102, "ascend:80FA4E00", OTHER),  # another chip
        said(102, "ascend:40F84E00"),  # the chip is gone: never hidden
        said(102, "xid:119"),  # another vendor's
    ],
)
def test_what_comes_later_or_elsewhere_or_is_graver_stands_alone(second: Scan) -> None:
    found = opened(run(detector("codes"), [said(100, "ascend:80E01801"), second, *idle(130)]))
    assert len(found) == 2


def test_of_one_moment_the_memory_error_is_the_root_however_they_are_listed() -> None:
    listed = [said(100, "ascend:80FA4E00"), said(100, "ascend:80E01801")]
    events = tuple(event for scan in listed for event in scan.events)
    [fault] = opened(run(detector("codes"), [Scan(source="ascend", at=100, events=events)]))
    assert fault.codes == ("ascend:80E01801", "ascend:80FA4E00")


def test_a_companion_that_its_tool_goes_on_stating_is_a_fault_after_all() -> None:
    def stated(at: float, code: str) -> Scan:
        return said(at, code, source="ascend", id=f"{code}@100")

    hidden = [stated(100, "ascend:80E01801"), stated(101, "ascend:80FA4E00")]
    told = run(detector("codes"), [*hidden, stated(401, "ascend:80FA4E00")])
    assert [fault.kind for fault in opened(told[:2])] == ["memory.uncorrectable"]
    assert len(opened(told)) == 2


# -- lasting

NPU = chip_component("NPU-0")
PORT = Component(ComponentKind.LINK, "NPU-0/0")


def port(at: float, is_up: bool, source: str = "ascend", *, code: str = "") -> Scan:
    events = said(at, code, NPU).events if code else ()
    reading = Reading(PORT, Metric.LINK_UP, float(is_up))
    return Scan(source=source, at=at, readings=(reading,), events=events)


def lasting(scans: Sequence[Scan]) -> str:
    return words(run(detector("links"), scans), with_kind=True)


def test_a_port_down_for_longer_than_tolerated_and_up_again_for_long_enough() -> None:
    up = [port(0, is_up=True)]
    assert lasting([*up, *(port(10 + t, is_up=False) for t in (0, 10, 19))]) == ""
    down = [*up, *(port(10 + t, is_up=False) for t in (0, 10, 20))]
    assert lasting(down) == "link.down:raised@30"
    short = [*down, *(port(40 + t, is_up=True) for t in (0, 30, 59))]
    assert lasting(short) == "link.down:raised@30"
    assert lasting([*short, port(100, is_up=True)]) == "link.down:raised@30 link.down:cleared@100"


def test_it_is_graded_as_the_vendor_does_and_grave_past_what_collectives_survive() -> None:
    scans = [port(0, is_up=True), *(port(10 + t, is_up=False) for t in (0, 20, 30))]
    told = run(detector("links"), scans)
    graded = [(change.fault.severity, change.fault.action) for _, change in told]
    assert graded == [
        (Severity.WARNING, Action.ISOLATE_NODE),
        (Severity.CRITICAL, Action.ISOLATE_NODE),
    ]
    assert told[0][1].fault.codes == (PORT_DOWN,)


def test_links_of_other_sources_keep_the_general_limit() -> None:
    def link(at: float, is_up: bool) -> Scan:
        return port(at, is_up, "nvidia")

    scans = [link(0, True), link(10, False), link(31, False)]
    assert lasting(scans) == ""
    assert lasting([*scans, link(40, False)]) == "link.down:raised@40"


def test_the_code_dates_the_down_that_the_next_look_finds() -> None:
    """Ports are looked at once a minute; the event came 25 s before."""
    up = port(0, is_up=True)
    told = said(35, PORT_DOWN, NPU)
    assert lasting([up, told, port(60, is_up=False)]) == "link.down:raised@60"
    assert lasting([up, port(60, is_up=False)]) == ""
    assert lasting([up, told, port(50, is_up=True), port(60, is_up=False)]) == ""  # it came back
    assert lasting([up, told, port(200, is_up=False)]) == ""  # too long ago to be this down


def test_a_tool_that_goes_on_stating_the_code_says_the_same_without_a_look_at_the_port() -> None:
    def stated(at: float) -> Scan:
        return said(at, PORT_DOWN, source="ascend", id=f"{PORT_DOWN}@0")

    told = run(detector("codes"), [stated(0), stated(19)])
    assert told == []
    told = run(detector("codes"), [stated(0), stated(300)])
    assert words(told, with_kind=True) == "link.down:raised@300"
    [fault] = opened(told)
    assert (fault.severity, fault.action) == (Severity.WARNING, Action.ISOLATE_NODE)


# -- pages


@pytest.mark.parametrize(
    ("pages", "kinds"),
    [
        (15, []),
        (16, ["memory.remap_pending"]),
        (63, ["memory.remap_pending"]),
        (64, ["memory.remap_pending", "memory.remap_failed"]),
    ],
)
def test_pages_over_the_vendors_thresholds(pages: int, kinds: list[str]) -> None:
    npu = Chip(uid="NPU-0", vendor="ascend", model="910B", index=0)
    reading = Reading(npu.component, Metric.RETIRED_PAGES, pages)
    scan = Scan(source="ascend", at=0, chips=(npu,), readings=(reading,))
    found = [
        fault.kind
        for name in ("pages_worn", "pages_spent")
        for fault in opened(run(detector(name), [scan]))
    ]
    assert found == kinds
