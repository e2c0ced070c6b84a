"""The journal's priorities."""

from __future__ import annotations

import logging

import pytest

from chipmedic.logs import JournalFormatter


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 3),
    ],
)
def test_each_line_has_its_priority(level: int, priority: int) -> None:
    record = logging.LogRecord("a.b", level, "f", 1, "first\nsecond %s", ("x",), None)
    lines = JournalFormatter("%(name)s: %(message)s").format(record).splitlines()
    assert lines == [f"<{priority}>a.b: first", f"<{priority}>second x"]
