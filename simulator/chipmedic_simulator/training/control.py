"""What a job is told to do wrong: a JSON file that each rank reads again at every step.

{"attempt": 0, "hang_rank": 1, "crash_rank": null, "slow_rank": null, "slow_seconds": 0.0}
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from chipmedic_simulator.host_root import write as replace_file

FILE = "control.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The troubles of a job; None and 0 are no trouble."""

    attempt: int | None = None
    """The start of the job that has them, as a deadlock does not outlive a restart; None: all."""
    hang_rank: int | None = None
    """This rank stops before the barrier and says nothing."""
    crash_rank: int | None = None
    slow_rank: int | None = None
    slow_seconds: float = 0.0


def read(folder: Path, attempt: int = 0) -> Control:
    """Return what the file says to one start of the job; no file is no trouble."""
    try:
        told = Control(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Control()
    return told if told.attempt in (None, attempt) else Control()


def write(folder: Path, control: Control) -> None:
    """Replace the file in one step."""
    replace_file(folder / FILE, json.dumps(asdict(control)))
