"""Runs of vendor tools for the tests of their readers."""

from __future__ import annotations

from pathlib import Path

from chipmedic.tool_readers import load_readers, read_tool_run
from chipmedic.tool_report import ProblemKind, ToolReport, ToolRun

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    """Return a recorded answer."""
    return (RECORDED / name).read_text(encoding="utf-8")


def read(text: str, command: str, *, stderr: str = "", exit_code: int | None = None) -> ToolReport:
    """Read a run with whichever installed reader is surest of it, as `chipmedic parse` does."""
    return read_tool_run(ToolRun(command.split(), text, stderr, exit_code), load_readers())


def kinds(report: ToolReport) -> list[ProblemKind]:
    """Return the kinds of a report's problems, in order."""
    return [problem.kind for problem in report.problems]
