"""Finds the installed readers of tool output, and lets the one read a run that knows it best."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import entry_points

from chipmedic.tool_report import ProblemKind, ToolReader, ToolReport, ToolRun
from chipmedic.tool_text import as_printed

GROUP = "chipmedic.tool_readers"
UNKNOWN_VENDOR = "unknown"

logger = logging.getLogger(__name__)


def load_readers() -> list[ToolReader]:
    """Return the readers that are installed as entry points of `chipmedic.tool_readers`.

    One that cannot be loaded costs the others nothing; it is told in the log.
    """
    readers: list[ToolReader] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            reader = point.load()
        except Exception as error:  # noqa: BLE001  the wall around foreign code
            logger.warning("tool reader not loaded: name=%s why=%r", point.name, error)
            continue
        if isinstance(reader, ToolReader):
            readers.append(reader)
        else:
            logger.warning("tool reader not loaded: name=%s why=not a ToolReader", point.name)
    return readers


def read_tool_run(run: ToolRun, readers: Iterable[ToolReader]) -> ToolReport:
    """Read a run with the reader that is surest of it; the first of several that are equally sure.

    A run that nobody knows is a report of vendor `unknown` with a problem, not an error: a script
    learns from it what was run and that nothing is known.
    """
    run = as_printed(run)
    surest: ToolReader | None = None
    certainty = 0
    for reader in readers:
        if (mine := _certainty(reader, run)) > certainty:
            surest, certainty = reader, mine
    if surest is None:
        report = ToolReport(vendor=UNKNOWN_VENDOR)
        tool = run.argv[0] if run.argv else "(no command)"
        report.add_problem(ProblemKind.UNSUPPORTED, f"{tool}: no reader knows this tool")
        return report
    return _read(surest, run)


def _read(reader: ToolReader, run: ToolRun) -> ToolReport:
    """Read a run with this reader; if it breaks its word and raises, no chip is known, and why."""
    try:
        return reader.read(run)
    except Exception as error:  # noqa: BLE001  the wall around foreign code
        logger.warning("tool reader failed: vendor=%s why=%r", reader.vendor, error)
        report = ToolReport(vendor=reader.vendor)
        words = f"the reader of {reader.vendor} failed on this answer: {error!r}"
        report.add_problem(ProblemKind.MALFORMED, words)
        return report


def _certainty(reader: ToolReader, run: ToolRun) -> int:
    try:
        return reader.recognises(run)
    except Exception as error:  # noqa: BLE001  the wall around foreign code
        logger.warning("tool reader failed: vendor=%s why=%r", reader.vendor, error)
        return 0
