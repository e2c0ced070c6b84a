"""Where a commit is made: by which watchdog, and whether others work on the same store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One watchdog among those of the store."""

    watchdog: str = ""
    """Its id."""
    is_shared: bool = False
    """Whether there may be others."""
    leads: Callable[[Connection], bool] = lambda _: True
    """Whether it leads, and will until the end of the transaction."""


ALONE = Place()
