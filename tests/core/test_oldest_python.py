"""What the oldest supported Python does otherwise, and no newer one shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "proto", "agent", "collectors", "watchdog", "cli", "simulator")
CLAUSE = "try:\n    work()\nexcept* OSError as group:\n    {}\n"


def raises_in_star_clauses(text: str) -> Iterator[int]:
    """Yield the lines that raise something new within an `except*` clause."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.TryStar):
            for handler in node.handlers:
                for inner in ast.walk(handler):
                    if isinstance(inner, ast.Raise) and inner.exc is not None:
                        yield inner.lineno


@pytest.mark.parametrize(
    ("body", "lines"),
    [("raise ValueError('late')", [4]), ("if group: raise group.exceptions[0]", [4]), ("pass", [])],
)
def test_a_new_exception_in_a_star_clause_is_seen(body: str, lines: list[int]) -> None:
    assert list(raises_in_star_clauses(CLAUSE.format(body))) == lines


def test_nothing_new_is_raised_in_a_star_clause() -> None:
    """Before 3.11.4 it arrives within a group, and callers that await the exception miss it."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in raises_in_star_clauses(path.read_text(encoding="utf-8"))
    ]
    assert found == []
