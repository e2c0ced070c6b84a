"""The sentences in which `nvidia-smi` tells that it, its driver or one chip failed.

They come instead of the answer or between its lines, on stdout more often than on stderr, and with
exit status 0 too often to rely on it. Wordings: drivers 346 to 610, from public reports.
"""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, Health, ProblemKind, ToolReport
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.nvidia.smi_chips import Chips
from chipmedic_collectors.values import normalise_pci

_HANDLE = re.compile(
    r"Unable to (?:determine|detect) the device handle for GPU\s*"
    r"(?:(?P<index>\d+)(?=:\s|\s*$))?:?\s*(?P<pci>[0-9A-F]+(?::[0-9A-F]+)+(?:\.[0-9A-F])?)?"
    r"\s*:?\s*(?P<reason>.*)",
    re.IGNORECASE,
)
_INFOROM = re.compile(r"infoROM is corrupted at gpu (?P<pci>\S+)", re.IGNORECASE)
_LOST_LINE = re.compile(
    r"^(?!\d)[^|,]*?(?P<pci>[0-9A-F]{4,8}:[0-9A-F]{2}:[0-9A-F]{2}\.[0-7])[^|,]*"
    r"(?:GPU is lost|fallen off the bus)",
    re.IGNORECASE,
)
_GONE = re.compile(r"lost|fallen off|unknown error|not found|no longer", re.IGNORECASE)
_DENIED = re.compile(r"permission|blocked by the operating system|not permitted", re.IGNORECASE)

# The first that matches decides.
_SENTENCES: tuple[tuple[ProblemKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (ProblemKind.PERMISSION, r"^(?:failed to|unable to|nvml|error)\b.*insufficient permission"),
        (ProblemKind.PERMISSION, r"^(?:failed to|unable to)\b.*blocked by the operating system"),
        (
            ProblemKind.PERMISSION,
            r"^(?:error:?\s+)?(?:you (?:need|must)|this operation requires).*root",
        ),
        (
            ProblemKind.NO_DEVICES,
            r"^(?:failed to initialize nvml: )?no (?:nvidia )?(?:devices?|gpus?)\b",
        ),
        (ProblemKind.NO_DEVICES, r"^no (?:devices|gpus) (?:were )?found"),
        (ProblemKind.DRIVER_DOWN, r"^nvidia-smi has failed because"),
        (
            ProblemKind.DRIVER_DOWN,
            r"couldn.t (?:communicate with the nvidia driver|find libnvidia-ml)",
        ),
        (ProblemKind.DRIVER_DOWN, r"^(?:failed|unable) to initialize nvml"),
        (ProblemKind.DRIVER_DOWN, r"^(?:nvml: )?driver(?:/library version mismatch| not loaded)"),
        (ProblemKind.DRIVER_DOWN, r"nvidia-container-cli: initialization error"),
        (ProblemKind.UNSUPPORTED, r"is not a valid (?:field to query|gpu id|option)"),
        (
            ProblemKind.UNSUPPORTED,
            r"^(?:error: )?(?:option|field|argument)\b.*\bnot (?:recognized|valid)",
        ),
        (
            ProblemKind.UNSUPPORTED,
            r"^(?:error: )?(?:invalid|unknown) (?:combination|argument|option)",
        ),
        (ProblemKind.UNSUPPORTED, r"^(?:nvml: )?(?:not supported|feature not supported)\W*$"),
        (
            ProblemKind.UNSUPPORTED,
            r"\bis not supported (?:for|on|by)\b.*(?:gpu|device|driver|system)",
        ),
    )
)
_SECOND_LINES = re.compile(
    r"^(?:NVML library version:|Please run '?nvidia-smi|GPU access blocked)", re.I
)

_EXIT_STATUS = {
    2: (ProblemKind.UNSUPPORTED, "an argument is not valid"),
    3: (ProblemKind.UNSUPPORTED, "not available on the target device"),
    4: (ProblemKind.PERMISSION, "no permission"),
    6: (ProblemKind.NO_DEVICES, "the query found no such object"),
    8: (ProblemKind.PARTIAL, "the external power cables of a device are not properly attached"),
    9: (ProblemKind.DRIVER_DOWN, "the NVIDIA driver is not loaded"),
    10: (ProblemKind.PARTIAL, "the kernel detected an interrupt issue with a GPU"),
    12: (ProblemKind.DRIVER_DOWN, "the NVML library could not be found or loaded"),
    13: (ProblemKind.UNSUPPORTED, "the local version of NVML does not implement this function"),
    14: (ProblemKind.PARTIAL, "an infoROM is corrupted"),
    15: (ProblemKind.CHIP_LOST, "a GPU has fallen off the bus"),
    18: (ProblemKind.DRIVER_DOWN, "driver and library versions do not match"),
    255: (ProblemKind.DRIVER_DOWN, "an internal driver error occurred"),
}
"""Source: `man nvidia-smi`, RETURN VALUE; 18 is NVML's own code."""


def take_messages(text: str, report: ToolReport) -> str:
    """Note what the sentences of a text tell; return the text without them."""
    rest = [line for line in text.splitlines() if not _take(line.strip(), report)]
    return "\n".join(rest)


def note_exit_status(exit_code: int | None, report: ToolReport) -> None:
    """Note what the exit status tells where no sentence told it."""
    if not exit_code:
        return
    kind, meaning = _EXIT_STATUS.get(exit_code, (ProblemKind.MALFORMED, "of no known meaning"))
    if not report.problems:
        report.add_problem(kind, f"exit status {exit_code}: {meaning}")


def _take(line: str, report: ToolReport) -> bool:
    if line.startswith("|") or not line:
        return False
    if handle := _HANDLE.search(line):
        _note_handle(handle, line, report)
        return True
    if damaged := _INFOROM.search(line):
        chip = Chips(report).add(ChipReport(pci=normalise_pci(damaged["pci"])))
        facts.worsen(chip, Health.WARNING)
        return True
    if lost := _LOST_LINE.match(line):
        chip = Chips(report).add(ChipReport(pci=normalise_pci(lost["pci"])))
        facts.mark_lost(report, chip, line)
        return True
    for kind, sentence in _SENTENCES:
        if sentence.search(line):
            report.add_problem(kind, line)
            return True
    return _SECOND_LINES.match(line) is not None and bool(report.problems)


def _note_handle(handle: re.Match[str], line: str, report: ToolReport) -> None:
    """Note the one chip whose handle the tool could not get; the others were not asked."""
    chip = ChipReport(
        index=int(handle["index"]) if handle["index"] else None,
        pci=normalise_pci(handle["pci"] or ""),
    )
    chip = Chips(report).add(chip)
    reason = handle["reason"]
    if _DENIED.search(reason):
        facts.worsen(chip, Health.UNKNOWN)
        report.add_problem(ProblemKind.PERMISSION, line)
    elif _GONE.search(reason) or not reason:
        facts.mark_lost(report, chip, line)
    elif facts.trouble_of([reason]) is facts.Trouble.RESET_REQUIRED:
        facts.mark_reset_required(report, chip, line)
    else:
        facts.mark_silent(report, chip, line)
