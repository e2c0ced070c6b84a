"""Cells of vendor tools as values in base units; a cell that holds no value is None.

Tools print the same fact in many dresses: `45 C`, `45C`, `[45]`, `45`; and say "no value" in more:
`N/A`, `[Not Supported]`, `ERR!`, `-`. All readers read cells through these functions, so that no
placeholder becomes a number anywhere.
"""

from __future__ import annotations

import math
import re

MIB = 1048576

_NO_VALUE = frozenset(
    {
        "",
        "n/a",
        "na",
        "nan",
        "none",
        "null",
        "nil",
        "unknown",
        "undefined",
        "invalid",
        "unavailable",
        "not available",
        "not applicable",
        "not supported",
        "unsupported",
        "not active",
        "not found",
        "unknown error",
        "requested functionality has been deprecated",
        "insufficient permissions",
        "no permission",
        "no permissions",
        "err!",
        "err",
        "error",
        "gpu is lost",
        "gpu requires reset",
        "deprecated",
        "redacted",
    }
)
_DECORATION = " \t[]()<>\"'"
_NUMBER = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([^\d\s][^\d]*|)")
_SIZE_UNITS = {
    "b": 1,
    "byte": 1,
    "bytes": 1,
    "k": 1024,
    "kb": 1024,
    "kib": 1024,
    "m": MIB,
    "mb": MIB,
    "mib": MIB,
    "mbytes": MIB,
    "g": MIB * 1024,
    "gb": MIB * 1024,
    "gib": MIB * 1024,
    "t": MIB * MIB,
    "tb": MIB * MIB,
    "tib": MIB * MIB,
}
_INTEGER_MAX = 2**64
_PCI = re.compile(
    r"(?:(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,2}):(?P<device>[01]?[0-9a-f])"
    r"(?:\.(?P<function>[0-7]))?"
)


def is_placeholder(text: str) -> bool:
    """Say whether a cell stands for "no value": `N/A`, `[Not Supported]`, `ERR!`, `-`, nothing."""
    bare = text.strip(_DECORATION).lower()
    return bare in _NO_VALUE or not bare.strip("-*?. ")


def number(text: str) -> float | None:
    """Return the one number that a cell holds, whatever its unit; else None."""
    match = _NUMBER.fullmatch(text.strip(_DECORATION))
    if match is None:
        return None
    value = float(match[1])
    return value if math.isfinite(value) else None


def integer(text: str) -> int | None:
    """Return the one whole number that a cell holds, exactly; None for a fraction too.

    None also beyond 64 bits: no tool counts so far, and not every number of digits is a float.
    """
    match = _NUMBER.fullmatch(text.strip(_DECORATION))
    if match is None:
        return None
    try:
        whole = int(match[1])
    except ValueError:
        value = float(match[1])
        if not (math.isfinite(value) and value.is_integer()):
            return None
        whole = int(value)
    return whole if -_INTEGER_MAX < whole < _INTEGER_MAX else None


def process_id(text: str) -> int | None:
    """Return the process number that a cell holds; None for what no kernel gives (below 1)."""
    number = integer(text)
    return number if number is not None and number > 0 else None


def memory_bytes(text: str, unit: str = "MiB") -> int | None:
    """Return a size in bytes.

    `unit` is that of the column, for a cell that prints none. Vendor tools mean MiB when they print
    MB, and GiB when they print GB.
    """
    match = _NUMBER.fullmatch(text.strip(_DECORATION))
    if match is None:
        return None
    scale = _SIZE_UNITS.get((match[2].strip() or unit).lower())
    value = float(match[1])
    if scale is None or value < 0 or not math.isfinite(value * scale):
        return None
    return round(value * scale)


def identity(text: str) -> str | None:
    """Return a name, serial or UUID as printed; None for a placeholder, also one made of zeroes."""
    bare = " ".join(text.split())
    if is_placeholder(bare) or not bare.strip("0 :.-"):
        return None
    return bare


def normalise_pci(text: str) -> str | None:
    """Return a PCI address as `dddd:bb:dd.f`, lower case; None when the text is none.

    NVML prints eight digits of domain, older tools none, the kernel log no function: those become
    four digits, domain 0 and function 0. A domain above `ffff` (VMD, Hyper-V) keeps its digits.
    """
    match = _PCI.fullmatch(text.strip(_DECORATION).lower().removeprefix("pci:"))
    if match is None:
        return None
    domain = int(match["domain"] or "0", 16)
    bus, device = int(match["bus"], 16), int(match["device"], 16)
    return f"{domain:04x}:{bus:02x}:{device:02x}.{match['function'] or '0'}"
