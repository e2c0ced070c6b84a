"""The state file: whole at any moment, and no edit lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_simulator.nvml.answers import EventSet, Failed, State
from chipmedic_simulator.nvml.state import EVENTS_KEPT, PROFILES, create, read_state


def test_two_who_edit_at_once_lose_nothing_and_a_reader_sees_it_whole(tmp_path: Path) -> None:
    nvml = create(tmp_path / "state", gpus=4)

    def edit(gpu: int) -> None:
        for number in range(25):
            nvml.set(gpu, **{f"mark_{number}": number})

    editors = [threading.Thread(target=edit, args=(gpu,)) for gpu in range(4)]
    for editor in editors:
        editor.start()
    while any(editor.is_alive() for editor in editors):
        assert read_state(nvml.path)["count"] == "4"
    keys = read_state(nvml.path)
    assert sum(".mark_" in key for key in keys) == 100


def test_identities_follow_from_the_node_and_differ(tmp_path: Path) -> None:
    def identities(node: str, name: str) -> dict[str, str]:
        keys = read_state(create(tmp_path / name, gpus=16, node=node).path)
        return {k: v for k, v in keys.items() if k.endswith((".uuid", ".serial", ".pci"))}

    first = identities("n1", "a")
    assert len(set(first.values())) == 48
    assert identities("n1", "b") == first
    assert not {v for k, v in identities("n2", "c").items() if "pci" not in k} & set(first.values())


def test_old_events_are_dropped_and_never_told_twice(tmp_path: Path) -> None:
    nvml = create(tmp_path / "state", gpus=1)
    with nvml.edit() as keys:
        keys["event.count"] = str(EVENTS_KEPT)
        keys["event.1"] = "0,8,13"
    nvml.emit(0, 79)
    keys = read_state(nvml.path)
    assert "event.1" not in keys
    event_set = EventSet(seen=0, masks={0: 8})
    event = event_set.next(State(keys))
    assert event is not None
    assert event[:3] == [0, 8, 79]
    assert event_set.next(State(keys)) is None


def test_the_nearer_key_wins(tmp_path: Path) -> None:
    nvml = create(tmp_path / "state", gpus=2)
    nvml.set(None, temperature=30)
    nvml.set_link(1, 3, up=0)
    state = State(read_state(nvml.path))
    assert state.number(0, "temperature") == 37
    assert (state.link(1, 3, "up"), state.link(1, 4, "up"), state.link(0, 3, "up")) == (0, 1, 1)
    with pytest.raises(Failed):
        state.link(0, 18, "up")


def test_a_trouble_of_one_chip_goes_before_that_of_all(tmp_path: Path) -> None:
    nvml = create(tmp_path / "state", gpus=2)
    nvml.fail("nvmlDeviceGetName", 4)
    nvml.fail("nvmlDeviceGetName", 15, gpu=1)
    state = State(read_state(nvml.path))
    assert state.trouble("fail", "nvmlDeviceGetName", 0) == 4
    assert state.trouble("fail", "nvmlDeviceGetName", 1) == 15
    nvml.fail("nvmlDeviceGetName", 0)
    assert State(read_state(nvml.path)).trouble("fail", "nvmlDeviceGetName", 0) == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_whole(tmp_path: Path, profile: str) -> None:
    state = State(read_state(create(tmp_path / "state", profile=profile).path))
    assert state.need(7, "name")
    assert state.number(7, "memory_total_bytes") > 0


@given(
    pairs=st.dictionaries(
        st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="="), min_size=1),
        st.text(st.characters(exclude_categories=["C", "Z"])),
        max_size=8,
    )
)
def test_what_is_written_is_read(
    pairs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    nvml = create(tmp_path_factory.mktemp("state") / "state", gpus=0)
    with nvml.edit() as keys:
        keys.clear()
        keys |= pairs
    assert read_state(nvml.path) == pairs
