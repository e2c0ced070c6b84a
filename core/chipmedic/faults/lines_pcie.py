"""PCIe as the kernel reports it: errors (AER), containment (DPC), slots, width, silent devices.

Source: the kernel's own format strings over the versions 3.10 to 6.12; wordings that changed are
both here. The address is that of the reporting port, which stands first in most lines.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import BDF, rule
from chipmedic.model import Action, Severity

_NARROW_DRIVERS = (
    r"(?:mlx5_core|mlx4_core|nvidia|amdgpu|hycu|hydcu|bnxt_en|ice|hns3|habanalabs|i915|xe|nvme)"
)

_FAST_GIGABITS = 100
"""Accelerators, their network cards and drives can do more; what is slower is a BMC or the like."""


def _by_width(match: re.Match[str], finding: Finding) -> Finding | None:
    """Judge what the kernel itself says of a device before its driver has woken it.

    A link at low speed only sleeps then; one that lacks lanes is told of, and the driver decides.
    """
    if not match["core"]:
        return finding
    if not match["gigabits"] or float(match["gigabits"]) < _FAST_GIGABITS:
        return None
    if match["width"] == match["full_width"]:
        return None
    return replace(finding, severity=Severity.INFO, action=Action.NONE)


RULES = (
    rule(
        "",
        ("AER", "PCIe Bus Err"),
        r"AER: (?:found no error details|can't find device|.*aer_status:|"
        r"device recovery successful)|"
        r"snd_hda_intel .*AER: can't recover",
    ),
    rule(
        "pcie.fatal",
        ("AER", "PCIe Bus Err"),
        rf"(?P<pci>{BDF}).*(?:AER: (?:Multiple )?Uncorrect(?:ed|able) \(Fatal\)|"
        r"severity=Uncorrect(?:ed|able) \(Fatal\)|severity=Fatal)|"
        r"AER: (?:Multiple )?Uncorrect(?:ed|able) \(Fatal\)|severity=Uncorrect(?:ed|"
        r"able) \(Fatal\)",
    ),
    rule(
        "pcie.fatal",
        "PCI error",
        rf"\bamdgpu (?P<pci>{BDF}): .*PCI error: detected callback, state\(2\)",
    ),
    rule(
        "pcie.nonfatal",
        ("AER", "PCIe Bus Err"),
        r"AER: (?:Multiple )?Uncorrect(?:ed|able) \(Non-?Fatal\)|"
        r"severity=Uncorrect(?:ed|able) \(Non-?Fatal\)",
    ),
    rule(
        "pcie.corrected",
        ("AER", "PCIe Bus Err"),
        r"AER: (?:Multiple )?Correct(?:ed|able) error|PCIe Bus Error: severity=Correct(?:ed|able)",
    ),
    rule(
        "pcie.recovery_failed",
        "AER",
        r"AER: (?:device recovery failed|subordinate device reset failed)",
    ),
    rule(
        "pcie.no_recovery",
        "AER",
        rf"\b(?:amdgpu|xe|i915|habanalabs|mlx5_core|nvme) (?P<pci>{BDF}): AER: can't recover",
    ),
    rule(
        "pcie.contained",
        "DPC",
        r"DPC:? (?:containment event|.*unmasked uncorrectable error detected|"
        r"ERR_(?:FATAL|NONFATAL|UNCOR) (?:detected|received))",
    ),
    rule(
        "pcie.gone",
        "pciehp",
        r"pciehp: Slot\([^)]*\): (?:Link Down|Card not present|Cannot train link|"
        r"Failed to check link status)|pciehp .*(?:Link Down|Card not present)",
    ),
    rule(
        "pcie.no_answer",
        (" ready ", "hange power state", "unknown header type 7f"),
        r"not ready \d+ms after .*; giving up|"
        r"[Uu]nable to change power state from \S+ to \S+, device inaccessible|"
        r"can't change power state from .*config space inaccessible|"
        r"Refused to change power state|unknown header type 7f",
    ),
    rule(
        "pcie.retrained",
        "retraining non-functional",
        r"retraining non-functional downstream link",
    ),
    rule(
        "pcie.narrow",
        "PCIe bandwidth, limited",
        rf"\b(?:{_NARROW_DRIVERS}|(?P<core>pci)) (?P<pci>{BDF}): [\d.]+ Gb/s available PCIe "
        r"bandwidth, limited by (?:.*? x(?P<width>\d+) link at .*"
        r"\(capable of (?P<gigabits>\d+)\S* Gb/s with .* x(?P<full_width>\d+) link)?",
        _by_width,
    ),
)
