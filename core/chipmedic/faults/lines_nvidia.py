"""NVIDIA: Xid, SXid and the driver's lines that carry no number.

Formats: `kernel_rc.c` and the nvswitch sources of NVIDIA/open-gpu-kernel-modules 595.45.04, and
captures back to 2014. The number gives the catalog row; the text decides where it knows better
(the registers of 144 to 150, Fatal or Nonfatal, the recovery action of 154, retirement against
remapping).
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults import nvlink5
from chipmedic.faults.catalog import lookup
from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import BDF, as_row, normal_pci, of_row, rule
from chipmedic.model import Action, Severity

# `GPU-I:` and `GPU-CI:` are the MIG instance, inside the parentheses.
_ATTRIBUTE = r"(?:PCI:)?(?P<pci>[0-9a-fA-F]+(?::[0-9a-fA-F]+)+(?:\.[0-7])?|0x[0-9a-fA-F]+)[^)]*"
_XID = rf"NVRM: Xid \({_ATTRIBUTE}\)[^:]{{0,8}}: (?P<xid>\d{{1,6}})(?!\d)(?P<text>.*)"
_SXID = rf"SXid \({_ATTRIBUTE}\): (?P<sxid>\d{{1,6}})(?!\d)(?P<text>.*)"

_WHOLE_ADDRESS = re.compile(r"(?:[0-9a-fA-F]{1,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?")

_RECOVERY_ACTION = 154
_FATAL = re.compile(r"\bFatal\b")
_NONFATAL = re.compile(r"\bNon-?fatal\b", re.IGNORECASE)
_NEW_ACTION = re.compile(r"changed from .* to 0x(?P<code>[0-9a-fA-F]+)(?: \((?P<name>[^)]*)\))?")

_RENUMBERED = {f"sxid:{number}": f"sxid:{number + 1000}" for number in range(28001, 28007)}
"""Multicast codes before driver R570, which gave 28001 to 28005 to optics that print no Fatal
word.
"""

_ACTIONS = {
    0x1: Action.RESET_CHIP,
    0x2: Action.REBOOT_NODE,
    0x3: Action.RESTART_JOB,
    0x4: Action.RESET_CHIP,
    0x5: Action.REBOOT_NODE,
    0x6: Action.REBOOT_NODE,
    0x7: Action.REBOOT_NODE,
}
"""The driver's recovery actions: 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset, 5 recover the
IMEX domain, 6 bus reset, 7 system reboot (NVML field 230 has the same numbers)."""


def _address(match: re.Match[str]) -> str | None:
    """Return the address; None for a bare number, and for what a torn line left of one."""
    return normal_pci(match["pci"]) if _WHOLE_ADDRESS.fullmatch(match["pci"]) else None


def read_xid(match: re.Match[str], line: str) -> Finding | None:
    """Read one Xid line: the number's row, corrected by what the text says."""
    number = int(match["xid"])
    finding = of_row(lookup(f"xid:{number}"), line, pci=_address(match))
    if number in nvlink5.XIDS:
        return _by_registers(finding, number, match["text"])
    if number == _RECOVERY_ACTION:
        return _by_new_action(finding, match["text"])
    if number == 64 and "marked for remapping" in match["text"]:
        return as_row(finding, "xid:63")
    return finding


def _by_registers(finding: Finding, number: int, text: str) -> Finding:
    """Take what the registers say; the printed word decides where they say nothing.

    The word is not the action, but where it is graver than the registers the line is as grave as
    the word: one of the two is wrong, and a job that fails unannounced is the worse mistake.
    """
    row = nvlink5.decode(number, text)
    if row is None:
        return _by_fatal_word(finding, text)
    kind, severity = row.kind, row.severity
    if _FATAL.search(text) and severity < Severity.CRITICAL:
        kind, severity = "link.down", Severity.CRITICAL
    return replace(finding, kind=kind, severity=severity, action=row.action, hint=row.hint)


def _by_fatal_word(finding: Finding, text: str) -> Finding:
    """Let the word Fatal or Nonfatal of the line decide; without one the catalog's row stands."""
    is_link = finding.kind.startswith("link.")
    if _NONFATAL.search(text):
        severity = min(finding.severity, Severity.WARNING)
        kind = "link.errors" if is_link else finding.kind
        return replace(finding, kind=kind, severity=severity, action=Action.NONE)
    if _FATAL.search(text):
        kind = "link.down" if is_link else finding.kind
        action = Action.RESET_CHIP if finding.action is Action.NONE else finding.action
        return replace(finding, kind=kind, severity=Severity.CRITICAL, action=action)
    return finding


def _by_new_action(finding: Finding, text: str) -> Finding:
    """Take the action that the driver itself asks for; a change to None is a recovery."""
    change = _NEW_ACTION.search(text)
    if change is None:
        return finding
    code = int(change["code"], 16)
    if code == 0:
        return replace(finding, kind="info", severity=Severity.INFO, action=Action.NONE)
    severity = Severity.WARNING if code == 0x3 else Severity.CRITICAL
    return replace(finding, severity=severity, action=_ACTIONS.get(code, Action.RESET_CHIP))


def read_sxid(match: re.Match[str], line: str) -> Finding | None:
    """Read one NVSwitch line; the Severity and Data lines of an event are no event."""
    text = match["text"].lstrip(", ")
    word = text.split(" ", 1)[0].rstrip("{")
    if word and ("Severity".startswith(word) or "Data".startswith(word)):
        return None
    return _switch_fault(match, text, line)


def read_fabric_manager(match: re.Match[str], line: str) -> Finding | None:
    """Read what Fabric Manager says of a switch; it has the number and one of the two words."""
    return _switch_fault(match, match["word"].capitalize(), line)


