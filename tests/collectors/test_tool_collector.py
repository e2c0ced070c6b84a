"""The collector that all polled tools share, with a vendor of a few lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic import Component, ComponentKind, GapReason, Metric, Severity
from chipmedic.errors import ChipmedicError, ToolBlocked
from chipmedic.host import Answer
from chipmedic.model import collector_component
from chipmedic.testing import FakeHost
from chipmedic.tool_report import (
    ChipReport,
    Health,
    LinkReport,
    ProblemKind,
    ProcessReport,
    ToolReader,
    ToolReport,
    ToolRun,
)
from chipmedic_collectors.pci_bus import PciPattern
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from fuzzing import examples

COLLECTOR = collector_component("toy")
ADDRESSES = ("0000:11:00.0", "0000:21:00.0")


def read(run: ToolRun) -> ToolReport:
    """Read lines of JSON, one chip each; `!kind words` is a complaint."""
    report = ToolReport(vendor="toy")
    for line in (*run.stdout.splitlines(), *run.stderr.splitlines()):
        if line.startswith("!"):
            kind, _, words = line[1:].partition(" ")
            report.add_problem(ProblemKind(kind), words)
            continue
        fields = json.loads(line)
        if "health" in fields:
            fields["health"] = Health(fields["health"])
        if "links" in fields:
            fields["links"] = [LinkReport(None, is_up=state) for state in fields["links"]]
        if "processes" in fields:
            fields["processes"] = [ProcessReport(pid) for pid in fields["processes"]]
        report.chips.append(ChipReport(**fields))
    return report


class Toy(ToolCollector):
    """A vendor of six lines."""

    vendor = "toy"
    reader = ToolReader("toy", lambda run: 1, read)
    pci = PciPattern(vendors=frozenset({"0x1dff"}), classes=("0x1200",))
    plans = (
        Plan(
            questions=(
                Question(argv=("toy",), states=frozenset({Metric.TEMPERATURE})),
                Question(argv=("toy", "who"), every_seconds=600.0, names_chips=True),
                Question(
                    argv=("toy", "ecc"),
                    every_seconds=300.0,
                    states=frozenset({Metric.ECC_UNCORRECTED}),
                ),
            ),
            one_chip=("toy", "-i", "{index}"),
        ),
    )


def rows(*chips: Mapping[str, object]) -> str:
    return "".join(json.dumps(chip) + "\n" for chip in chips)


WARM = ({"index": 0, "temperature_celsius": 40}, {"index": 1, "temperature_celsius": 41})
WHO = (
    {"index": 0, "pci": ADDRESSES[0], "uuid": "TOY-A", "name": "Toy 9", "serial": "S1"},
    {"index": 1, "pci": ADDRESSES[1], "uuid": "TOY-B", "name": "Toy 9", "serial": "S1"},
)
ECC = (
    {"index": 0, "ecc_uncorrected_total": 0},
    {"index": 1, "ecc_uncorrected_total": 5},
)
A, B = (Component(ComponentKind.CHIP, uid) for uid in ("TOY-A", "TOY-B"))


def bus(*addresses: str, driver: str = "toy") -> dict[str, str | OSError]:
    files: dict[str, str | OSError] = {}
    for address in addresses:
        folder = f"/sys/bus/pci/devices/{address}"
        files |= {f"{folder}/vendor": "0x1dff\n", f"{folder}/class": "0x120000\n"}
        files |= {f"{folder}/device": "0x0001\n", f"{folder}/uevent": f"DRIVER={driver}\n"}
    return files


class Story:
    """A host whose tool says what the test writes, and its collector."""

    def __init__(self) -> None:
        self.tools: dict[str, str | Answer | ChipmedicError] = {
            "toy": rows(*WARM),
            "toy who": rows(*WHO),
            "toy ecc": rows(*ECC),
        }
        self.host = FakeHost(self.tools, bus(*ADDRESSES))
        found = Toy.discover(self.host)
        assert found is not None
        self.toy = found

    def asked(self) -> list[str]:
        ran = [" ".join(argv) for argv in self.host.ran]
        self.host.ran.clear()
        return ran


@pytest.fixture
def story() -> Story:
    return Story()


# -- discovery


def test_here_by_the_bus_though_the_tool_is_missing() -> None:
    toy = Toy.discover(FakeHost({}, bus(ADDRESSES[0])))
    assert toy is not None
    scan = toy.scan()
    assert [gap.component for gap in scan.gaps] == [COLLECTOR]
    (event,) = scan.events
    assert (event.code, event.severity) == ("toy:tool:tool_missing", Severity.WARNING)


def test_here_by_the_tool_where_no_bus_is_seen() -> None:
    assert Toy.discover(FakeHost({"toy": ""}, {})) is not None


@pytest.mark.parametrize(
    "files",
    [
        bus(ADDRESSES[0], driver="vfio-pci"),
        bus(ADDRESSES[0]) | {f"/sys/bus/pci/devices/{ADDRESSES[0]}/physfn": ""},
        bus(ADDRESSES[0]) | {f"/sys/bus/pci/devices/{ADDRESSES[0]}/class": "0x060000"},
        bus(ADDRESSES[0]) | {f"/sys/bus/pci/devices/{ADDRESSES[0]}/vendor": "0x8086"},
    ],
)
def test_not_here(files: dict[str, str | OSError]) -> None:
    assert Toy.discover(FakeHost({"toy": rows(*WARM)}, files)) is None


def test_a_name_that_others_have_too_proves_nothing() -> None:
    class Shared(Toy):
        plans = (replace(Toy.plans[0], is_own_name=False),)

    assert Shared.discover(FakeHost({"toy": rows(*WARM)}, {})) is None
    assert Shared.discover(FakeHost({"toy": rows(*WARM)}, bus(ADDRESSES[0]))) is not None


# -- what is asked, and when


def test_first_scan(story: Story) -> None:
    scan = story.toy.scan()
    assert story.asked() == ["toy", "toy who", "toy ecc"]
    assert [(chip.uid, chip.pci, chip.model, chip.index) for chip in scan.chips] == [
        ("TOY-A", ADDRESSES[0], "Toy 9", 0),
        ("TOY-B", ADDRESSES[1], "Toy 9", 1),
    ]
    assert scan.values(Metric.TEMPERATURE) == {A: 40.0, B: 41.0}
    assert scan.values(Metric.ECC_UNCORRECTED) == {A: 0.0, B: 5.0}
    assert scan.is_inventory
    assert scan.gaps == ()


def test_slow_questions_are_slow(story: Story) -> None:
    story.toy.scan()
    story.asked()
    story.host.at += 299
    story.toy.scan()
    assert story.asked() == ["toy"]
    story.host.at += 1
    story.toy.scan()
    assert story.asked() == ["toy", "toy ecc"]


def test_a_clock_that_is_set_back_puts_no_question_off(story: Story) -> None:
    story.toy.scan()
    story.host.at -= 5 * 3600
    story.toy.scan()
    story.asked()
    story.host.at += 300
    story.toy.scan()
    assert story.asked() == ["toy", "toy ecc"]


def test_an_option_that_is_not_known_is_left_alone(story: Story) -> None:
    story.tools["toy ecc"] = Answer("", "!unsupported no such option", 2)
    scan = story.toy.scan()
    assert {(gap.component, gap.reason) for gap in scan.gaps} == {
        (A, GapReason.UNSUPPORTED),
        (B, GapReason.UNSUPPORTED),
    }
    assert scan.events == ()
    story.host.at += 301
    story.asked()
    story.toy.scan()
    assert story.asked() == ["toy"]


def test_a_slow_question_that_hangs_rests(story: Story) -> None:
    story.toy.scan()
    story.tools["toy ecc"] = ToolBlocked("toy: no answer in 10 s")
    story.host.at += 300
    scan = story.toy.scan()
    assert {(gap.component, gap.metric, gap.reason) for gap in scan.gaps} == {
        (A, Metric.ECC_UNCORRECTED, GapReason.TIMED_OUT),
        (B, Metric.ECC_UNCORRECTED, GapReason.TIMED_OUT),
    }
    assert scan.values(Metric.TEMPERATURE) == {A: 40.0, B: 41.0}


# -- values


def test_a_value_that_came_before_and_is_missing_now(story: Story) -> None:
    story.toy.scan()
    story.tools["toy"] = rows(WARM[0], {"index": 1, "power_watts": 90})
    scan = story.toy.scan()
    (gap,) = scan.gaps
    assert (gap.component, gap.metric, gap.reason) == (B, Metric.TEMPERATURE, GapReason.FAILED)


def test_a_value_that_never_came_is_not_offered(story: Story) -> None:
    story.tools["toy"] = rows({"index": 0, "power_watts": 80}, {"index": 1, "power_watts": 90})
    reasons = {gap.reason for gap in story.toy.scan().gaps}
    assert reasons == {GapReason.UNSUPPORTED}


def test_states_links_processes_and_codes(story: Story) -> None:
    sick = {
        **WARM[1],
        "health": "critical",
        "error_codes": ["77"],
        "links": [True, False],
        "processes": [9],
    }
    story.tools["toy"] = rows(WARM[0], sick)
    scan = story.toy.scan()
    assert scan.values(Metric.HEALTH) == {B: 2.0}
    assert [(p.chip, p.pid) for p in scan.processes] == [("TOY-B", 9)]
    ports = {component.name: up for component, up in scan.values(Metric.LINK_UP).items()}
    assert ports == {"TOY-B/0": 1.0, "TOY-B/1": 0.0}
    (event,) = scan.events
    assert (event.component, event.code) == (B, "toy:77")
    assert event.quiet_seconds  # it stands for as long as the tool lists it
    story.host.at += 15
    assert story.toy.scan().events == ()  # told once
    story.host.at += 15
    story.tools["toy"] = rows(WARM[0], {**WARM[1], "error_codes": []})
    assert story.toy.scan().events == ()
    story.host.at += 15
    story.tools["toy"] = rows(WARM[0], sick)
    assert [again.id == event.id for again in story.toy.scan().events] == [False]


def test_the_share_of_memory_becomes_bytes_where_the_size_is_known(story: Story) -> None:
    half = {"index": 0, "memory_used_ratio": 0.5, "memory_total_bytes": 64}
    story.tools["toy"] = rows(half, WARM[1])
    assert story.toy.scan().values(Metric.MEMORY_USED) == {A: 32.0}


# -- chips that are gone or silent


def test_a_row_without_values_is_no_answer(story: Story) -> None:
    story.toy.scan()
    story.tools["toy"] = rows(WARM[0], {"index": 1, "power_limit_watts": 300})
    scan = story.toy.scan()
    assert scan.values(Metric.PRESENT) == {A: 1.0}
    (gap,) = scan.gaps
    assert (gap.component, gap.metric, gap.reason) == (B, None, GapReason.FAILED)


def test_a_lost_row_is_lost(story: Story) -> None:
    story.toy.scan()
    story.tools["toy"] = rows(WARM[0], {**WARM[1], "lost": True})
    assert story.toy.scan().values(Metric.PRESENT) == {A: 1.0, B: 0.0}


def test_a_missing_row_is_lost_by_name_though_the_numbers_move(story: Story) -> None:
    story.toy.scan()
    story.tools["toy"] = rows({"index": 0, "temperature_celsius": 41})
    story.tools["toy who"] = rows({**WHO[1], "index": 0})
    scan = story.toy.scan()
    assert scan.values(Metric.PRESENT) == {A: 0.0, B: 1.0}
    assert scan.values(Metric.TEMPERATURE) == {B: 41.0}
    assert "toy 0 (0000:11:00.0)" in next(gap.detail for gap in scan.gaps if gap.component == A)


def test_a_chip_of_the_bus_that_was_never_shown(story: Story) -> None:
    story.tools["toy"], story.tools["toy who"] = rows(WARM[0]), rows(WHO[0])
    scan = story.toy.scan()
    lost = Component(ComponentKind.CHIP, f"toy-{ADDRESSES[1]}")
    assert scan.values(Metric.PRESENT) == {A: 1.0, lost: 0.0}


def test_in_a_container_the_bus_proves_nothing(story: Story) -> None:
    story.host.files = {**bus(*ADDRESSES), "/.dockerenv": ""}
    story.tools["toy"], story.tools["toy who"] = rows(WARM[0]), rows(WHO[0])
    assert story.toy.scan().values(Metric.PRESENT) == {A: 1.0}


def test_without_addresses_chips_are_counted(story: Story) -> None:
    story.tools["toy"], story.tools["toy who"] = rows(WARM[0]), "!unsupported no"
    gaps = [gap for gap in story.toy.scan().gaps if gap.component == COLLECTOR]
    assert [(gap.reason, gap.detail) for gap in gaps] == [
        (GapReason.MISSING, "the PCI bus has 2 chips, the tool shows 1")
    ]


def test_a_cut_answer_makes_nobody_lost(story: Story) -> None:
    story.toy.scan()
    story.tools["toy"] = rows(WARM[0]) + "!truncated the table stops\n"
    scan = story.toy.scan()
    assert scan.values(Metric.PRESENT) == {A: 1.0}
    assert not scan.is_inventory
    assert {gap.component for gap in scan.gaps} == {COLLECTOR, B}


# -- the tool as a whole


@pytest.mark.parametrize("kind", ["driver_down", "no_devices"])
def test_the_driver_dies(story: Story, kind: str) -> None:
    story.toy.scan()
    story.tools["toy"] = Answer("", f"!{kind} no driver", 0)
    scan = story.toy.scan()
    (event,) = scan.events
    assert (event.kind, event.severity) == ("driver.fault", Severity.CRITICAL)
    assert {gap.component for gap in scan.gaps} == {COLLECTOR, A, B}
    assert scan.readings == ()
    story.host.at += 15
    assert story.toy.scan().events == ()
    story.host.at += 300
    assert [again.id for again in story.toy.scan().events] == [event.id]


def test_a_driver_that_never_worked_isolates_nobody(story: Story) -> None:
    story.tools["toy"] = Answer("", "!driver_down no driver", 0)
    (event,) = story.toy.scan().events
    assert event.severity is Severity.WARNING


def test_the_last_chip_leaves_bus_and_tool(story: Story) -> None:
    story.toy.scan()
    story.tools["toy"] = "!no_devices none\n"
    story.host.files = {"/sys/bus/pci/devices/0000:00:00.0/vendor": "0x8086"}
    story.host.at += 30
    scan = story.toy.scan()
    assert scan.values(Metric.PRESENT) == {A: 0.0, B: 0.0}
    assert scan.is_inventory


def test_a_hang_asks_the_chips_one_by_one_and_then_rests(story: Story) -> None:
    story.toy.scan()
    story.tools["toy"] = ToolBlocked("toy: no answer")
    story.tools["toy -i 0"] = rows(WARM[0])
    story.tools["toy -i 1"] = ToolBlocked("toy: no answer in 3 s")
    scan = story.toy.scan()
    assert {gap.reason for gap in scan.gaps} == {GapReason.TIMED_OUT}
    assert scan.values(Metric.TEMPERATURE) == {}
    scan = story.toy.scan()
    assert scan.values(Metric.TEMPERATURE) == {A: 40.0}
    assert {(gap.component, gap.reason) for gap in scan.gaps} == {
        (COLLECTOR, GapReason.FAILED),
        (B, GapReason.TIMED_OUT),
    }
    story.asked()
    story.host.at += 15
    story.toy.scan()
    assert "toy" not in story.asked()
    story.tools["toy"] = rows(*WARM)
    story.host.at += 600
    assert story.toy.scan().values(Metric.TEMPERATURE) == {A: 40.0, B: 41.0}


def test_nothing_is_started_beside_a_tool_that_is_stuck_in_the_kernel(story: Story) -> None:
    story.toy.scan()
    stuck = "77 (toy) D 1 77 77 0"
    story.tools["toy"] = ToolBlocked("toy: stuck", abandoned_pid=77)
    story.host.files = {**bus(*ADDRESSES), "/proc/77/stat": stuck}
    story.toy.scan()
    story.asked()
    story.host.at += 700
    scan = story.toy.scan()
    assert story.asked() == []
    assert {gap.component for gap in scan.gaps} == {COLLECTOR, A, B}
    story.tools["toy"] = rows(*WARM)
    story.host.files = bus(*ADDRESSES)
    story.host.at += 700
    assert story.toy.scan().values(Metric.TEMPERATURE) == {A: 40.0, B: 41.0}


# -- names


def test_chips_are_not_reported_before_they_have_names(story: Story) -> None:
    story.tools["toy who"] = "!partial busy\n"
    for _ in range(2):
        scan = story.toy.scan()
        assert scan.chips == ()
        assert not scan.is_inventory
        story.host.at += 15
    assert [chip.uid for chip in story.toy.scan().chips] == ["toy-0", "toy-1"]


def test_known_chips_are_unknown_while_moved_rows_have_no_names(story: Story) -> None:
    story.toy.scan()
    story.tools |= {"toy": rows(WARM[0]), "toy who": Answer("", "", 1)}
    story.host.at += 15
    scan = story.toy.scan()
    assert not scan.is_inventory
    assert {gap.component for gap in scan.gaps} == {A, B, COLLECTOR}


def test_a_name_once_given_stays_when_the_chip_falls_silent(story: Story) -> None:
    story.toy.scan()
    story.tools["toy who"] = rows({"index": 0, "pci": ADDRESSES[0]}, WHO[1])
    story.host.at += 600
    assert [chip.uid for chip in story.toy.scan().chips] == ["TOY-A", "TOY-B"]


def test_a_replaced_chip_has_its_own_name_and_the_old_one_is_forgotten(story: Story) -> None:
    story.toy.scan()
    story.tools["toy who"] = rows({**WHO[0], "uuid": "TOY-C"}, WHO[1])
    story.host.at += 600
    scan = story.toy.scan()
    assert [chip.uid for chip in scan.chips] == ["TOY-C", "TOY-B"]
    assert 0.0 not in scan.values(Metric.PRESENT).values()


def test_names_that_several_chips_bear_name_none(story: Story) -> None:
    twins = [{**who, "uuid": "SAME"} for who in WHO]
    story.tools["toy who"] = rows(*twins)
    assert [chip.uid for chip in story.toy.scan().chips] == [f"toy-{pci}" for pci in ADDRESSES]
    story.tools["toy who"] = rows(*({**twin, "pci": ADDRESSES[0]} for twin in twins))
    fresh = Toy(story.host)
    assert [chip.uid for chip in fresh.scan().chips] == [
        f"toy-{ADDRESSES[0]}",
        f"toy-{ADDRESSES[0]}-p1",
    ]


def test_the_cursor_carries_the_names(story: Story) -> None:
    story.toy.scan()
    cursor = story.toy.cursor()
    assert cursor is not None
    fresh = Toy(story.host)
    fresh.resume(cursor)
    story.tools["toy who"] = rows(*({"index": w["index"], "pci": w["pci"]} for w in WHO))
    assert [chip.uid for chip in fresh.scan().chips] == ["TOY-A", "TOY-B"]


@pytest.mark.parametrize("cursor", ["", "[]", '{"uids": 3}', '{"uids": {}, "codes": {"a": 1}}'])
def test_a_cursor_that_cannot_be_read_is_a_first_start(story: Story, cursor: str) -> None:
    story.toy.resume(cursor)
    assert len(story.toy.scan().chips) == 2


SOUND = st.sampled_from([rows(*WARM), rows(WARM[1]), "", "!truncated x\n", "!no_devices x\n"])
ANSWERS: st.SearchStrategy[str | ChipmedicError] = st.one_of(
    SOUND, st.just(ToolBlocked("toy: no answer")), st.just(rows({"index": 0}, {"index": 1}))
)


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(ANSWERS, st.sampled_from([rows(*WHO), "", "!partial x\n"]))))
def test_no_course_of_answers_makes_a_silent_chip_healthy(
    course: list[tuple[str | ChipmedicError, str]],
) -> None:
    story = Story()
    for summary, who in course:
        story.tools["toy"], story.tools["toy who"] = summary, who
        story.host.at += 60
        scan = story.toy.scan()
        dark = {gap.component for gap in scan.gaps if gap.metric is None}
        present = {c for c, value in scan.values(Metric.PRESENT).items() if value}
        assert not dark & present
        if present:
            assert isinstance(summary, str)
            assert "temperature" in summary
