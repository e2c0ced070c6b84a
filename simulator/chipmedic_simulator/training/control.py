"""What a job is told to do wrong: a JSON file that each rank reads again at every step.

{"hang_rank": 1, "crash_rank": null, "slow_rank": null, "slow_seconds": 0.0}
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "control.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The troubles of a job; None and 0 are no trouble."""

    hang_rank: int | None = None
    """This rank stops before the barrier and says nothing."""
    crash_rank: int | None = None
    slow_rank: int | None = None
    slow_seconds: float = 0.0


def read(folder: Path) -> Control:
    """Return what the file says; no file is no trouble."""
    try:
        return Control(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Control()


def write(folder: Path, control: Control) -> None:
    """Replace the file in one step."""
    fresh = folder / f"{FILE}.new"
    fresh.write_text(json.dumps(asdict(control)), encoding="utf-8")
    fresh.rename(folder / FILE)
