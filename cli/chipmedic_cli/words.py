"""How values are shown to a person: ages, severities, clipped text."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.markup import escape
from rich.text import Text

COLOURS = {
    "critical": "bold red",
    "warning": "yellow",
    "info": "dim",
    "open": "red",
    "silent": "bold red",
    "recovering": "yellow",
    "verifying": "yellow",
    "acknowledged": "yellow",
    "connected": "green",
    "resolved": "green",
    "delivered": "green",
    "gathered": "green",
    "active": "yellow",
    "done": "green",
    "failed": "bold red",
    "held": "bold red",
    "unknown": "yellow",
}
STEPS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def age(at: float | None, now: float | None = None) -> str:
    """Say how long ago a time was, in its largest whole unit (`3 min`); `-` for no time."""
    if at is None:
        return "-"
    seconds = max(0.0, (time.time() if now is None else now) - at)
    for size, unit in STEPS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock(at: float | None) -> str:
    """Return a time in UTC as people read it in logs; `-` for no time."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def coloured(word: str) -> str:
    """Return a state or severity in its colour, safe to print."""
    colour = COLOURS.get(word)
    return f"[{colour}]{escape(word)}[/]" if colour else escape(word)


def plain(value: object) -> Text:
    """Return foreign text that is printed as it is, whatever brackets or control signs it holds."""
    text = "".join(c if c.isprintable() else "·" for c in str(value))
    return Text(text)
