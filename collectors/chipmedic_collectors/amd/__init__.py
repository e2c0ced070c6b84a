"""AMD Instinct and Radeon, through `amd-smi` or the older `rocm-smi`."""

from chipmedic_collectors.amd.collector import Amd

__all__ = ["Amd"]
