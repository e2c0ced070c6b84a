"""Intel Data Center GPU Max and Flex, through `xpu-smi` or `xpumcli`."""

from chipmedic_collectors.intel.collector import IntelGpu

__all__ = ["IntelGpu"]
