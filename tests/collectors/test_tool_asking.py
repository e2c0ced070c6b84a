"""One vendor's tool, asked on a real host of scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.host import LinuxHost
from chipmedic.tool_report import ChipReport, ProblemKind, ToolReader, ToolReport, ToolRun
from chipmedic_collectors.tool_asking import Asked, Tool

LOADER = "toy: error while loading shared libraries: libtoy.so: cannot open shared object file"
NEEDS = '[ "$LD_LIBRARY_PATH" = /opt/toy/lib:/opt/toy/lib64 ] && echo well && exit 0\n'


def read(run: ToolRun) -> ToolReport:
    report = ToolReport(vendor="toy")
    if run.stdout.startswith("well"):
        report.chips.append(ChipReport(index=0))
    else:
        report.add_problem(ProblemKind.DRIVER_DOWN, run.stderr.strip())
    return report


READER = ToolReader("toy", lambda run: 1, read)


def ask(folder: Path, script: str, libraries: tuple[str, ...]) -> tuple[Asked, Asked, int]:
    """Install a tool, ask it twice, and return how often it was run."""
    runs = folder / "runs"
    tool = folder / "toy"
    tool.write_text(f"#!/bin/sh\necho >> {runs}\n{script}echo '{LOADER}' >&2; exit 127\n")
    tool.chmod(0o755)
    asking = Tool(LinuxHost(env={"PATH": f"{folder}:/bin"}), READER, libraries=libraries)
    first, second = (asking.ask(("toy",), timeout_seconds=10) for _ in range(2))
    return first, second, len(runs.read_text().splitlines())


def test_a_tool_that_lacks_its_libraries_is_told_where_they_are(tmp_path: Path) -> None:
    first, second, runs = ask(tmp_path, NEEDS, ("/opt/toy/lib", "/opt/toy/lib64"))
    assert len(first.report.chips) == len(second.report.chips) == 1
    assert runs == 3  # from the second question on it is told at once


@pytest.mark.parametrize("libraries", [(), ("/nowhere",)])
def test_a_tool_that_finds_them_nowhere_is_a_dead_driver(
    tmp_path: Path, libraries: tuple[str, ...]
) -> None:
    first, second, runs = ask(tmp_path, NEEDS, libraries)
    assert first.has(ProblemKind.DRIVER_DOWN)
    assert second.words == LOADER
    assert runs == (3 if libraries else 2)
