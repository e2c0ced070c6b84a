"""Huawei Ascend, through `npu-smi` and `hccn_tool`."""

from chipmedic_collectors.ascend.collector import Ascend

__all__ = ["Ascend"]
