"""Choosing the reader of a tool's output."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import pytest

from chipmedic.tool_readers import load_readers, read_tool_run
from chipmedic.tool_report import ProblemKind, ToolReader, ToolReport, ToolRun


def reader(vendor: str, certainty: int) -> ToolReader:
    return ToolReader(vendor, lambda run: certainty, lambda run: ToolReport(vendor=vendor))


def test_the_surest_reads() -> None:
    readers = [reader("sure", 1), reader("surest", 3), reader("unsure", 2), reader("not", 0)]
    assert read_tool_run(ToolRun(["smi"], ""), readers).vendor == "surest"


def test_of_equals_the_first_reads() -> None:
    assert read_tool_run(ToolRun(["smi"], ""), [reader("a", 1), reader("b", 1)]).vendor == "a"


@pytest.mark.parametrize("argv", [["frob-smi"], []])
def test_a_tool_that_nobody_knows_is_said_so(argv: list[str]) -> None:
    report = read_tool_run(ToolRun(argv, "x"), [reader("a", 0)])
    assert (report.vendor, report.chips) == ("unknown", [])
    assert [problem.kind.value for problem in report.problems] == ["unsupported"]


def failing(run: ToolRun) -> ToolReport:
    raise ValueError(f"no row in {run.stdout}")


def test_a_reader_that_raises_is_a_report_without_chips_and_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = read_tool_run(ToolRun(["smi"], "x9"), [ToolReader("foreign", lambda run: 2, failing)])
    assert (report.vendor, report.chips) == ("foreign", [])
    (problem,) = report.problems
    assert problem.kind is ProblemKind.MALFORMED
    assert "ValueError('no row in x9')" in problem.message
    assert "vendor=foreign" in caplog.text


def test_a_reader_that_raises_when_asked_leaves_the_run_to_the_others() -> None:
    def unsure(run: ToolRun) -> int:
        raise KeyError(0)

    readers = [ToolReader("foreign", unsure, failing), reader("ours", 1)]
    assert read_tool_run(ToolRun(["smi"], "x"), readers).vendor == "ours"


def test_a_broken_reader_is_told_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A package on the path: one module fails, one object is no reader, one is good."""
    (tmp_path / "fine_reader_for_test.py").write_text(
        "from chipmedic.tool_report import ProblemKind, ToolReader, ToolReport\n"
        "READER = ToolReader('fine', lambda run: 1, lambda run: ToolReport(vendor='fine'))\n"
        "NUMBER = 7\n"
    )
    (tmp_path / "broken_reader_for_test.py").write_text("raise OSError('libfoo.so')\n")
    package = tmp_path / "readers_for_test-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: readers-for-test\nVersion: 1.0\n"
    )
    (package / "entry_points.txt").write_text(
        "[chipmedic.tool_readers]\nzz_broken = broken_reader_for_test:READER\n"
        "zz_number = fine_reader_for_test:NUMBER\nzz_fine = fine_reader_for_test:READER\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with caplog.at_level(logging.WARNING, logger="chipmedic.tool_readers"):
        readers = load_readers()
    assert "fine" in [one.vendor for one in readers]
    assert "name=zz_broken" in caplog.text
    assert "libfoo.so" in caplog.text
    assert "name=zz_number" in caplog.text
