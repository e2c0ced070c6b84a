"""`chipmedic parse` on files."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.errors import ChipmedicError
from chipmedic_cli.parse import parse_command
from chipmedic_collectors.nvidia.smi import READER

READERS = [READER]
LIST = "GPU 0: NVIDIA A30 (UUID: GPU-1f6c)\n"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_capture_becomes_the_object_of_the_contract(tmp_path: Path) -> None:
    stdout = written(tmp_path / "out", LIST.encode())
    answer = parse_command(stdout, "/usr/bin/nvidia-smi -L", None, None, readers=READERS)
    assert answer["vendor"] == "nvidia"
    assert answer["problems"] == []
    assert answer["chips"] == [{"index": 0, "die": 0, "name": "NVIDIA A30", "uuid": "GPU-1f6c"}]


def test_stderr_and_exit_status_count(tmp_path: Path) -> None:
    stdout = written(tmp_path / "out", b"")
    stderr = written(tmp_path / "err", b"bash: nvidia-smi: command not found\n")
    answer = parse_command(stdout, "nvidia-smi", 127, stderr, readers=READERS)
    assert [problem["kind"] for problem in answer["problems"]] == ["tool_missing"]
    answer = parse_command(stdout, "nvidia-smi", 9, None, readers=READERS)
    assert [problem["kind"] for problem in answer["problems"]] == ["driver_down"]


@pytest.mark.parametrize("content", [LIST.encode("utf-16"), b"\xef\xbb\xbf" + LIST.encode()])
def test_captures_of_windows_shells(tmp_path: Path, content: bytes) -> None:
    stdout = written(tmp_path / "out", content)
    answer = parse_command(stdout, "nvidia-smi -L", None, None, readers=READERS)
    assert answer["chips"][0]["uuid"] == "GPU-1f6c"


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    stdout = written(tmp_path / "out", b"\xff\xfe\xfd" + LIST.encode() + b"\x80\x00\n")
    parse_command(stdout, "nvidia-smi -L", None, None, readers=READERS)
    stdout = written(tmp_path / "out", b"\xd6\xdc\xce\xc4\n" + LIST.encode())
    answer = parse_command(stdout, "nvidia-smi -L", None, None, readers=READERS)
    assert answer["chips"][0]["index"] == 0


def test_an_unknown_tool_is_an_answer(tmp_path: Path) -> None:
    answer = parse_command(written(tmp_path / "out", b"hi"), "frob-smi", 0, None, readers=READERS)
    assert answer["vendor"] == "unknown"
    assert [problem["kind"] for problem in answer["problems"]] == ["unsupported"]


@pytest.mark.parametrize(
    ("name", "tool_argv", "says"),
    [
        ("missing", "nvidia-smi", "missing: cannot be read: No such file"),
        (".", "nvidia-smi", "cannot be read: Is a directory"),
        ("out", 'nvidia-smi "-q', "No closing quotation"),
        ("out", "  ", "--tool-argv is empty"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, name: str, tool_argv: str, says: str
) -> None:
    written(tmp_path / "out", b"")
    with pytest.raises(ChipmedicError, match=says) as caught:
        parse_command(tmp_path / name, tool_argv, None, None, readers=READERS)
    assert "\n" not in str(caught.value)
