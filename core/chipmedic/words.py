"""Small words of sentences for people."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 time`, `2 times`, `0 entries`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"
