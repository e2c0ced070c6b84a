"""Checks that the sections of `[recover]` share."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter
from typing import Any

from chipmedic.section import Check


def placeholders(key: str, allowed: set[str]) -> tuple[Check, ...]:
    """Check that a command has none but the known placeholders."""
    known = ", ".join("{" + word + "}" for word in sorted(allowed))

    def check(section: Any) -> Iterator[str]:
        for argument in getattr(section, key):
            for name in _names(argument):
                if name is None:
                    yield f"{key}: {argument!r}: a brace without its other; write {{{{ or }}}}"
                elif name not in allowed:
                    yield f"{key}: {{{name}}} is not a placeholder here; there are: {known}"

    return (check,)


def _names(argument: str) -> Iterator[str | None]:
    """Yield the placeholders of an argument; None: its braces do not fit."""
    try:
        yield from (name for _, name, _, _ in Formatter().parse(argument) if name is not None)
    except ValueError:
        yield None
