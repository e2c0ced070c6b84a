"""Disks and file systems as the kernel reports them.

Source: the kernel's own format strings over the versions 3.10 to 6.12; wordings that changed are
both here.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import rule
from chipmedic.model import Action, Severity

_IGNORED_DISK = re.compile(r"\bdev (?:loop|fd|sr|ram|zram)\d")


def _real_disk(match: re.Match[str], finding: Finding) -> Finding | None:
    """Leave out loop devices, floppies and the like: an unplugged image is no sick disk."""
    return None if _IGNORED_DISK.search(finding.message) else finding


def _real_error(match: re.Match[str], finding: Finding) -> Finding | None:
    """Mildly note an NVMe command that is no access: drives refuse what a tool asks of them."""
    finding_of_disk = _real_disk(match, finding)
    is_refused = "(sct 0x" in finding.message and " @ LBA " not in finding.message
    if finding_of_disk is None or not is_refused:
        return finding_of_disk
    return replace(finding, severity=Severity.INFO, action=Action.NONE)


RULES = (
    # disks
    rule("", ("nvme", "Shutdown"), r"nvme.*(?:Abort status: 0x0\b|Shutdown timeout set to)"),
    rule(
        "disk.raid",
        ("Disk failure on", "megaraid_sas", "md/raid"),
        r"md/raid\S*: Disk failure on (?P<device>\S+?),?(?: |$)|"
        r"megaraid_sas .* is now (?:OFFLINE|DEGRADED|FAILED)|"
        r"md/raid\S*: ?(?:read error not correctable|.*[Tt]oo many read errors)",
    ),
    rule(
        "disk.controller",
        ("fault_state(", "non-operational", "in FAULT state"),
        r"mpt\dsas_cm\d+: .*(?:fault_state\(|SAS host is non-operational)|"
        r"megaraid_sas .*in FAULT state",
    ),
    rule(
        "disk.path",
        ("Failing path", "no usable path"),
        r"multipath: .*Failing path|\b(?P<device>nvme\d\w*): no usable path - requeuing I/O",
    ),
    rule(
        "disk.offline",
        ("offline device", "Device offlined", "hostbyte=DID_"),
        r"rejecting I/O to (?:offline|dead) device|Device offlined - not ready|"
        r"hostbyte=DID_(?:NO_CONNECT|BAD_TARGET|TRANSPORT_\w+|TIME_OUT)",
    ),
    rule(
        "disk.nvme_gone",
        "nvme",
        r"(?P<device>nvme\d\w*): (?:Disabling device after reset failure|"
        r"Device not ready; aborting|"
        r"no available path - failing I/O|Removing after probe failure)",
    ),
    rule(
        "disk.nvme_timeout",
        "nvme",
        r"(?P<device>nvme\d\w*): (?:I/O .*[Tt]imeout|controller is down; will reset|"
        r"frozen state error detected)|"
        r"\bnvme [0-9a-f:.]+: (?:I/O .*[Tt]imeout|Failed status: )",
    ),
    rule(
        "disk.io_error",
        (
            " error, dev ",
            "I/O error",
            "I/O Error",
            "end of device",
            "super_written",
            "(sct ",
        ),
        r"(?:I/O|critical [\w ]+|timeout|transport|protection) error, dev (?P<device>[\w-]+)|"
        r"md: super_written gets error|"
        r"Buffer I/O error on dev(?:ice)? (?P<device_buffer>[\w-]+)|"
        r"attempt to access beyond end of device|\(sct 0x[0-9a-f]+ / sc 0x",
        _real_error,
    ),
    rule(
        "disk.scsi",
        (
            "Medium Error",
            "Hardware Error [",
            "failed command",
            "Unrecovered read error",
            "exception Emask",
            "COMRESET failed",
            "unreadable (pending) sectors",
            "FAILED SMART",
            "hostbyte=DID_",
        ),
        r"Sense Key : (?:Medium|Hardware) Error|\bata\d+(?:\.\d+)?: failed command|"
        r"Unrecovered read error|\bata\d+(?:\.\d+)?: exception Emask|"
        r"[1-9]\d* Currently unreadable \(pending\) sectors|FAILED SMART self-check|"
        r"\bata\d+: COMRESET failed|hostbyte=DID_(?:ERROR|SOFT_ERROR|ABORT|RESET)\b",
    ),
    # file systems
    rule(
        "fs.read_only",
        ("emounting filesystem read-only", "forced readonly"),
        r"(?:\((?P<device>[\w-]+)\))?.*Remounting filesystem read-only|BTRFS .*forced readonly",
    ),
    rule(
        "fs.full",
        ("EXT4-fs", "wekafsio"),
        r"EXT4-fs \((?P<device>[\w-]+)\): Delayed block .* with error 28\b|"
        r"wekafsio: .*-err\w*\(.* => -28\b",
    ),
    rule(
        "fs.error",
        ("EXT4-fs", "EXT3-fs", "LDISKFS-fs", "XFS", "BTRFS", "JBD2", "Aborting journal", "F2FS"),
        r"(?:EXT[34]|LDISKFS)-fs error(?: \(device (?P<device>[\w-]+)\))?|"
        r"EXT4-fs \(\S+\): (?:I/O error while writing|Delayed block allocation failed|"
        r"previous I/O error to superblock|failed to convert unwritten extents|"
        r"error (?:count since last fsck: [1-9]|loading journal)|.*Data will be lost)|"
        r"EXT4-fs warning \(device [\w-]+\): .*I/O error|"
        r"XFS \(\S+\): .*(?:[Ss]hut(?:ting)? ?down|[Mm]etadata I/O [Ee]rror|[Ll]og I/O [Ee]rror|"
        r"[Cc]orruption|Internal error|writeback error|"
        r"xfs_log_force: error|Metadata CRC error)|"
        r"BTRFS:? (?:error|critical)|Aborting journal on device|"
        r"JBD2: (?:Detected IO errors|Error |I/O error )|"
        r"F2FS-fs.*corrupt",
    ),
    rule(
        "fs.nfs",
        (
            "not responding",
            "Lock reclaim failed",
            "NFS: state manager",
            "state recovery failed",
            "has not responded in",
        ),
        r"(?:nfs|nfs4|lockd|NFS|rpc): server (?P<device>\S+) not responding|Lock reclaim failed|"
        r"NFS: state manager: .* failed|NFSv4: state recovery failed|"
        r"CIFS:? .*has not responded in \d+ seconds",
    ),
    rule(
        "fs.cluster_gone",
        ("GPFS ", "mmfs", "in cluster", "by the system", "Lustre"),
        r"GPFS (?:Deadman Switch timer .* expired|logAssertFailed)|"
        r"mmfs daemon is shutting down abnormally|Lost membership in cluster |"
        r"File [Ss]ystem \S+ unmounted by the system with return code|"
        r"\bLustre(?:Error)?: .*(?:\bLBUG\b|ASSERTION\(.*\) failed)",
    ),
    rule(
        "fs.cluster",
        (
            *("LustreError", "Lustre:", "LNetError", "LNet:", "ceph:", "libceph", "beegfs:"),
            *("wekafsio", "isk lease period", "quorum nodes", "expelled"),
        ),
        r"LustreError: .*(?:evicted by|was evicted|evicting client|"
        r"operation \w+ to node .* failed: rc = -)|"
        r"Lustre(?:Error)?: .*(?:Connection to .* was lost|Request sent has (?:timed out|failed)|"
        r"I am evicting it)|"
        r"LNet(?:Error)?: .*[Tt]imed out|"
        r"ceph: .*mds\d+ (?:hung|caps (?:went )?stale|reconnect denied)|"
        r"libceph: (?:osd\d+ (?:.*(?:connect error)|down$)|mon\d+ .*session lost)|"
        r"beegfs: .*(?:Communication error|Communication with inactive node|"
        r"Retrying communication with node|Connect failed|Unable to connect|"
        r"Couldn't find any usable NIC)|"
        r"wekafsio: .*-err\w*\(.* => -\d|ERROR:: wekafsio: |"
        r"Disk lease period expired|Unable to contact any quorum nodes|"
        r"\b[Nn]ode .*(?:expelled because of an expired lease|expelled from (?:the )?cluster)",
    ),
)
