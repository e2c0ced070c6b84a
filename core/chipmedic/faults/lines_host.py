"""The host itself: crash, lock-up, memory, processor, PCIe.

Source: the kernel's own format strings over the versions 3.10 to 6.12; wordings that changed are
both here. Disks, file systems and networks are in `lines_io.py`.
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


def _contained(match: re.Match[str], finding: Finding) -> Finding:
    """A container that hit its own limit is not a node without memory."""
    if "CONSTRAINT_MEMCG" in finding.message or "emory cgroup out of memory" in finding.message:
        return replace(finding, severity=Severity.WARNING)
    return finding


def _page_recovered(match: re.Match[str], finding: Finding) -> Finding:
    """A page that the kernel could take out of use without harm is a fact, no fault."""
    if match["outcome"] in {"Recovered", "Delayed"}:
        return replace(finding, severity=Severity.INFO, action=Action.NONE)
    return finding


RULES = (
    # crash
    rule("host.sysrq_crash", "sysrq", r"sysrq: .*Trigger a crash"),
    rule("host.panic", "Kernel panic", r"Kernel panic - not syncing"),
    rule(
        "host.oops",
        ("BUG", "Oops", "general protection fault", "[#", "Unable to handle", "Internal error"),
        r"BUG: unable to handle|\bOops: |Internal error: |(?<!traps: )general protection fault[,:]|"
        r"^(?:divide error|invalid opcode|stack segment|double fault|bounds): 0000 \[#|"
        r"kernel BUG at |"
        r"Unable to handle kernel |BUG: kernel NULL pointer",
    ),
    # the processor stands still
    rule(
        "host.lockup",
        ("lockup", "LOCKUP", "detected stall", "-detected stall", "kthread starved"),
        r"BUG: soft lockup|detected hard LOCKUP|Hard LOCKUP|BUG: workqueue lockup|"
        r"detected (?:expedited )?stalls|self-detected stall|kthread starved for",
    ),
    rule(
        "host.hung_task",
        "blocked for more than",
        r"\btask .+:\d+ blocked (?:.*? )?for more than \d+ seconds",
    ),
    # memory
    rule("", "oom_reaper", r"oom_reaper: reaped process"),
    rule(
        "host.oom",
        (
            "ut of memory",
            "oom-kill:constraint",
            "invoked oom-killer",
            "Killed process",
            "Kill process",
        ),
        r"ut of memory(?:\s*\([^)]*\))?: Kill|oom-kill:constraint=|invoked oom-killer|"
        r"^Kill(?:ed)? process \d+ \(",
        _contained,
    ),
    rule("host.file_max", "file-max limit", r"VFS: file-max limit \d+ reached"),
    rule(
        "",
        "[Hardware Error]",
        r"Corrected error, no action required|event severity: (?:corrected|info)",
    ),
    rule("", "Memory failure", r"Injecting memory failure|recovery action for clean .*: Recovered"),
    rule(
        "host.memory_page",
        "Memory failure",
        r"Memory failure: 0x[0-9a-f]+: recovery action for .*: (?P<outcome>\w+)",
        _page_recovered,
    ),
    rule(
        "host.memory_uncorrected",
        (
            "EDAC",
            "Memory failure",
            "memory error",
            "[Hardware Error]",
            "memory corruption",
            "MCE 0x",
        ),
        r"EDAC \S+ ?\S*: ?\d+ UE |EDAC \S+: UE |Memory failure: 0x[0-9a-f]+: (?:Killing|"
        r"Sending SIGBUS)|"
        r"MCE (?:0x)?[0-9a-f]+: Killing|[Uu]ncorrected hardware memory error|"
        r"\[Hardware Error\]: Deferred error|due to hardware memory corruption",
    ),
    rule(
        "host.memory_corrected",
        ("EDAC", "CMCI storm", "_STATUS["),
        r"EDAC \S+ ?\S*: ?\d+ CE |EDAC \S+: CE (?:page|row|-)|CMCI storm detected|"
        r"MC\d+_STATUS\[[^\]]*\|CE\|",
    ),
    rule(
        "host.memory_isolated", "memory_offline_notify", r"RAS: .*call notify chain to isolate page"
    ),
    # processor
    rule(
        "host.mce_uncorrected",
        ("[Hardware Error]", "_STATUS["),
        r"Uncorrected, software (?:restartable|containable) error|System Fatal error|"
        r"MC\d+_STATUS\[[^\]]*\|UE\||\[Hardware Error\]: event severity: (?:fatal|recoverable)",
    ),
    rule(
        "host.mce_raw",
        "[Hardware Error]",
        r"\[Hardware Error\]: CPU ?\d+: Machine Check(?: Exception)?:",
    ),
    rule("host.mce_logged", "[Hardware Error]", r"\[Hardware Error\]: Machine check events logged"),
    rule(
        "host.cpu_hot",
        "temperature above threshold",
        r"temperature above threshold, cpu clock throttled",
    ),
    rule(
        "host.too_hot",
        "critical temperature",
        r"thermal.*critical temperature reached|critical temperature reached.*shutting down",
    ),
    # PCIe; the address is that of the reporting port, which stands first
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
    rule("pcie.recovery_failed", "AER", r"AER: device recovery failed"),
    rule(
        "pcie.no_recovery",
        "AER",
        rf"\b(?:amdgpu|xe|i915|habanalabs|mlx5_core|nvme) (?P<pci>{BDF}): AER: can't recover",
    ),
    rule(
        "pcie.contained",
        "DPC: ",
        r"DPC: (?:containment event|.*unmasked uncorrectable error detected)",
    ),
    rule(
        "pcie.gone",
        "pciehp",
        r"pciehp: Slot\([^)]*\): (?:Link Down|Card not present)|pciehp .*(?:Link Down|"
        r"Card not present)",
    ),
    rule(
        "pcie.narrow",
        "PCIe bandwidth, limited",
        rf"\b{_NARROW_DRIVERS} (?P<pci>{BDF}): [\d.]+ Gb/s available PCIe bandwidth, limited by",
    ),
    # user processes
    rule(
        "job.library_crash",
        "segfault at",
        r"segfault at .* in lib(?:nccl|rccl|hccl|cuda|cudart|cublas\w*|cudnn\w*|torch\w*|c10\w*|"
        r"ascendcl|amdhip64)\b",
    ),
    rule(
        "job.crash",
        ("segfault at", "traps: "),
        r"\[\d+\]: segfault at |traps: .*\[\d+\] (?:general protection|trap )|traps: .* ip:",
    ),
)
