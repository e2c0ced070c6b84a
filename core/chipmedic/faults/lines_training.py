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
        ("rror code", "untime result ="),
        r"(?:[Ee]rror code(?: is)?|runtime result =) ?:? ?(?P<code>[125]07\d{3})\b",
    ),
    _coded(
        "hccl",
        ("EI0", "EI9", "EZ9", "EE9", "E30", "EL0"),
        r"\b(?P<code>E[IZEL]\d{4}|E3000\d)\b",
    ),
    # collectives: one rank stopped, the others say so
    _train(
        "nccl_timeout",
        (
            "collective operation timeout",
            "collective timeout",
            "NCCL operations have failed or timed out",
            "Timeout at NCCL work",
            "detected by watchdog at work",
            "Heartbeat monitor timed out",
            "Detected timeout process_group",
            "HCCL",
        ),
        r"Watchdog caught collective operation timeout|due to collective timeout|"
        r"NCCL operations have failed or timed out|Timeout at NCCL work|"
        r"detected by watchdog at work|Heartbeat monitor timed out|Detected timeout process_group|"
        r"HCCL.*(?:timed out|\w+ timeout(?! ?[=:]?(?: is| to)? ?\d))",
    ),
    _train(
        "ib_event",
        "Got async ",
        r"NET/IB : (?:(?P<device>[\w:.-]+) )?Got async (?:fatal )?event : "
        r"(?:port error|device fatal|QP fatal|.*path migration failed)",
    ),
    _train(
        "ib_retry",
        ("ompletion", "ransport retry"),
        r"Got completion .*(?:error|status)[ =]12\b|[Tt]ransport retry counter exceeded",
    ),
    _train(
        "nccl_aborted",
        ("NCCL", "nccl", "HCCL run failed", "Distribute Task Failed"),
        r"NCCL communicator (?:was|has been) aborted|ncclRemoteError|ncclInternalError|"
        r"NCCL error.*(?:remote process exited|unhandled system error)|ncclSystemError|"
        r"ncclUnhandledCudaError|HCCL run failed|Distribute Task Failed",
    ),
    _train(
        "rendezvous",
        ("Rendezvous", "DistStoreError", "DistNetworkError", "waiting for clients", "ncclUniqueId"),
        r"Rendezvous(?:Connection|Timeout|Closed)Error|DistStoreError|DistNetworkError|"
        r"waiting for clients|ncclUniqueId from .* got error",
    ),
    # the chip or its driver, as programs see them
    _train("ecc", "uncorrectable ECC", r"uncorrectable ECC error encountered"),
    _train(
        "nvlink",
        ("NVLink error", "NVLINK", "over nvlink"),
        r"[Uu]ncorrectable NVLink error|CUDA_ERROR_NVLINK|access of peer GPU memory over nvlink",
    ),
    _train(
        "mismatch",
        ("ersion mismatch", "forward compatibility was", "driver version is insufficient"),
        r"Driver/library version mismatch|forward compatibility was attempted|"
        r"driver version is insufficient for CUDA",
    ),
    _train("fabric", "not yet initialized", r"system not yet initialized"),
    _train(
        "gpu_hang",
        ("HW Exception by GPU", "HSA_STATUS_ERROR_EXCEPTION"),
        r"HW Exception by GPU|HSA_STATUS_ERROR_EXCEPTION",
    ),
    _train(
        "no_device",
        (
            "CUDA",
            "HIP",
            "GPU is lost",
            "initialize NVML",
            "ERROR_DEVICE_",
            "Device acquire failed",
        ),
        r"(?:CUDA|HIP).*(?:no CUDA-capable device|unknown error|busy or unavailable)|"
        r"No (?:CUDA|HIP) GPUs are available|GPU is lost|Failed to initialize NVML: |"
        r"(?:UR_RESULT|ZE_RESULT|PI)_ERROR_DEVICE_(?:LOST|NOT_FOUND)|"
        r"synStatus.*Device acquire failed",
    ),
    # the program's own faults
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
    _train(
        "launch_failed",
        ("unspecified launch failure", "launch timed out and was"),
        r"(?:CUDA|Cuda|HIP|cuda|hip).*(?:unspecified launch failure|launch timed out and was)",
    ),
    _train(
        "amd_fault",
        ("Memory access fault by", "HSA_STATUS_ERROR_"),
        r"Memory access fault by GPU|"
        r"HSA_STATUS_ERROR_(?:MEMORY_APERTURE_VIOLATION|MEMORY_FAULT|ILLEGAL_INSTRUCTION)",
    ),
    _train(
        "device_memory",
        ("out of memory", "OutOfMemoryError", "STATUS_ALLOC_FAILED"),
        r"(?:CUDA|HIP|NPU) (?:error: )?out of memory|OutOfMemoryError: |"
        r"CU\w+_STATUS_ALLOC_FAILED",
    ),
    # the host, as programs and the scheduler see it
    _train(
        "disk_full", ("No space left", "quota exceeded"), r"No space left on device|Disk quota exc"
    ),
    _train(
        "file_server",
        ("Stale file handle", "Transport endpoint"),
        r"Stale file handle|Transport endpoint is not connected",
    ),
    _train(
        "shared_memory",
        ("signal: Bus error", "out of shared memory"),
        r"DataLoader worker .* killed by signal: Bus error|out of shared memory",
    ),
    _train(
        "step_oom",
        ("oom_kill event", "oom-kill event", "Out Of Memory", "OUT_OF_MEMORY"),
        r"Detected \d+ oom[_-]kill event|srun: error: .*Out Of Memory|\bOUT_OF_MEMORY\b",
    ),
    _train("node_failed", "NODE FAILURE", r"CANCELLED AT .* DUE TO NODE FAILURE"),
    _train("time_limit", "TIME LIMIT", r"CANCELLED AT .* DUE TO TIME LIMIT"),
    # processes of the job that ended
    _train(
        "killed",
        ("SIG", "exitcode", ": Killed", "is killed by signal", "exited unexpectedly"),
        r"(?:Signal|exitcode *:?) ?\(?-?9(?: \(SIGKILL\)|\b)|<Signals.SIGKILL|"
        r"srun: error: .*: Killed|DataLoader worker .*(?:killed by signal|exited unexpectedly)",
    ),
    _train(
        "crashed",
        ("SIG", "Fatal Python error"),
        r"Signal \d+ \(SIG(?:SEGV|BUS|ABRT|FPE)\)|died with <Signals.SIG(?!KILL|TERM)|"
        r"Fatal Python error: ",
    ),
    _train(
        "rank_failed",
        ("ChildFailedError", "failed (exitcode: ", "got signal: "),
        r"ChildFailedError|failed \(exitcode: -?\d+\)|SignalException: Process \d+ got signal",
    ),
    _train(
        "peer_gone",
        (
            "onnection reset by",
            "onnection closed by",
            "Broken pipe",
            "TCPStore",
            "Socket Timeout",
        ),
        r"^(?!.*NCCL INFO).*(?:(?:NCCL|Gloo|gloo|TCPStore|c10d|socket).*(?:"
        r"[Cc]onnection (?:reset|closed) by |Broken pipe|timed out)|Socket Timeout|"
        r"TCPStore.*(?:timeout|recvValue failed))",
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
