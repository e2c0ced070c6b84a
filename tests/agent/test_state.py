"""The state file: whole or not at all, and no part takes another with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent_story import HeatState, a_chip, a_fault, raised, records
from chipmedic.errors import StoreError
from chipmedic.model import Component, ComponentKind, Fault, Raised
from chipmedic_agent.detectors import DetectorSettings, builtin_detectors
from chipmedic_agent.fault_book import FaultBook
from chipmedic_agent.inventory import KnownChip
from chipmedic_agent.state import AgentState, StateFile


@dataclass(frozen=True, slots=True)
class RichState:
    """Everything that a detector's state may hold."""

    open: Mapping[str, Fault] = field(default_factory=dict)
    by_component: dict[Component, float] = field(default_factory=dict)
    by_pair: dict[tuple[Component, str], tuple[float, ...]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    last: float | None = None


RICH = RichState(
    open={"chip:A x": a_fault(codes=("xid:79",))},
    by_component={Component(ComponentKind.LINK, "A/3"): 1.5},
    by_pair={(Component(ComponentKind.HOST, ""), "host.oom"): (1.0, 2.0)},
    names=frozenset({"a", "b"}),
)


def a_state(**rest: Any) -> AgentState:
    book = FaultBook()
    book.apply("heat", [Raised(a_fault())], 5.0)
    return replace(
        AgentState(
            boot_id="b",
            epoch="e",
            next_seq=7,
            acked_seq=3,
            outbox=tuple(records([raised(1)], 6)),
            entries=book.entries(),
            detectors={"heat": HeatState({"A": 1.0}), "rich": RICH},
            inventory=(KnownChip(chip=a_chip("A"), source="acme", seen_at=1.0),),
            cursors={"kernel_log": "b/17"},
            fencing_token=4,
        ),
        **rest,
    )


STARTS = {"heat": HeatState(), "rich": RichState()}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.save(a_state())
    assert StateFile(tmp_path).load(STARTS) == a_state()


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert StateFile(tmp_path).load(STARTS) is None


def test_a_detector_that_changed_costs_only_its_own_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    StateFile(tmp_path).save(a_state())
    loaded = StateFile(tmp_path).load({"heat": RichState(), "rich": RichState()})
    assert loaded is not None
    assert loaded.entries == a_state().entries
    assert loaded.detectors == {"rich": RICH}
    assert "detectors.heat" in caplog.text


def test_one_entry_that_does_not_fit_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = StateFile(tmp_path)
    file.save(a_state())
    plain = json.loads(file.path.read_text())
    broken = json.loads(json.dumps(plain["entries"][0]))
    broken["fault"]["severity"] = 99
    plain["entries"].insert(0, broken)
    file.path.write_text(json.dumps(plain))
    with caplog.at_level(logging.WARNING):
        loaded = StateFile(tmp_path).load(STARTS)
    assert loaded is not None
    assert loaded.entries == a_state().entries
    assert "entries" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"version": 2}',
        '{"version": 1}',
        '{"version": 1, "boot_id": "b", "epoch": "e", "next_seq": 1e999}',
        "\x00" * 50,
        "[" * 100_000,
        "7",
    ],
)
def test_a_file_that_is_no_state_is_discarded(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = StateFile(tmp_path)
    file.path.write_text(text)
    with caplog.at_level(logging.WARNING):
        assert file.load(STARTS) is None
    assert "state discarded" in caplog.text


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.save(a_state())
    file.path.with_suffix(".json.new").mkdir()
    with pytest.raises(StoreError, match=r"state\.json"):
        file.save(a_state(next_seq=99))
    loaded = StateFile(tmp_path).load(STARTS)
    assert loaded is not None
    assert loaded.next_seq == 7


def test_a_file_that_cannot_be_read_for_now_is_not_an_empty_one(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.path.mkdir()
    with pytest.raises(StoreError):
        file.load(STARTS)


def test_the_states_of_all_builtin_detectors_can_be_saved(tmp_path: Path) -> None:
    starts = {d.name: d.start() for d in builtin_detectors(DetectorSettings())}
    StateFile(tmp_path).save(a_state(detectors=starts))
    loaded = StateFile(tmp_path).load(starts)
    assert loaded is not None
    assert loaded.detectors == starts
