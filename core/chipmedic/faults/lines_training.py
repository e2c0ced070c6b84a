"""Training programs and their libraries: time-outs of collectives, errors of CUDA and CANN.

Only `explain` reads these. Most of them are symptoms: every healthy rank reports a time-out when
one rank has died. The catalog marks them as companions, so they never stand before a cause.
"""

from __future__ import annotations

import re

from chipmedic.faults.catalog import lookup
from chipmedic.faults.finding import Finding
from chipmedic.faults.rule import Rule, of_row, rule


def _train(name: str, needles: str | tuple[str, ...], pattern: str) -> Rule:
    def read(match: re.Match[str], line: str) -> Finding:
        return of_row(lookup(f"train:{name}"), line, device=match.groupdict().get("device"))

    return rule(name, needles, pattern, read=read)


def _coded(prefix: str, needles: str | tuple[str, ...], pattern: str) -> Rule:
    def read(match: re.Match[str], line: str) -> Finding | None:
        row = lookup(f"{prefix}:{match['code']}")
        return of_row(row, line) if row.is_known else None

    return rule(prefix, needles, pattern, read=read)


RULES = (
    _coded(
        "cann",
        ("rror code is", "untime result ="),
        r"(?:error code is|runtime result =) ?(?P<code>[125]07\d{3})\b",
    ),
    _coded(
        "hccl",
        ("EI0", "EI9", "EZ9", "EE9", "E30", "EL0"),
        r"\b(?P<code>E[IZEL]\d{4}|E3000\d)\b",
    ),
    _train(
        "nccl_timeout",
        ("collective operation timeout", "NCCL operations have failed or timed out", "HCCL"),
        r"Watchdog caught collective operation timeout|NCCL operations have failed or timed out|"
        r"HCCL.*(?:timed out|timeout)",
    ),
    _train(
        "nccl_aborted",
        ("NCCL", "nccl"),
        r"NCCL communicator (?:was|has been) aborted|ncclRemoteError|ncclInternalError|"
        r"NCCL error.*(?:remote process exited|unhandled system error)|ncclSystemError",
    ),
    _train(
        "ib_retry",
        ("ompletion", "ransport retry"),
        r"Got completion .*(?:error|status)[ =]12\b|[Tt]ransport retry counter exceeded",
    ),
    _train("ecc", "uncorrectable ECC", r"uncorrectable ECC error encountered"),
    _train(
        "nvlink", ("NVLink error", "NVLINK"), r"[Uu]ncorrectable NVLink error|CUDA_ERROR_NVLINK"
    ),
    _train(
        "illegal_access",
        (
            "illegal memory access",
            "device-side assert",
            "illegal instruction",
            "misaligned address",
        ),
        r"(?:CUDA|HIP|cuda|hip).*(?:illegal memory access|device-side assert|illegal instruction|"
        r"misaligned address)",
    ),
    _train("amd_fault", "Memory access fault by", r"Memory access fault by GPU"),
    _train(
        "device_memory",
        ("out of memory", "OutOfMemoryError"),
        r"(?:CUDA|HIP|NPU) out of memory|OutOfMemoryError: ",
    ),
    _train("no_device", ("CUDA", "HIP"), r"(?:CUDA|HIP).*(?:no CUDA-capable device|unknown error)"),
    _train("killed", "SIG", r"(?:Signal|exitcode ?:?) ?-?9 \(SIGKILL\)|<Signals.SIGKILL"),
    _train("crashed", "SIG", r"Signal \d+ \(SIG(?:SEGV|BUS|ABRT|FPE)\)|died with <Signals.SIG"),
    _train(
        "peer_gone",
        (
            "onnection reset by",
            "onnection closed by",
            "Broken pipe",
            "TCPStore",
            "Socket Timeout",
        ),
        r"(?:NCCL|Gloo|gloo|TCPStore|c10d|socket).*(?:[Cc]onnection (?:reset|closed) by |"
        r"Broken pipe|timed out)|Socket Timeout|TCPStore.*(?:timeout|recvValue failed)",
    ),
)

NEEDLES = frozenset(needle for rule in RULES for needle in rule.needles)


def read_training_text(text: str) -> Finding | None:
    """Return what a line of a training log states."""
    for one in RULES:
        has_line, finding = one.find(text)
        if has_line and finding is not None:
            return finding
    return None
