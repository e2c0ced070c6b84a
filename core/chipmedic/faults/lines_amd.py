"""AMD: lines of amdgpu, and of Hygon's hydcu and hycu, which are forks of it.

Source: the message formats of the amdgpu driver, captures of 2020 to 2026. Newer kernels print
the address once (`amdgpu 0000:dd:00.0:`), older ones add a second `amdgpu:`; `{1}` is the number
of a RAS event.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import as_row, rule
from chipmedic.model import Action, Severity

_DRIVER = ("amdgpu", "hydcu", "hycu")
_D = r"(?:amdgpu|hydcu|hycu)\b"

GARBAGE_STEP = 1_048_560
"""0xFFFF0: disabled RAS blocks answer each query with a count that grew by this; it is no error."""

_RESET_BY_USER = 5
COUNT_DIGITS = 18
"""More is no count; Python refuses to read thousands of digits."""
_NO_DEVICE = "19"

_BLOCKS = {"xgmi_wafl": "link", "pcie_bif": "pcie"}


def _by_count(match: re.Match[str], finding: Finding) -> Finding | None:
    """Leave out counts that are no errors; errors of a link block are link errors."""
    count = int(match["n"][:COUNT_DIGITS])
    if count % GARBAGE_STEP == 0:  # zero too
        return None
    kind = (
        f"{_BLOCKS[match['block'].lower()]}.errors" if match["block"].lower() in _BLOCKS else None
    )
    return replace(finding, count=count, kind=kind or finding.kind)


def _not_an_echo(match: re.Match[str], finding: Finding) -> Finding:
    """What an engine of the chip says of the same error is shown, and no second fault."""
    return replace(finding, severity=Severity.INFO) if match["echo"] else finding


def _by_source(match: re.Match[str], finding: Finding) -> Finding:
    """A reset that an operator asked for is no fault."""
    if match["source"] and int(match["source"]) == _RESET_BY_USER:
        return replace(finding, severity=Severity.INFO, action=Action.NONE)
    return finding


def _by_errno(match: re.Match[str], finding: Finding) -> Finding:
    """A reset that ended with "no such device" (19) met a chip that is gone."""
    errno = match["errno"] or match["errno_asic"] or match["errno_after"]
    return as_row(finding, "kernel:amd.lost") if errno == _NO_DEVICE else finding


RULES = (
    rule(
        "",
        _DRIVER,
        rf"{_D}.*(?:but soft recovered|detected in total in|\bno (?:un)?correctable|"
        r"callbacks suppressed|Process information: |BACO reset|finishing device|aca entry\[|"
        r"ACA\[\d+/\d+\]|ECC is (?:not )?(?:active|present)|[Pp]oison is (?:created|generated))",
    ),
    rule(
        "amd.lost",
        _DRIVER,
        rf"{_D}.*(?:device lost from bus|SMU: response:0xFFFFFFFF|[Dd]evice is lost|"
        r"PCI error: (?:device unavailable|detected callback, state\(3\)))",
    ),
    rule(
        "amd.athub",
        (*_DRIVER, "ERREVENT_ATHUB"),
        rf"{_D}.*(?<!no )uncorrectable hardware error ?\(ERREVENT_ATHUB|"
        r"(?P<echo>state may lost due to RAS ERREVENT_ATHUB)",
        _not_an_echo,
    ),
    rule(
        "amd.uncorrectable",
        _DRIVER,
        rf"{_D}.*?\b(?P<n>\d+) (?:new )?uncorrectable (?:hardware )?errors "
        r"(?:and \d+ deferred hardware errors )?detected in (?P<block>\w+)",
        _by_count,
    ),
    rule(
        "amd.deferred",
        _DRIVER,
        rf"{_D}.*?\b(?P<n>\d+) (?:new )?deferred hardware errors detected in (?P<block>\w+)",
        _by_count,
    ),
    rule(
        "amd.correctable",
        _DRIVER,
        rf"{_D}.*?\b(?P<n>\d+) (?:new )?correctable hardware errors detected in (?P<block>\w+)",
        _by_count,
    ),
    rule("amd.poison", _DRIVER, rf"{_D}.*(?:[Pp]oison is consumed|poison (?:data )?consumption)"),
    rule("amd.aca", "Accelerator Check", r"Accelerator Check Architecture events logged"),
    rule(
        "amd.bad_page_limit",
        _DRIVER,
        rf"{_D}.*(?:exceeds? (?:the )?(?:bad page )?threshold|[Bb]ad page threshold exceeded|"
        r"reaches threshold value|Replace this GPU)",
    ),
    rule("amd.bad_pages_near", _DRIVER, rf"{_D}.*exceeds 90% of threshold"),
    rule(
        "amd.ras_table",
        _DRIVER,
        rf"{_D}.*(?:RAS table incorrect checksum|Failed to write EEPROM table|"
        r"RAS EEPROM .*(?:[Ff]ailed|[Ii]nvalid))",
    ),
    rule(
        "amd.reset_failed",
        _DRIVER,
        rf"{_D}.*(?:GPU reset end with ret = -(?P<errno>\d+)|GPU reset\(\d+\) failed|"
        r"ASIC reset failed with error, -(?P<errno_asic>\d+)|"
        r"GPU Recovery Failed:? ?-?(?P<errno_after>\d+)?)",
        _by_errno,
    ),
    rule(
        "amd.reset_begin",
        _DRIVER,
        rf"{_D}.*GPU reset begin ?!?(?:\.? ?Source: *(?P<source>\d))?",
        _by_source,
    ),
    rule(
        "amd.reset_done",
        (*_DRIVER, "VRAM is lost"),
        rf"{_D}.*(?:GPU reset(?:\(\d+\))? succeeded|wedged, but recovered)|"
        r"VRAM is lost due to GPU reset",
    ),
    rule(
        "amd.too_hot",
        _DRIVER,
        rf"{_D}.*(?:over temperature range|Critical Temperature Fault|GPU HW CTF|"
        r"shutdown due to GPU)",
    ),
    rule(
        "amd.throttled", _DRIVER, rf"{_D}.*(?:thermal throttling temperature reached|is throttled)"
    ),
    rule(
        "amd.ring_timeout",
        " timeout, ",
        r"\bring \S+ timeout, (?:signaled seq=|but soft recovery failed)",
    ),
    rule(
        "amd.smu",
        ("SMU", *_DRIVER),
        r"SMU: I'm not done with your previous command|Failed to export SMU metrics table|"
        rf"{_D}.*SMU (?:is unresponsive|is in hanged state|may be not in the right state)|"
        rf"{_D}.*[Ff]ailed to (?:enable|disable) (?:all |requested dpm |smu )+features|"
        rf"{_D}.*Failed to send message 0x\w+, response 0x0\b",
    ),
    rule(
        "amd.hung",
        (*_DRIVER, "qcm fence", "MES might", "Queue preemption", "process queues", "cp might"),
        r"MES might be in unrecoverable state|Failed to (?:evict|restore) (?:process )?queues?|"
        r"Queue preemption (?:failed|time ?out)|qcm fence wait loop timeout|"
        r"cp might be in an? unrecoverable state|"
        rf"{_D}.*(?:MES failed to respon(?:d|se)(?: to)? msg|"
        r"[Ff]ailed to (?:add|remove) (?:hardware )?queue|Failed to quiesce KFD|"
        r"GPU recovery disabled|IP block:\S+ is hung)|"
        r"\[drm:mes_\S+.*MES failed to respon",
    ),
    rule("amd.mailbox", "ACK should not assert", r"trn=\d+ ACK should not assert"),
    rule(
        "amd.init_failed",
        (*_DRIVER, "hw_init of IP", "Fatal error during GPU"),
        rf"{_D}.*probe (?:of|with driver) .*failed with error|"
        rf"(?:{_D}.*|\[drm.*)(?:hw_init of IP block <\w+> failed|Fatal error during GPU init|"
        r"amdgpu_device_ip_init failed)",
    ),
    rule("amd.page_fault", _DRIVER, rf"{_D}.*page fault \(src_id"),
    rule("amd.driver_error", "amdgpu", r"\[drm[^\]]*amdgpu[^*]*\*ERROR\*|amdgpu .*\*ERROR\*"),
)
