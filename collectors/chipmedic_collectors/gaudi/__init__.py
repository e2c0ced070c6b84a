"""Intel Gaudi, through `hl-smi` and the driver's files in sysfs."""

from chipmedic_collectors.gaudi.collector import Gaudi

__all__ = ["Gaudi"]
