"""`chipmedic inject` says what it did, or in one line why not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chipmedic.errors import ChipmedicError
from chipmedic_cli import inject as command
from chipmedic_simulator.cluster import create
from chipmedic_simulator.faults import INJECTIONS
from chipmedic_simulator.layout import SUPERVISOR, Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    folder = tmp_path / "demo"
    folder.mkdir()
    layout = create(folder, language="en", is_temporary=False)
    layout.pids_file.write_text(json.dumps({SUPERVISOR: os.getpid()}))
    return layout


def test_the_list_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    command.run("", state=None, node="", chip=0, show_list=True)
    shown = capsys.readouterr().out
    assert all(f"\n{name}" in shown for name in INJECTIONS)


def test_it_says_what_it_did_and_what_will_come(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run("chip-lost", state=layout.folder, node="gpu-2", chip=1, show_list=False)
    assert capsys.readouterr().out.splitlines() == [
        "gpu-2: the chip falls off the bus",
        "to be expected: the node is isolated and the job goes on elsewhere",
    ]


@pytest.mark.parametrize(
    ("fault", "has_state", "node", "words"),
    [
        ("", True, "gpu-1", "which fault"),
        ("thermal", False, "gpu-1", "--state FOLDER is needed"),
        ("thermal", True, "", "--node is needed, one of: gpu-1, gpu-2, npu-1"),
        ("thermal", True, "../gpu-1", "no such node"),
        ("termal", True, "gpu-1", "no such fault"),
    ],
)
def test_what_is_missing_is_said(
    layout: Layout, fault: str, has_state: bool, node: str, words: str
) -> None:
    state = layout.folder if has_state else None
    with pytest.raises(ChipmedicError, match=words):
        command.run(fault, state=state, node=node, chip=0, show_list=False)


def test_a_folder_without_a_demo(tmp_path: Path) -> None:
    with pytest.raises(ChipmedicError, match="no simulated cluster is there"):
        command.run("thermal", state=tmp_path, node="gpu-1", chip=0, show_list=False)


def test_a_stopped_demo(layout: Layout) -> None:
    layout.pids_file.unlink()
    with pytest.raises(ChipmedicError, match="the demo there is stopped"):
        command.run("thermal", state=layout.folder, node="gpu-1", chip=0, show_list=False)
