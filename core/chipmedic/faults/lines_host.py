"""The host itself: crash, lock-up, memory, processor.

Source: the kernel's own format strings over the versions 3.10 to 6.12; wordings that changed are
both here. PCIe, disks and networks have files of their own.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import as_row, normal_pci, rule
from chipmedic.model import Action, Severity

_IN_CONTAINER = re.compile(
    r"CONSTRAINT_MEMCG|emory cgroup out of memory|killed as a result of limit"
)
_TOLD_AGAIN = re.compile(r"by the OOM killer|result 'oom-kill'")
"""What systemd says of a kill that the kernel has told of."""


def _contained(match: re.Match[str], finding: Finding) -> Finding:
    """A container that hit its own limit is not a node without memory.

    The first line of such a kill does not say which it is; the next ones do.
    """
    if _TOLD_AGAIN.search(finding.message):
        return replace(finding, severity=Severity.INFO)
    if _IN_CONTAINER.search(finding.message) or "invoked oom-killer" in finding.message:
        return replace(finding, severity=Severity.WARNING)
    return finding


def _at_address(match: re.Match[str], finding: Finding) -> Finding:
    """Give the address that an Intel IOMMU prints in brackets the form of all others."""
    where = match["device_address"]
    return finding if where is None else replace(finding, pci=normal_pci(where), device=None)


def _page_recovered(match: re.Match[str], finding: Finding) -> Finding:
    """A page that the kernel could take out of use without harm is a fact, no fault."""
    if match["outcome"] in {"Recovered", "Delayed"}:
        return replace(finding, severity=Severity.INFO, action=Action.NONE)
    return finding


def _once(match: re.Match[str], finding: Finding) -> Finding:
    """The line that ends the report of a panic repeats its reason."""
    del match
    is_end = "end Kernel panic" in finding.message
    return replace(finding, severity=Severity.INFO) if is_end else finding


def _of_firmware(match: re.Match[str], finding: Finding) -> Finding:
    """The first line of a record by the firmware does not say how grave it is; the next one does.

    Nor does the name that an AMD decoder gives to the record before it.
    """
    if match["source"]:
        return replace(finding, severity=Severity.INFO)
    if match["decoded"]:
        return replace(as_row(finding, "kernel:host.memory_corrected"), severity=Severity.INFO)
    return finding


RULES = (
    # crash
    rule("host.sysrq_crash", "sysrq", r"sysrq: .*Trigger a crash"),
    rule("host.panic", "Kernel panic", r"Kernel panic - not syncing", _once),
    rule(
        "host.oops",
        (
            "BUG",
            "Oops",
            "general protection fault",
            "[#",
            "Unable to handle",
            "Internal error",
            "recursive fault but",
            "PANIC: double",
        ),
        r"BUG: unable to handle|\bOops: |Internal error: |(?<!traps: )general protection fault[,:]|"
        r"^(?:divide error|invalid opcode|stack segment|double fault|bounds): 0000 \[#|"
        r"kernel BUG at |"
        r"Unable to handle kernel |BUG: kernel NULL pointer|Fixing recursive fault but reboot|"
        r"PANIC: double fault",
    ),
    rule("host.bad_page", "BUG: Bad ", r"BUG: Bad (?:page (?:state|map|cache)|rss-counter state) "),
    # the processor stands still
    rule(
        "host.lockup",
        ("lockup", "LOCKUP", "detected stall", "detected expedited", "kthread starved", "CSD lock"),
        r"BUG: soft lockup|detected hard LOCKUP|Hard LOCKUP|BUG: workqueue lockup|"
        r"detected (?:expedited )?stalls|self-detected stall|kthread starved for|"
        r"Detected non-responsive CSD lock",
    ),
    rule(
        "host.hung_task",
        ("blocked for more than", "blocked in I/O"),
        r"\btask .+:\d+ blocked (?:.*? )?for more than \d+ seconds",
    ),
    rule(
        "host.netdevice_stuck",
        "unregister_netdevice",
        r"unregister_netdevice: waiting for (?P<device>\S+) to become free",
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
            "Task in ",
            "OOM killer",
            "'oom-kill'",
        ),
        r"ut of memory(?:\s*\([^)]*\))?: Kill|oom-kill:constraint=|invoked oom-killer|"
        r"Out of memory and no killable processes|^Task in \S+ killed as a result of limit|"
        r"^Kill(?:ed)? process \d+ \(|killed by the OOM killer|[Rr]esult 'oom-kill'",
        _contained,
    ),
    rule("host.no_pages", "page allocation", r"page allocation (?:failure: order:|stalls for )"),
    rule("host.file_max", "file-max limit", r"VFS: file-max limit \d+ reached"),
    rule(
        "",
        "[Hardware Error]",
        r"Corrected error, no action required|event severity: (?:corrected|info)|"
        r"Error \d+, type: corrected",
    ),
    rule("", "Memory failure", r"Injecting memory failure|recovery action for clean .*: Recovered"),
    rule(
        "host.memory_page",
        "Memory failure",
        r"Memory failure: 0x[0-9a-f]+: (?:recovery action for .*: (?P<outcome>\w+)|"
        r"unhandlable page)",
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
        ("EDAC", "CMCI storm", "_STATUS[", "memory error count exceeded"),
        r"EDAC \S+ ?\S*: ?\d+ CE |EDAC \S+: CE (?:page|row|-)|EDAC \S+ MC\d+: CE |"
        r"CMCI storm detected|corrected \w+ memory error count exceeded threshold|"
        r"MC\d+_STATUS\[[^\]]*\|CE\|",
    ),
    rule(
        "host.memory_isolated", "memory_offline_notify", r"RAS: .*call notify chain to isolate page"
    ),
    # processor
    rule(
        "host.mce_uncorrected",
        ("[Hardware Error]", "_STATUS[", "SError Interrupt", "external abort", "NMI: "),
        r"Uncorrected, software (?:restartable|containable) error|System Fatal error|"
        r"SError Interrupt on CPU\d|[Ss]ynchronous [Ee]xternal [Aa]bort|"
        r"NMI: (?:PCI system error|IOCK error|memory parity error)|"
        r"\[Hardware Error\]: Machine check: |"
        r"MC\d+_STATUS\[[^\]]*\|UE\||\[Hardware Error\]: (?:event severity:| *Error \d+, type:) "
        r"(?:fatal|recoverable)",
    ),
    rule(
        "host.mce_raw",
        "[Hardware Error]",
        r"\[Hardware Error\]: CPU ?\d+: Machine Check(?: Exception)?:",
    ),
    rule(
        "host.mce_logged",
        "[Hardware Error]",
        r"\[Hardware Error\]: (?:Machine check events logged|(?P<source>Hardware error from APEI)|"
        r"(?P<decoded>.*DRAM ECC error))",
        _of_firmware,
    ),
    rule("host.nmi_unknown", "NMI received", r"NMI received for unknown reason"),
    rule(
        "host.iommu",
        ("AMD-Vi", "DMAR", "arm-smmu"),
        r"AMD-Vi: .*Event logged \[\w+ (?:domain=\w+ )?device=(?P<pci>[0-9a-f:.]+)|"
        r"AMD-Vi: (?:Completion-Wait loop timed out|Event logged \[\w*FAULT )|"
        r"arm-smmu\S* .*\bevent 0x[0-9a-f]+ received|"
        r"DMAR: ?\[(?:DMA|INTR)[^\]]*\] Request device \[(?P<device_address>[0-9a-f:.]+)\]",
        _at_address,
    ),
    rule(
        "host.cpu_hot",
        "above threshold, cpu clock",
        r"temperature (?:is )?above threshold, cpu clock (?:is )?throttled",
    ),
    rule("host.cpu_power", "power limit notification", r"power limit notification \(total events"),
    rule(
        "host.too_hot",
        "ritical temperature",
        r"thermal.*critical temperature reached|[Cc]ritical temperature reached.*shutting down",
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
