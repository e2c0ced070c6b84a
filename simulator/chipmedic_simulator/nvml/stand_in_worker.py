"""The product's NVML worker with the stand-in as library; `CHIPMEDIC_NVML_WORKER` names it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pynvml

from chipmedic_collectors.nvidia import worker
from chipmedic_simulator.nvml.stand_in import StandIn
from chipmedic_simulator.nvml.state import STATE_VARIABLE


def main(argv: list[str]) -> int:
    """Put the stand-in where the binding looks for the library, and be the worker."""
    pynvml.nvmlLib = StandIn(Path(os.environ.get(STATE_VARIABLE, "")))
    return worker.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
