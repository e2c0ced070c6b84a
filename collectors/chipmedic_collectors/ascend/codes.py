"""The tool's own words for the error codes that it lists."""

from __future__ import annotations

import re

_EVENT_LINE = re.compile(r"^.*event[ _]id.*$", re.IGNORECASE | re.MULTILINE)
_INFORMATION = re.compile(r"^\s*Error Information\s*:\s?(.*)$", re.MULTILINE)
_MORE = re.compile(r"^\s+:\s?(.*)$", re.MULTILINE)


def words_of(codes: list[str], text: str) -> dict[str, str]:
    """Return the tool's own words for each code; the code alone where it has none."""
    lines = [line.strip() for line in _EVENT_LINE.findall(text)]
    if not lines:
        start = _INFORMATION.search(text)
        told = [start[1], *_MORE.findall(text, start.end())] if start else []
        if len(told) == len(codes):
            lines = [f"Error Code {c}: {t.strip()}" for c, t in zip(codes, told, strict=True)]
    return {
        code: next((line for line in lines if code in line.upper()), f"Error Code {code}")
        for code in codes
    }
