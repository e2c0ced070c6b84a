"""What NVML's return codes mean to us: the words, the reason of a gap, the kind of a fault.

Source: nvml.h 13.3. The words are ours, because the binding and the library differ in theirs (16 is
"requires restart" in one and "requires reset" in the other).
"""

from __future__ import annotations

from chipmedic.model import GapReason

NOT_SUPPORTED, NO_PERMISSION = 3, 4
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 9, 12, 13
GPU_IS_LOST, RESET_REQUIRED, OPERATING_SYSTEM, DRIVER_MISMATCH = 15, 16, 17, 18
VERSION_MISMATCH = 25
UNKNOWN = 999
UNREADABLE = -1
"""Our own: the call worked and the binding could not read what it wrote."""

_WORDS = {
    1: "NVML is not initialised",
    2: "invalid argument",
    NOT_SUPPORTED: "not supported by this GPU, driver or mode",
    NO_PERMISSION: "no permission",
    6: "not found",
    7: "the answer does not fit",
    8: "the GPU has not enough power: check its power cables",
    DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    10: "the driver timed out",
    11: "the GPU's interrupts do not arrive",
    LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not installed",
    FUNCTION_NOT_FOUND: "the driver is too old for this call",
    14: "the GPU's InfoROM is corrupted",
    GPU_IS_LOST: "the GPU is off the bus",
    RESET_REQUIRED: "the GPU must be reset before it can be used",
    OPERATING_SYSTEM: "the operating system or a cgroup denies it",
    DRIVER_MISMATCH: "the library and the loaded driver are of different versions",
    19: "in use by somebody else",
    20: "the driver has no memory left",
    21: "no data",
    22: "a virtual GPU has no ECC of its own",
    23: "insufficient resources",
    VERSION_MISMATCH: "the driver is too old for this call",
    26: "deprecated: this driver does not answer it any more",
    27: "not ready",
    28: "the GPU was not found",
    29: "invalid state",
    UNKNOWN: "unknown error",
    UNREADABLE: "the answer cannot be read",
}
_REASONS = {
    NOT_SUPPORTED: GapReason.UNSUPPORTED,
    FUNCTION_NOT_FOUND: GapReason.UNSUPPORTED,
    VERSION_MISMATCH: GapReason.UNSUPPORTED,
    22: GapReason.UNSUPPORTED,
    26: GapReason.UNSUPPORTED,
    NO_PERMISSION: GapReason.DENIED,
    OPERATING_SYSTEM: GapReason.DENIED,
    UNREADABLE: GapReason.MALFORMED,
}

CHIP_KINDS = {
    8: "power.fault",
    11: "chip.internal",
    14: "chip.firmware",
    RESET_REQUIRED: "chip.reset_required",
    UNKNOWN: "chip.internal",
}
"""Kinds of fault that a chip's code says of itself. 15 is a reading instead: present, 0."""
DRIVER_KINDS = {
    DRIVER_NOT_LOADED: "driver.fault",
    LIBRARY_NOT_FOUND: "driver.fault",
    DRIVER_MISMATCH: "driver.mismatch",
    UNKNOWN: "driver.fault",
}
"""The same for a host whose NVML cannot be opened at all."""


def words(code: int) -> str:
    """Return a code with its meaning: `nvml:15 the GPU is off the bus`."""
    return f"nvml:{code} {_WORDS.get(code, 'a code that we do not know')}"


def gap_reason(code: int) -> GapReason:
    """Return why a value is not there when its call answered this code."""
    return _REASONS.get(code, GapReason.FAILED)
