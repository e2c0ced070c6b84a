"""What the Ascend tools say when they cannot answer.

The texts decide: they come on stdout or stderr, with exit status 0 or another, and the exit status
is the negative DCMI code modulo 256, in which families collide (source: npucli and hccn_tool of the
26.x driver, and field reports of 20.x to 25.x). The exit status speaks only where there is no text.
"""

from __future__ import annotations

import re

from chipmedic.tool_report import ProblemKind

_TEXTS: tuple[tuple[re.Pattern[str], ProblemKind], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (
            r"shared object file|undefined symbol|davinci_manager.*fail|fail.*davinci_manager",
            ProblemKind.DRIVER_DOWN,
        ),
        (
            # "get board type failed": a container without the mounts; the card itself may work
            r"the device is used|get board type failed|permission denied|operation not permitted"
            r"|a password is required|not in the sudoers|root user|on a VM or container"
            r"|must be run as root|run (?:permission|environment)",
            ProblemKind.PERMISSION,
        ),
        (
            r"invalid (?:card|chip|device|npu) ?id|device(?: \d+)? (?:does )?not exist",
            ProblemKind.CHIP_LOST,
        ),
        (
            r"no NPU card on this server|failed to get card number|no NPU chip on this card"
            r"|^no devices? (?:were |was )?found",
            ProblemKind.NO_DEVICES,
        ),
        (
            r"not support|unsupported|error parameter of -t|invalid type"
            r"|(?:unknown|unrecognized|invalid) option",
            ProblemKind.UNSUPPORTED,
        ),
        (
            r"\bfailed to (?:query|get)|is busy|try again|time ?out|command failed|execute failed",
            ProblemKind.PARTIAL,
        ),
    )
)
_DCMI_CODE = re.compile(r"\b(?:ret|err|code)\w*(?: code)?\s*(?:is|=|:)?\s*-(?P<code>[89]\d{3})\b")
_DCMI_KINDS = {
    1: ProblemKind.UNSUPPORTED,  # parameter
    2: ProblemKind.PERMISSION,
    7: ProblemKind.CHIP_LOST,  # bad id
    8: ProblemKind.NO_DEVICES,
    12: ProblemKind.CHIP_LOST,  # not ready: the vendor's scheduler takes it for a card drop
    13: ProblemKind.PERMISSION,  # not in a container
    20: ProblemKind.PERMISSION,  # another container owns the device
    255: ProblemKind.UNSUPPORTED,
}
"""By the last three digits; npu-smi shows -80xx as -90xx. All others: the driver is in trouble."""
_DRIVER_LOG = re.compile(r"DrvMngGetConsoleLogLevel failed", re.IGNORECASE)


def kind_of_line(line: str) -> ProblemKind | None:
    """Return what a line outside all tables complains of, or None."""
    code = _DCMI_CODE.search(line)
    for pattern, kind in _TEXTS:
        if pattern.search(line):
            return kind
    if code is not None:
        return kind_of_dcmi(int(code["code"]))
    return ProblemKind.DRIVER_DOWN if re.search(r"initialized? failed", line) else None


def is_driver_log(line: str) -> bool:
    """Say whether a line only accompanies the failure that the next line names."""
    return _DRIVER_LOG.search(line) is not None


def kind_of_dcmi(code: int) -> ProblemKind:
    """Return what the absolute value of a DCMI code (8005, 9005) complains of."""
    return _DCMI_KINDS.get(code % 1000, ProblemKind.DRIVER_DOWN)


def kind_of_exit(exit_code: int) -> tuple[ProblemKind, str] | None:
    """Return what an exit status says where the tool printed nothing; None for success."""
    if exit_code == 0:
        return None
    known = (*range(8001, 8024), 8255, *range(9001, 9013))
    code = next((code for code in known if -code % 256 == exit_code), None)
    if code is None:
        return ProblemKind.MALFORMED, f"exit status {exit_code}"
    return kind_of_dcmi(code), f"exit status {exit_code}, perhaps DCMI code -{code}"
