"""Kunlunxin and MetaX: the few lines that are public."""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import rule


def _metax_address(match: re.Match[str], finding: Finding) -> Finding:
    """Decode MetaX's address: domain<<16 | bus<<8 | device<<3 | function, in hex."""
    value = int(match["where"], 16)
    bus, device, function = (value >> 8) & 0xFF, (value >> 3) & 0x1F, value & 0x7
    return replace(finding, pci=f"{(value >> 16) & 0xFFFF:04x}:{bus:02x}:{device:02x}.{function}")


RULES = (
    rule(
        "kunlun.kernel_exception",
        ("session error", "Exception in kernel"),
        r"\b(?P<device>xpu\d+) sess\d+ \S+: session error|714 \(Exception in kernel execution\)",
    ),
    rule("kunlun.abnormal", "(713)", r"\(713\) Device abnormal"),
    rule(
        "kunlun.no_device", "default context for dev", r"Initialize default context for dev -1 fail"
    ),
    rule(
        "metax.error",
        ("METAX.B", "MXCD.B", "MXGVM.B"),
        r"\b(?:METAX|MXCD|MXGVM)\.B(?P<where>[0-9A-Fa-f]{1,8})\.\w+"
        r"\.(?:ERROR|FATAL|CRIT(?:ICAL)?|ALERT|EMERG)\b",
        _metax_address,
    ),
)