def _switch_fault(match: re.Match[str], text: str, line: str) -> Finding:
    code = f"sxid:{match['sxid'].lstrip('0') or '0'}"
    has_word = _FATAL.search(text) or _NONFATAL.search(text)
    row = lookup(_RENUMBERED.get(code, code) if has_word else code)
    finding = replace(of_row(row, line, pci=_address(match)), code=code)
    return finding if row.is_fixed else _by_fatal_word(finding, text)


def _only_function_zero(match: re.Match[str], finding: Finding) -> Finding | None:
    """Leave out the audio function of a GPU: it says so at each AER and means nothing."""
    return finding if match["pci"].endswith(".0") else None


RULES = (
    rule("nvidia.xid", "Xid (", _XID, read=read_xid),
    rule("nvidia.sxid", "Xid (", _SXID, read=read_sxid),
    rule(
        "nvidia.fabric_manager",
        "NVSwitch ",
        r"NVSwitch (?P<word>fatal|non-fatal) error (?P<sxid>\d{1,6}) "
        r".*bus id (?P<pci>[0-9a-fA-F:.]+)",
        read=read_fabric_manager,
    ),
    rule(
        "nvidia.multicast",
        "multicast team",
        r"failed to find the GPU handle \d+ in the multicast team",
    ),
    rule(
        "",
        "NVRM",
        r"NVRM: GPU at PCI:\S+: GPU-[0-9a-f]|GPU serial number is|GPU Board Serial Number|"
        r"_fabricNotifyEvent: |GSP RPC buffer contains|NVRM: loading NVIDIA",
    ),
    rule("nvidia.fallen_off_bus", "NVRM", r"NVRM: .*fallen off the bus"),
    rule("nvidia.gsp_storm", "NVRM", r"Rate limiting GSP RPC error prints"),
    rule(
        "nvidia.gsp_heartbeat",
        "NVRM",
        r"NVRM: .*(?:GSP RM heartbeat timed out|Heartbeat ?[tT]imed ?[oO]ut|rpcRecvPoll timed ?out|"
        r"rpcSendMessage failed with status 0x0*65\b|Timeout .*waiting for RPC .*from GPU\d* ?GSP)",
    ),
    rule("nvidia.power_cable", "NVRM", r"NVRM: .*does not have the necessary power cables"),
    rule(
        "nvidia.api_mismatch",
        "NVRM",
        r"NVRM: API mismatch: |NVRM: .*(?:is not supported by .*NVIDIA .*driver|"
        r"installed in this system is not supported)|"
        r"NVRM: .*requires use of the NVIDIA open kernel modules",
    ),
    rule("nvidia.uvm_fatal", "NVRM", r"uvm encountered global fatal error"),
    rule("nvidia.locked", "NVRM", r"NVRM: .*RC watchdog: GPU is probably locked"),
    rule(
        "nvidia.gpu_is_lost",
        "NVRM",
        r"NVRM: .*(?:\[?NV_ERR_GPU_IS_LOST|\b[sS]tatus ?[:=]? ?\(?0x0*[fF]\b)",
    ),
    rule(
        "nvidia.reset_required",
        "NVRM",
        r"NVRM: .*(?:\[?NV_ERR_RESET_REQUIRED|\b[sS]tatus ?[:=]? ?\(?0x0*62\b|"
        r"WPR2 already up|may need to be reset|likely needs to be reset)",
    ),
    rule(
        "nvidia.gsp_boot",
        "NVRM",
        r"NVRM: .*(?:cannot bootstrap (?:riscv/)?gsp|Cannot initialize GSP|GSP-?\w* boot failed|"
        r"GSP-FMC reported an error|"
        r"failed to (?:load|find) GSP firmware|FSP boot failed|"
        r"kfspSendBootCommands\w*: .*[Ff]ailed)",
    ),
    rule(
        "nvidia.init_failed",
        ("NVRM", "nvidia-nvswitch", "probe of", "probe with driver"),
        r"NVRM: .*(?:RmInitAdapter failed|rm_init_adapter(?:\(\d+\))? failed|"
        r"probe routine (?:failed|was not called) for|already bound to \S+|request_irq\(\) failed|"
        r"[Ff]ailed to copy vbios|osInitNvMapping(?: failed|: .*Cannot attach)|"
        r"None of the NVIDIA (?:devices|graphics adapters) were (?:probed|initialized)|"
        r"PCI I/O region assigned to your NVIDIA device is invalid|BAR\d is 0M @|"
        r"[Cc]an't find an IRQ for your NVIDIA card|RmInitNvDevice failed)|"
        rf"nvidia {BDF}: probe with driver nvidia failed|nvidia: probe of {BDF} failed|"
        r"nvidia-nvswitch\d*: .*(?:[Ff]ailed to initialize|[Pp]robe failed)",
    ),
    rule(
        "nvidia.link_training",
        "NVRM",
        r"NVRM: .*[pP]ostRxDetL\w+.*[Ff]ailed|NVRM: .*PostRxDetectLinkMask",
    ),
    rule(
        "nvidia.driver_error",
        "NVRM",
        r"NVRM: (?!.*(?:nvAssert|nvCheck|VGA arbiter|serverFree|not found))"
        r".*\b(?:[Ff]ailed|[Ff]ailure|[Tt]imed ?out)\b",
    ),
    rule("nvidia.bad_register", "NVRM", r"NVRM: .*Possible bad register read"),
    rule(
        "pcie.no_recovery_gpu",
        "AER",
        rf"\bnvidia (?P<pci>{BDF}): AER: can't recover",
        _only_function_zero,
    ),
)
