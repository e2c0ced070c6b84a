"""The child's answer as a scan: no chip hides another, nothing is called lost without proof."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.errors import ToolFailed
from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, Scan
from chipmedic_collectors.nvidia.nvml import Memory, translate
from chipmedic_collectors.nvidia.reply import read_reply

PCI = tuple(f"0000:{bus:02x}:00.0" for bus in (0x19, 0x3B, 0x4C))


def chip(index: int, **answers: tuple[int, Any]) -> dict[str, Any]:
    return {
        "index": index,
        "identity": {
            "uuid": (0, f"GPU-{index}"),
            "serial": (0, f"165{index}"),
            "name": (0, "NVIDIA A800"),
            "pci": (0, f"0000{PCI[index].upper()}"),
        },
        "answers": answers or {"temperature": (0, 40)},
    }


def reply(*chips: dict[str, Any], failed: Any = (), count: int = 3) -> dict[str, Any]:
    return {"init": (0, None), "count": (0, count), "chips": chips, "failed": failed}


def story(*replies: dict[str, Any], pci: tuple[str, ...] = PCI) -> list[Scan]:
    """One scan every five seconds."""
    memory, scans = Memory(), []
    for number, raw in enumerate(replies):
        scan, memory = translate(read_reply(raw), memory, at=1000.0 + 5 * number, pci_addresses=pci)
        scans.append(scan)
    return scans


def present(scan: Scan) -> dict[str, float]:
    return {str(part): value for part, value in scan.values(Metric.PRESENT).items()}


def test_the_domain_of_nvml_becomes_that_of_the_kernel() -> None:
    [scan] = story(reply(chip(0), chip(1), chip(2)))
    assert [c.pci for c in scan.chips] == list(PCI)


def test_a_known_chip_at_its_index_is_named_though_pci_is_silent() -> None:
    *_, scan = story(
        reply(chip(0), chip(1), chip(2)),
        reply(chip(0), chip(2), failed=[[1, 999, 2]]),
        pci=(),
    )
    assert present(scan) == {"chip:GPU-0": 1, "chip:GPU-2": 1, "chip:GPU-1": 0}
    assert scan.is_inventory


def test_an_unknown_chip_without_pci_leaves_the_verdict_to_the_inventory() -> None:
    [scan] = story(reply(chip(0), chip(1), failed=[[2, 15, 1]]), pci=())
    assert scan.is_inventory, "what the agent's inventory knows beyond these is lost"
    assert [str(gap.component) for gap in scan.gaps] == ["host"]


def test_two_failed_chips_are_named_in_bus_order() -> None:
    [scan] = story(reply(chip(1), failed=[[0, 15, 1], [2, 16, 1]]))
    assert present(scan) == {"chip:GPU-1": 1, f"pci:{PCI[0]}": 0}
    pci = Component(ComponentKind.PCI, PCI[2])
    assert scan.values(Metric.RECOVERY_ACTION)[pci] == 1
    assert [(e.component, e.code) for e in scan.events] == [(pci, "nvml:16")]
    assert not scan.is_inventory, "the chip that wants a reset is here, under a name not known"


def test_a_chip_lost_before_it_could_say_its_name_is_named_by_pci() -> None:
    nameless = {"index": 2, "identity": {}, "answers": {"lost": (15, None)}}
    [scan] = story(reply(chip(0), chip(1), nameless))
    assert present(scan)[f"pci:{PCI[2]}"] == 0


def test_an_index_that_another_chip_has_now_names_the_chip_that_is_here() -> None:
    """The driver was loaded again without GPU 1: what was GPU 2 has its number, and its Xids."""
    moved = chip(2) | {"index": 1}
    memory = Memory()
    for raw in (reply(chip(0), chip(1), chip(2)), reply(chip(0), moved, count=2)):
        _, memory = translate(read_reply(raw), memory, at=1000.0, pci_addresses=PCI)
    named = memory.chip_at(1)
    assert named is not None
    assert named.uid == "GPU-2"


def test_a_known_chip_that_cannot_say_its_name_is_named_by_its_place() -> None:
    nameless = chip(1)
    nameless["identity"]["uuid"] = (999, None)
    whole = reply(chip(0), chip(1), chip(2))
    for scan in story(whole, reply(chip(0), nameless, chip(2)), whole):
        assert [c.uid for c in scan.chips] == ["GPU-0", "GPU-1", "GPU-2"]
        assert set(present(scan).values()) == {1}


def test_a_chip_that_says_its_name_late_leaves_no_other_missing() -> None:
    nameless = chip(1)
    nameless["identity"]["uuid"] = (999, None)
    *_, scan = story(reply(chip(0), nameless, chip(2)), reply(chip(0), chip(1), chip(2)))
    assert present(scan) == {"chip:GPU-0": 1, "chip:GPU-1": 1, "chip:GPU-2": 1}
    assert not scan.gaps


def test_a_chip_that_was_exchanged_is_not_missed() -> None:
    other = chip(1)
    other["identity"]["uuid"] = (0, "GPU-new")
    *_, scan = story(reply(chip(0), chip(1), chip(2)), reply(chip(0), other, chip(2)))
    assert present(scan) == {"chip:GPU-0": 1, "chip:GPU-new": 1, "chip:GPU-2": 1}


def test_a_chip_that_only_answers_unknown_is_neither_present_nor_gone() -> None:
    dying = chip(1, temperature=(999, None), power=(999, None))
    first, second = story(reply(chip(0), dying, chip(2)), reply(chip(0), dying, chip(2)))
    for scan in (first, second):
        assert "chip:GPU-1" not in present(scan)
        assert len(scan.chips) == 3
        assert [str(g.component) for g in scan.gaps if g.metric is None] == ["chip:GPU-1"]
    assert not first.events
    assert [(e.code, e.kind) for e in second.events] == [("nvml:999", "chip.internal")]


@pytest.mark.parametrize(
    ("code", "kind"),
    [(8, "power.fault"), (11, "chip.internal"), (14, "chip.firmware")],
)
def test_hardware_codes_are_faults_of_the_chip(code: int, kind: str) -> None:
    *_, scan = story(
        reply(chip(0), chip(1), chip(2)), reply(chip(0), chip(2), failed=[[1, code, 1]])
    )
    assert [(str(e.component), e.code, e.kind) for e in scan.events] == [
        ("chip:GPU-1", f"nvml:{code}", kind)
    ]
    assert len(scan.chips) == 3
    assert scan.is_inventory


def test_what_pci_shows_and_nvml_hides_is_unknown_not_lost() -> None:
    [scan] = story(reply(chip(0), chip(1), count=2))
    assert [str(gap.component) for gap in scan.gaps] == [f"pci:{PCI[2]}"]
    assert f"pci:{PCI[2]}" not in present(scan)


def test_xid_trouble_is_said_of_the_host() -> None:
    raw = reply(chip(0), chip(1), chip(2)) | {"events": 13, "deaf": [[1, 999], [2, 15]]}
    [scan] = story(raw)
    assert [(str(g.component), g.reason.value) for g in scan.gaps] == [
        ("host", "unsupported"),
        ("host", "failed"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"init": 0},
        {"init": ["0", None]},
        {"init": [0, None], "count": [0, "8"]},
        {"init": [0, None], "chips": [{}]},
        {"init": [0, None], "failed": [[1, 2]]},
        {"init": [0, None], "chips": [{"index": 0, "identity": {}, "answers": {"power": 3}}]},
    ],
)
def test_an_answer_of_another_shape_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ToolFailed, match="cannot be read"):
        read_reply(raw)


CODES = st.sampled_from([0, 3, 4, 9, 13, 15, 16, 17, 18, 999, 4711])
IDENTITY = st.fixed_dictionaries(
    {},
    optional={
        name: st.tuples(CODES, st.none() | st.text(max_size=8) | st.just("0000:3B:00.0"))
        for name in ("uuid", "serial", "name", "pci")
    },
)
ANSWERS = st.dictionaries(
    st.sampled_from(["temperature", "power", "lost", "processes", "fabric", "recovery_action"]),
    st.tuples(CODES, st.none() | st.integers(-1, 1 << 64) | st.lists(st.integers(-1, 9))),
)
REPLIES = st.fixed_dictionaries(
    {
        "init": st.tuples(CODES, st.none()),
        "count": st.tuples(CODES, st.integers(0, 9)),
        "chips": st.lists(
            st.fixed_dictionaries(
                {"index": st.integers(0, 8), "identity": IDENTITY, "answers": ANSWERS}
            ),
            max_size=4,
        ),
        "failed": st.lists(
            st.tuples(st.integers(0, 8), CODES.filter(bool), st.integers(1, 3)), max_size=3
        ),
        "events": CODES,
    }
)


@given(st.lists(REPLIES, max_size=4), st.lists(st.sampled_from(PCI), unique=True))
def test_no_sequence_of_answers_breaks_or_lies(
    replies: list[dict[str, Any]], pci: list[str]
) -> None:
    for scan in story(*replies, pci=tuple(pci)):
        here = {c.component for c in scan.chips}
        gone = {part for part, value in scan.values(Metric.PRESENT).items() if value == 0}
        assert not here & gone
        assert len(here) == len(scan.chips)
        assert {process.chip for process in scan.processes} <= {c.uid for c in scan.chips}


@given(st.dictionaries(st.sampled_from(["init", "count", "chips", "failed", "deaf"]), st.text()))
def test_no_object_breaks_the_reader_of_replies(raw: dict[str, Any]) -> None:
    with pytest.raises(ToolFailed):
        read_reply(raw)
