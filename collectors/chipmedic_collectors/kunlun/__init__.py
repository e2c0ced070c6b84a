"""Kunlunxin XPUs, through `xpu_smi` and the driver's files in /proc/xpu."""

from chipmedic_collectors.kunlun.collector import Kunlun

__all__ = ["Kunlun"]
