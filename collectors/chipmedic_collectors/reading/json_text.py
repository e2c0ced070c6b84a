"""JSON as tools print it: below warnings of the tool or of Python, above what a shell adds."""

from __future__ import annotations

import json
import re
from typing import Any

_START = re.compile(r"^\s*(?P<start>[{\[])\s*(?=$|[\"{\[\]}])", re.MULTILINE)
_DECODER = json.JSONDecoder()


def has_json(text: str) -> bool:
    """Say whether a line of the text begins an object or a list."""
    return _START.search(text) is not None


def first_document(text: str) -> Any:
    """Return the first whole document of a text.

    Raises:
        ValueError: there is none, or its end is missing.
    """
    for start in _START.finditer(text):
        try:
            return _DECODER.raw_decode(text, start.start("start"))[0]
        except (ValueError, RecursionError):
            continue
    raise ValueError("no whole JSON document")
