"""Intel: GPU Max, Flex and Arc (i915, xe), and Gaudi (habanalabs).

Source: the vendor's own list of critical patterns in xpumanager and captures for the GPUs; for
Gaudi the driver's format strings, because no capture of a real fault has been published.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import BDF, rule

_GAUDI = r"(?:habanalabs|accel accel\d+)\b"
_GAUDI_NEEDLES = ("habanalabs", "accel accel")


def _gaudi_device(match: re.Match[str], finding: Finding) -> Finding:
    """Name the device (`hl3`, `accel3`) where the line has no address."""
    named = re.search(r"\b(?:hl|accel)\d+\b", finding.message)
    return replace(finding, device=named.group()) if named and finding.pci is None else finding


RULES = (
    rule("", "GPU hang", r"GPU hangs can indicate a bug|Please file a _?new_? bug report"),
    rule(
        "intel.wedged",
        ("wedged", "Failed to reset "),
        rf"declared device (?P<pci>{BDF}) as wedged|device wedged, needs recovery|"
        r"\b(?:i915|xe) .*Failed to reset (?:chip|GPU)",
    ),
    rule(
        "intel.lost",
        "MMIO unreliable",
        r"MMIO unreliable \(forcewake register returns 0xFFFFFFFF\)",
    ),
    rule(
        "intel.init_failed",
        (
            "forcewake",
            "GuC ",
            "LMEM not",
            "Failed to initialize GPU",
            "urvivability mode",
            "load failed: s",
        ),
        r"timed out waiting for forcewake ack|GuC initialization failed|GuC load failed|"
        r"LMEM not initialized by firmware|(?:i915|xe) .*Failed to initialize GPU|"
        r"\bxe .*(?:[Ss]urvivability mode|GT\d+: load failed: status)",
    ),
    rule("intel.iommu", "IOMMU catastrophic", r"IOMMU catastrophic error"),
    rule(
        "intel.hung",
        (
            "GPU HANG",
            "GPU hang",
            "Xe device coredump",
            "stuck on",
            "Timedout job",
            "job timed out",
            "SIGID=",
            "ngine reset",
            ": reset failed",
            "reset request timed",
        ),
        r"SIGID=\d+ .*Engine '\w+' hung|\bGPU HANG: ecode|context reset due to GPU hang|"
        r"Xe device coredump has been created|"
        r"\bstuck on \w+ ring|Timedout job|\bxe .*\bjob timed out|"
        r"\bi915 .*(?:Engine reset failed|reset request timed out)|"
        r"\bxe .*(?:engine reset request failed|GT\d+: reset failed)",
    ),
    rule(
        "intel.engine_reset",
        ("ngine reset", "Resetting ", ": reset ", "trying reset from"),
        r"Engine reset: engine_class=|\bxe .*GT\d+: (?:reset (?:queued|started)|trying reset from)|"
        r"Resetting \w+ (?:for (?:preemption time ?out|stopped heartbeat|hang on|GuC failed)|"
        r"after gpu hang)",
    ),
    rule(
        "intel.guc",
        ("GuC", "TLB invalidation"),
        r"\b(?:i915|xe)\b.*(?:GuC mmio request .*no reply|Failed to reset GuC|"
        r"TLB invalidation .*(?:time'd out|timed out|timeout)|TLB invalidation timed out|"
        r"Invalid GuC reply)",
    ),
    rule(
        "intel.hardware_fatal",
        "[Hardware Error]",
        r"\b(?:i915|xe) .*\[Hardware Error\].*\b(?i:fatal)\b",
    ),
    rule(
        "intel.hardware_error",
        "[Hardware Error]",
        r"\b(?:i915|xe) .*\[Hardware Error\].*\b(?i:non-?fatal)\b",
    ),
    rule(
        "intel.hardware_corrected",
        "[Hardware Error]",
        r"\b(?:i915|xe) .*\[Hardware Error\].*\b(?i:correctable)\b",
    ),
    rule("intel.cat_error", "memory CAT error", r"Engine memory CAT error"),
    rule("intel.page_fault", "Fault response", r"\bxe .*Fault response: Unsuccessful"),
    rule("intel.gsc", "mei_gsc", r"mei_gsc.*id exceeded"),
    rule("intel.driver_error", "*ERROR*", r"\b(?:i915|xe)\b.*\*ERROR\*"),
    rule(
        "gaudi.lost",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*heartbeat failed! PCI link is broken",
        _gaudi_device,
    ),
    rule("gaudi.heartbeat", _GAUDI_NEEDLES, rf"{_GAUDI}.*heartbeat failed", _gaudi_device),
    rule(
        "gaudi.unusable",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*Failed to reset.*Device is (?:NOT|not) usable",
        _gaudi_device,
    ),
    rule(
        "gaudi.init_failed",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*(?:Device is (?:NOT|not) usable|"
        r"[Ff]ailed to initialize (?:the H/W|hl\d|accel\d)|"
        r"Failed to communicate with Device CPU|Device boot .*(?:error|failed)|"
        r"Failed to load firmware)",
        _gaudi_device,
    ),
    rule(
        "gaudi.stuck",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*(?:Command submission \d+ has timed out|CS \d+ has (?:got stuck|timed out))",
        _gaudi_device,
    ),
    rule(
        "gaudi.hot", _GAUDI_NEEDLES, rf"{_GAUDI}.*Received high temp H/W interrupt", _gaudi_device
    ),
    rule("gaudi.page_fault", _GAUDI_NEEDLES, rf"{_GAUDI}.*page fault on va", _gaudi_device),
    rule(
        "gaudi.reset_begin",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*(?:Failed to do soft-reset, trying hard reset|Going to reset(?: the)? device)",
        _gaudi_device,
    ),
    rule(
        "gaudi.reset_done",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*Successfully finished resetting the device",
        _gaudi_device,
    ),
    rule(
        "gaudi.uncorrectable",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*(?:ECC event.*(?:critical|DERR|uncorrectable)|_?DERR\b|"
        r"ECC error detected.* critical 1\b)",
        _gaudi_device,
    ),
    rule(
        "gaudi.correctable",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*(?:ECC event|_?SERR\b|ECC error detected)",
        _gaudi_device,
    ),
    rule(
        "gaudi.interrupt",
        _GAUDI_NEEDLES,
        rf"{_GAUDI}.*(?:Received H/W interrupt|\b[Ee]rr(?:or)? cause: |System Error Interrupt)",
        _gaudi_device,
    ),
)
