"""The environment that makes the NVIDIA collector of a process see a simulated host."""

from __future__ import annotations

import os
from pathlib import Path

from chipmedic.errors import ToolFailed, ToolMissing
from chipmedic_simulator.nvml.build import build
from chipmedic_simulator.nvml.state import STATE_VARIABLE

STAND_IN_VARIABLE = "CHIPMEDIC_SIMULATOR_NVML_STAND_IN"
STAND_IN_WORKER = "chipmedic_simulator.nvml.stand_in_worker"
LIBRARY_VARIABLE = "CHIPMEDIC_NVML_LIBRARY"
WORKER_VARIABLE = "CHIPMEDIC_NVML_WORKER"


def stand_in_environment(state: Path) -> dict[str, str]:
    """Return the variables with which NVML is the stand-in in Python."""
    return {STATE_VARIABLE: str(state), WORKER_VARIABLE: STAND_IN_WORKER}


def library_environment(state: Path, library: Path) -> dict[str, str]:
    """Return the variables with which NVML is the compiled fake library."""
    return {STATE_VARIABLE: str(state), LIBRARY_VARIABLE: str(library)}


def environment(state: Path, cache: Path | None = None) -> tuple[dict[str, str], str]:
    """Return the variables for an agent's process, and a line that says what NVML is in it.

    The compiled library where it can be built, else the stand-in; `STAND_IN_VARIABLE=1` asks for
    that.
    """
    if os.environ.get(STAND_IN_VARIABLE) == "1":
        return stand_in_environment(state), "NVML is the stand-in in Python, as asked"
    try:
        library = build(cache)
    except (ToolMissing, ToolFailed) as e:
        return stand_in_environment(state), f"NVML is the stand-in in Python: {e}"
    return library_environment(state, library), f"NVML is the fake library {library}"
