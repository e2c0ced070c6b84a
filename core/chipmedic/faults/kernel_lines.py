"""What one line of a log says by itself.

`read_line` knows nothing of the line before: grouping, repeats and causes belong to `explain`
(for a log that somebody pastes) and to the agent's detectors (for the live one). A line that
means nothing costs a few substring searches; `sieve` finds the lines worth reading in a large log
faster still.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from chipmedic.faults import (
    lines_amd,
    lines_ascend,
    lines_host,
    lines_intel,
    lines_io,
    lines_net,
    lines_nvidia,
    lines_other,
    lines_pcie,
)
from chipmedic.faults.finding import Finding
from chipmedic.faults.prefix import Stripped
from chipmedic.faults.rule import Rule
from chipmedic.faults.sieve import LINE_MAX, needed
from chipmedic.faults.wrapped import strip_line
from chipmedic.model import Action, Severity

RULES: tuple[Rule, ...] = (
    *lines_nvidia.RULES,
    *lines_ascend.RULES,
    *lines_amd.RULES,
    *lines_intel.RULES,
    *lines_other.RULES,
    *lines_host.RULES,
    *lines_pcie.RULES,
    *lines_io.RULES,
    *lines_net.RULES,
)

PREVIOUS_BOOT_SECONDS = 1.0
"""A raw machine check this early was read out of the banks: it happened before the reboot."""

QUOTING_PROGRAMS = frozenset(
    {"sudo", "su", "cron", "CRON", "crond", "sshd", "bash", "sh", "audit", "auditd", "audispd"}
)
"""Programs whose lines quote commands of people: `sudo: COMMAND=/bin/grep 'Xid' ...` is no Xid."""


def read_line(line: str) -> list[Finding]:
    """Return what a line states, with or without a prefix; at most one fault per line."""
    line = line[:LINE_MAX]
    if not is_candidate(line):
        return []
    stripped = strip_line(line)
    if stripped.program in QUOTING_PROGRAMS:
        return []
    finding = read_stripped(stripped)
    return [] if finding is None else [finding]


def read_stripped(stripped: Stripped) -> Finding | None:
    """Return what a line states whose prefix is known already (a `/dev/kmsg` record)."""
    finding = read_text(stripped.text)
    return None if finding is None else _in_context(finding, stripped)


def read_text(text: str) -> Finding | None:
    """Return what a line without its prefix states."""
    for rule in RULES:
        has_line, finding = rule.find(text)
        if has_line:
            return finding
    return None


def _in_context(finding: Finding, stripped: Stripped) -> Finding:
    """Add what the prefix says: repeats, and whether a machine check is an old one."""
    if stripped.count > 1:
        finding = replace(finding, count=finding.count * stripped.count)
    uptime = stripped.uptime_seconds
    if (
        finding.code == "kernel:host.mce_raw"
        and uptime is not None
        and uptime < PREVIOUS_BOOT_SECONDS
    ):
        return replace(finding, severity=Severity.INFO, action=Action.NONE)
    return finding


NEEDLES = tuple(needed(needle for rule in RULES if rule.name for needle in rule.needles))
"""A line that any rule finds something in holds one of these."""


def is_candidate(line: str) -> bool:
    """Tell cheaply whether a line may state something."""
    return any(needle in line for needle in NEEDLES)


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream, each cut to `LINE_MAX` bytes: an endless one fills nothing."""
    while line := stream.readline(LINE_MAX):
        yield line
        while line and not line.endswith(b"\n"):
            line = stream.readline(LINE_MAX)
