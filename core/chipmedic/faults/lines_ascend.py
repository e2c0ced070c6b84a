"""Huawei Ascend: the host driver, the device's log, and event ids wherever they stand.

The driver prints its errors at NOTICE level (a choice in its source), so the level of a record says
nothing. Event ids are decoded by the catalog; they appear as `event_id=0x80E01801`, `Event id =
0x...`, `event_id: [0x...]`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chipmedic.faults.ascend_codes import decode
from chipmedic.faults.catalog import lookup
from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import of_row, rule

_ASCEND = ("[ascend]",)
_DEVICE = re.compile(r"(?:\b[Dd]ev(?:ice)?(?:_?id)?|\bdevid)(?:[=-] ?|\[)(\d+)")


def _npu(text: str) -> str | None:
    found = _DEVICE.search(text)
    return f"npu:{found[1]}" if found else None


def _with_device(match: re.Match[str], finding: Finding) -> Finding:
    """Name the device by the driver's own number where the line has one."""
    return replace(finding, device=_npu(finding.message))


def read_event_id(match: re.Match[str], line: str) -> Finding | None:
    """Read an event id of the device management; the catalog knows what it means.

    An id that no table holds counts only where it can be Ascend's: others write `event_id` too.
    """
    key = match["id"].upper()
    row = lookup(f"ascend:{key}")
    if not row.is_known and decode(key) is None and "ascend" not in line.lower():
        return None
    return of_row(row, line, device=_npu(line))


RULES = (
    rule(
        "ascend.event",
        ("vent_id", "vent id"),
        r"[Ee]vent[ _]id *[=:] *\[?0x(?P<id>[0-9a-fA-F]{8})(?![0-9a-fA-F])",
        read=read_event_id,
    ),
    rule(
        "",
        _ASCEND,
        r"\[ascend\].*(?:Conflict open udevid|Heartbeat (?:recover|resume)|heart ?beat is ok)",
    ),
    rule(
        "ascend.heartbeat_lost",
        ("eartbeat lost", "lost heartbeat"),
        r"\[ascend\].*[Hh]eartbeat lost|Device\[\d+\] lost heartbeat",
        _with_device,
    ),
    rule(
        "ascend.abnormal",
        _ASCEND,
        r"\[ascend\].*(?:Device is abnormal|device is not ready|[Pp]cie? link (?:is )?down|"
        r"send_?msg\b.*\bret=-19\b|"
        r"hot ?reset .*fail)",
        _with_device,
    ),
    rule(
        "ascend.vm_fault",
        _ASCEND,
        r"\[ascend\].*(?:Vm fault failed|Host page fault send message fail|"
        r"ipc_fault_msg_para_check)",
        _with_device,
    ),
    rule(
        "ascend.exception",
        _ASCEND,
        r"\[ascend\].*(?:exception_id=0x|ts exception msg|mntn_system_error|"
        r"[Tt]s (?:is )?(?:hang|down)|"
        r"exception code)",
        _with_device,
    ),
    rule(
        "ascend.no_answer",
        _ASCEND,
        r"\[ascend\].*(?:Wait event timeout|icm send msg failed|ipc channel idle timeout|"
        r"(?:msg|message|mailbox|channel|event|ack|response)\b.*\b(?:timeout|time ?out|"
        r"timed out)\b|"
        r"\bret=-?110\b)",
        _with_device,
    ),
    rule(
        "ascend.driver_error",
        _ASCEND,
        r"\[ascend\].*(?:\[ERROR\]|\b[Ff]ail(?:ed)?\b|\b[Ee]rror\b|\b[Aa]bnormal\b)",
        _with_device,
    ),
)
