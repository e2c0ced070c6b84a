"""PCIe as the kernel reports it: errors (AER), containment (DPC), slots, width, silent devices.

Source: the kernel's own format strings over the versions 3.10 to 6.12; wordings that changed are
both here. The address is that of the reporting port, which stands first in most lines.
"""

from __future__ import annotations

from chipmedic.faults.rule import BDF, rule

_NARROW_DRIVERS = (
    r"(?:mlx5_core|mlx4_core|nvidia|amdgpu|hycu|hydcu|bnxt_en|ice|hns3|habanalabs|i915|xe|nvme)"
)

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
        "DPC: ",
        r"DPC: (?:containment event|.*unmasked uncorrectable error detected|"
        r"ERR_(?:FATAL|NONFATAL|UNCOR) (?:detected|received))",
    ),
    rule(
        "pcie.gone",
        "pciehp",
        r"pciehp: Slot\([^)]*\): (?:Link Down|Card not present)|pciehp .*(?:Link Down|"
        r"Card not present)",
    ),
    rule(
        "pcie.no_answer",
        (" ready ", "hange power state"),
        r"not ready \d+ms after .*; giving up|"
        r"[Uu]nable to change power state from \S+ to \S+, device inaccessible|"
        r"can't change power state from .*config space inaccessible|"
        r"Refused to change power state",
    ),
    rule(
        "pcie.retrained",
        "retraining non-functional",
        r"retraining non-functional downstream link",
    ),
    rule(
        "pcie.narrow",
        "PCIe bandwidth, limited",
        rf"\b{_NARROW_DRIVERS} (?P<pci>{BDF}): [\d.]+ Gb/s available PCIe bandwidth, limited by",
    ),
)
