"""A fake `npu-smi` and a fake `hccn_tool` for PATH, with the layouts and the lies of the real ones.

Both read the state of the simulated host anew at each call, from the JSON file that
`CHIPMEDIC_SIMULATOR_STATE` names (see `state`). They need Python and nothing else.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from chipmedic_simulator.ascend_tools.state import AscendChip, AscendHost, Process, load, save

__all__ = ["AscendChip", "AscendHost", "Process", "install", "load", "save"]

_MODULES = {"npu-smi": "npu_smi", "hccn_tool": "hccn_tool"}


def install(bin_dir: Path) -> None:
    """Write `npu-smi` and `hccn_tool` into a folder that is to stand on PATH."""
    bin_dir.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).resolve().parents[2]
    for tool, module in _MODULES.items():
        code = (
            f"import sys; sys.path.insert(0, {str(root)!r}); "
            f"from chipmedic_simulator.ascend_tools.{module} import main; sys.exit(main())"
        )
        # Without the site packages: the tools start in the time that the real ones take.
        call = f"exec {shlex.quote(sys.executable)} -E -S -c {shlex.quote(code)}"
        path = bin_dir / tool
        path.write_text(f'#!/bin/sh\n{call} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
