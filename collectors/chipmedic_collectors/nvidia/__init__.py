"""NVIDIA GPUs: through NVML in a child process (`Nvidia`), and captured tool output (`smi`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chipmedic_collectors.nvidia.collector import Nvidia

__all__ = ["Nvidia"]


def __getattr__(name: str) -> Any:
    """Import the collector when asked for it: the child lives here too and must stay small."""
    if name == "Nvidia":
        from chipmedic_collectors.nvidia.collector import Nvidia

        return Nvidia
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
