"""Network ports and their cards as the kernel reports them.

Source: the kernel's own format strings over the versions 3.10 to 6.12; wordings that changed are
both here.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import BDF, rule

_VIRTUAL_PORT = re.compile(
    r"^(?:veth|docker|br-|cali|cni|flannel|virbr|vnet|tap|tun|lxc|lxd|dummy|cilium|podman|"
    r"nodelocal|kube)"
)


def _with_port(match: re.Match[str], finding: Finding) -> Finding:
    """Name an InfiniBand port as its source does: `mlx5_5/1`."""
    port = match["port"]
    return replace(finding, device=f"{finding.device}/{port}") if port else finding


def _real_port(match: re.Match[str], finding: Finding) -> Finding | None:
    """Leave out the ports of containers: they come and go with them."""
    return None if _VIRTUAL_PORT.match(match["device"] or "") else finding


RULES = (
    rule(
        "nic.dead",
        (
            "health compromised",
            "irmware internal error",
            "leak of a command",
            "irmware is not responding",
            "irmware not responding",
            "irmware fatal reset",
            "device is unhealthy",
            "poll_health",
            "print_health_info",
            "handling bad device",
            "health recovery",
            "No done completion",
            "Error (timeout",
            "Keep alive watchdog",
            "Health issue observed",
            ": synd 0x",
            "initializing state",
            "failed with error",
        ),
        r"health compromised|[Ff]irmware internal error|"
        r"timeout\. Will cause a leak of a command resource|"
        r"(?:bnxt_en|ice|hns3|mlx5)\S* .*[Ff]irmware (?:is )?not responding|"
        r"bnxt_en .*Firmware fatal reset event|"
        r"mlx5_core .*(?:poll_health.*Fatal error \d+ detected|handling bad device here|"
        r"(?:load|init|probe)_one\S* .*failed with error code|"
        r"health recovery (?:flow aborted|failed)|No done completion|PCI slot is unavailable|"
        r"Health issue observed|\bsynd 0x0*[1-9a-f]|Firmware over \d+ MS in .* state, aborting)|"
        r"mlx5_core: probe of \S+ failed with error|"
        r"bnxt_en .*Error \(timeout: ?\d+\) msg|\bena .*Keep alive watchdog timeout",
    ),
    rule(
        "nic.tx_timeout",
        ("transmit queue", "TX timeout", "Unit Hang", "transmit timeout: latency"),
        r"NETDEV WATCHDOG: (?P<device>[\w.@-]+) \([\w-]+\): transmit queue|"
        r"(?P<device_newer>[\w.@-]+): NETDEV WATCHDOG: .*transmit queue \d+ timed out|"
        r"(?P<device_driver>[\w.@-]+): TX timeout (?:detected|on (?:channel|queue))|"
        r"(?P<device_hung>[\w.@-]+): Detected (?:Tx|Hardware) Unit Hang|"
        r"(?P<device_ipoib>[\w.@-]+): transmit timeout: latency",
    ),
    rule(
        "nic.module_hot",
        "Port module event",
        r"Port module event.*High Temperature",
    ),
    rule(
        "nic.module",
        "Port module event",
        r"Port module event(?:\[error\])?: module \d+, Cable error",
    ),
    rule("nic.hot", "High temperature on sensors", r"mlx5_core .*High temperature on sensors"),
    rule("nic.bad_completion", "rror cqe", r"mlx5\S* .*(?:Error cqe on cqn|dump error cqe)"),
    rule("nic.slot_power", "insufficient power", r"Detected insufficient power on the PCIe slot"),
    rule(
        "nic.down",
        (
            "ost carrier",
            "Link DOWN",
            "Link down",
            "Link is Down",
            "Link is down",
            "link down",
            "definitely down",
            "without any active interface",
            "status down for",
            "link disconnected",
        ),
        rf"mlx[45]_core {BDF}:? (?P<device>[\w.-]+): (?:Port: (?P<port>\d+) )?Link (?:DOWN|down)|"
        rf"mlx[45]_core {BDF}: (?:Port: \d+ )?Link (?:DOWN|down)|"
        r"(?<!SATA )\bLink DOWN$|\bNIC Link is [Dd]own|Link is [Dd]own$|\bhns3 .*\blink down$|"
        r"status definitely down for interface (?P<device_bonded>[\w.-]+)|"
        r"\(slave (?P<device_slave>[\w.-]+)\): link status definitely down|"
        r"(?P<device_bond>[\w.-]+): now running without any active interface|"
        r"\(slave (?P<device_failing>[\w.-]+)\): link status down for |"
        r"link status down for (?:active )?interface (?P<device_lost>[\w.-]+)|"
        r"device \((?P<device_managed>[\w.-]+)\): (?:carrier: )?link disconnected",
        _with_port,
    ),
    rule("nic.down", "ost carrier", r"(?P<device>[\w.@-]+): [Ll]ost carrier", _real_port),
    rule("nic.peermem", "nv_get_p2p_free_callback", r"nv_get_p2p_free_callback.*invalid context"),
)
