"""What the user of a job allows, said in its comment: `--comment=chipmedic:in_place,shrink=4`.

The rest of the comment is the user's own. A word that is not known here allows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

TAG = "chipmedic:"
NODES_MAX_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a job allows."""

    in_place: bool = False
    """Its script starts the next step when one has been ended."""
    shrink_to: int | None = None
    """The same on fewer nodes, these at least."""


def read_wishes(comment: str) -> Wishes:
    """Read a job's comment; whatever is in it, no more is allowed than what it says."""
    words = [word for word in comment.split() if word.startswith(TAG)]
    given = [part for word in words for part in word.removeprefix(TAG).split(",")]
    least = [part.removeprefix("shrink=") for part in given if part.startswith("shrink=")]
    numbers = [
        int(n) for n in least if n.isascii() and n.isdecimal() and len(n) <= NODES_MAX_DIGITS
    ]
    return Wishes(
        in_place="in_place" in given,
        shrink_to=max(numbers) if numbers and min(numbers) > 0 else None,
    )
