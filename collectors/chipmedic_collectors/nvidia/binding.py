"""The binding to NVML (nvidia-ml-py), loaded without what it does not need here.

It imports `ctypes.util`, whose only use is on Windows; with it come subprocess, tempfile and the
compressors, an eighth of the child's memory.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # typing itself would be a fifteenth of the child's memory
if TYPE_CHECKING:
    from typing import Any

_UNUSED = "ctypes.util"


def load_binding() -> Any:
    """Import pynvml; whoever else wants `ctypes.util` still gets the real one."""
    if "pynvml" in sys.modules or _UNUSED in sys.modules:
        return import_module("pynvml")
    stand_in = ModuleType(_UNUSED)
    stand_in.__dict__["find_library"] = _find_library
    sys.modules[_UNUSED] = stand_in
    try:
        return import_module("pynvml")
    finally:
        del sys.modules[_UNUSED]


def _find_library(name: str) -> str | None:
    """Do what the real one does, should the binding come to ask."""
    found: str | None = import_module(_UNUSED).find_library(name)
    return found


pynvml = load_binding()
