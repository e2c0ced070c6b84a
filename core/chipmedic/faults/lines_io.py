"""Disks, file systems and networks as the kernel reports them.

Source: the kernel's own format strings over the versions 3.10 to 6.12; wordings that changed are
both here.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import BDF, rule

_IGNORED_DISK = re.compile(r"\bdev (?:loop|fd|sr|ram|zram)\d")
_VIRTUAL_PORT = re.compile(
    r"^(?:veth|docker|br-|cali|cni|flannel|virbr|vnet|tap|tun|lxc|lxd|dummy|cilium|podman|"
    r"nodelocal|kube)"
)


def _real_disk(match: re.Match[str], finding: Finding) -> Finding | None:
    """Leave out loop devices, floppies and the like: an unplugged image is no sick disk."""
    return None if _IGNORED_DISK.search(finding.message) else finding


def _with_port(match: re.Match[str], finding: Finding) -> Finding:
    """Name an InfiniBand port as its source does: `mlx5_5/1`."""
    port = match["port"]
    return replace(finding, device=f"{finding.device}/{port}") if port else finding


def _real_port(match: re.Match[str], finding: Finding) -> Finding | None:
    """Leave out the ports of containers: they come and go with them."""
    return None if _VIRTUAL_PORT.match(match["device"] or "") else finding


RULES = (
    # disks
    rule("", ("nvme", "Shutdown"), r"nvme.*(?:Abort status: 0x0\b|Shutdown timeout set to)"),
    rule("disk.raid", "Disk failure on", r"md/raid\S*: Disk failure on (?P<device>\S+?),?(?: |$)"),
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
        r"frozen state error detected)",
    ),
    rule(
        "disk.io_error",
        (
            "I/O error",
            "I/O Error",
            "end of device",
            "medium error, dev",
            "target error, dev",
            "(sct ",
        ),
        r"(?:I/O|critical \w+) error, dev (?P<device>[\w-]+)|"
        r"Buffer I/O error on dev(?:ice)? (?P<device_buffer>[\w-]+)|"
        r"attempt to access beyond end of device|\(sct 0x[0-9a-f]+ / sc 0x",
        _real_disk,
    ),
    rule(
        "disk.scsi",
        ("Medium Error", "Hardware Error [", "failed command", "Unrecovered read error"),
        r"Sense Key : (?:Medium|Hardware) Error|\bata\d+(?:\.\d+)?: failed command|"
        r"Unrecovered read error",
    ),
    # file systems
    rule(
        "fs.read_only",
        "emounting filesystem read-only",
        r"(?:\((?P<device>[\w-]+)\))?.*Remounting filesystem read-only",
    ),
    rule(
        "fs.error",
        ("EXT4-fs", "EXT3-fs", "XFS", "BTRFS", "JBD2", "Aborting journal", "F2FS"),
        r"EXT[34]-fs error(?: \(device (?P<device>[\w-]+)\))?|"
        r"EXT4-fs \(\S+\): I/O error while writing|"
        r"XFS \(\S+\): .*(?:[Ss]hut(?:ting)? ?down|[Mm]etadata I/O [Ee]rror|[Ll]og I/O [Ee]rror|"
        r"[Cc]orruption)|"
        r"BTRFS (?:error|critical)|Aborting journal on device|JBD2: Detected IO errors|"
        r"F2FS-fs.*corrupt",
    ),
    rule(
        "fs.nfs",
        ("not responding", "Lock reclaim failed"),
        r"(?:nfs|nfs4|lockd|NFS|rpc): server (?P<device>\S+) not responding|Lock reclaim failed",
    ),
    rule(
        "fs.cluster",
        ("LustreError", "Lustre:", "ceph:", "libceph"),
        r"LustreError: .*(?:evicted by|was evicted)|Lustre: .*Connection to .* was lost|"
        r"ceph: mds\d+ (?:hung|caps went stale)|libceph: osd\d+ .*(?:down|connect error)",
    ),
    # networks
    rule(
        "nic.dead",
        (
            "health compromised",
            "irmware internal error",
            "leak of a command",
            "irmware is not responding",
            "device is unhealthy",
        ),
        r"health compromised|[Ff]irmware internal error|"
        r"timeout\. Will cause a leak of a command resource|"
        r"(?:bnxt_en|ice|hns3|mlx5)\S* .*[Ff]irmware is not responding",
    ),
    rule(
        "nic.tx_timeout",
        ("transmit queue", "TX timeout"),
        r"NETDEV WATCHDOG: (?P<device>[\w.@-]+) \([\w-]+\): transmit queue|"
        r"(?P<device_newer>[\w.@-]+): NETDEV WATCHDOG: .*transmit queue \d+ timed out|"
        r"(?P<device_driver>[\w.@-]+): TX timeout (?:detected|on channel)",
    ),
    rule(
        "nic.module_hot",
        "Port module event",
        r"Port module event.*High Temperature",
    ),
    rule(
        "nic.module",
        "Port module event",
        r"Port module event\[error\].*Cable error, (?:Bus stuck|[Cc]able is shorted|Bad/unshielded|"
        r"[Uu]nsupported|Power budget exceeded|PCIe system power slot)",
    ),
    rule("nic.slot_power", "insufficient power", r"Detected insufficient power on the PCIe slot"),
    rule(
        "nic.down",
        (
            "ost carrier",
            "Link DOWN",
            "Link down",
            "Link is Down",
            "Link is down",
            "definitely down",
        ),
        rf"mlx[45]_core {BDF}:? (?P<device>[\w.-]+): (?:Port: (?P<port>\d+) )?Link (?:DOWN|down)|"
        rf"mlx[45]_core {BDF}: (?:Port: \d+ )?Link (?:DOWN|down)|"
        r"(?<!SATA )\bLink DOWN$|\bNIC Link is [Dd]own|Link is Down$|"
        r"status definitely down for interface (?P<device_bonded>[\w.-]+)",
        _with_port,
    ),
    rule("nic.down", "ost carrier", r"(?P<device>[\w.@-]+): [Ll]ost carrier", _real_port),
    rule("nic.peermem", "nv_get_p2p_free_callback", r"nv_get_p2p_free_callback.*invalid context"),
)
