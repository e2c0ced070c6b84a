"""The sentences in which `nvidia-smi` tells that it, its driver or one chip failed.

They come instead of the answer or between its lines, on stdout more often than on stderr, and with
exit status 0 too often to rely on it. Wordings: drivers 346 to 610, from public reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from chipmedic.tool_report import ChipReport, Health, ProblemKind, ToolReport
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.nvidia.smi_chips import Chips
from chipmedic_collectors.reading.judging import worsen
from chipmedic_collectors.values import normalise_pci

_HANDLE = re.compile(
    r"Unable to (?:determine|detect) the device handle for GPU\s*"
    r"(?:(?P<index>\d{1,4})(?=:\s|\s*$))?:?\s*(?P<pci>[0-9A-F]+(?::[0-9A-F]+)+(?:\.[0-9A-F])?)?"
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
_NOT_OFFERED = re.compile(r"not supported", re.IGNORECASE)
_DENIED = re.compile(r"permission|blocked by the operating system|not permitted", re.IGNORECASE)

# The first that matches decides.
_SENTENCES: tuple[tuple[ProblemKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (ProblemKind.PERMISSION, r"^(?:failed to|unable to|nvml|error)\b.*insufficient permission"),
        (ProblemKind.PERMISSION, r"^(?:failed to|unable to)\b.*blocked by the operating system"),
        (ProblemKind.PERMISSION, r"^(?:permission denied|this command must be run as root)\W*$"),
        (ProblemKind.PERMISSION, r"^nvidia-smi has failed because .*\bpermissions?\b"),
        (
            ProblemKind.PERMISSION,
            r"^(?:error:?\s+)?(?:you (?:need|must)|this operation requires).*root",
        ),
        (
            ProblemKind.UNSUPPORTED,
            r"^no (?:mig-\w+ devices|supported devices in vgpu mode|devices support)\b",
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
        (ProblemKind.UNSUPPORTED, r"^(?:nvml: )?\[?(?:feature )?not supported\W*$"),
        (ProblemKind.UNSUPPORTED, r"^not supported on the device"),
        (ProblemKind.UNSUPPORTED, r"^failed to process command line"),
        (
            ProblemKind.UNSUPPORTED,
            r"\bis not supported (?:for|on|by)\b.*(?:gpu|device|driver|system)",
        ),
    )
)
_SECOND_LINES = re.compile(
    r"^(?:NVML library version:|Please run '?nvidia-smi|GPU access blocked)", re.I
)

_INFOROM_STATUS = 14
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
    _INFOROM_STATUS: (ProblemKind.PARTIAL, "an infoROM is corrupted"),
    15: (ProblemKind.CHIP_LOST, "a GPU has fallen off the bus"),
    18: (ProblemKind.DRIVER_DOWN, "driver and library versions do not match"),
    255: (ProblemKind.DRIVER_DOWN, "an internal driver error occurred"),
}
"""Source: `man nvidia-smi`, RETURN VALUE; 18 is NVML's own code."""


def split_messages(text: str) -> tuple[str, list[str]]:
    """Part a text into the answer and the sentences of the tool that stand in it."""
    answer: list[str] = []
    messages: list[str] = []
    for line in text.splitlines():
        (messages if _is_message(line.strip()) else answer).append(line)
    return "\n".join(answer), [line.strip() for line in messages]


def _joined(messages: Iterable[str]) -> list[str]:
    """Put the reason of a failed handle that was printed in the next line behind it."""
    lines: list[str] = []
    for line in messages:
        handle = _HANDLE.search(lines[-1]) if lines else None
        if handle and not handle["reason"] and lines[-1].endswith(":") and not _HANDLE.search(line):
            lines[-1] = f"{lines[-1]} {line}"
        else:
            lines.append(line)
    return lines


def _is_message(line: str) -> bool:
    if not line or line.startswith("|"):
        return False
    patterns = (_HANDLE, _INFOROM, _LOST_LINE, _SECOND_LINES, *(one for _, one in _SENTENCES))
    return any(pattern.search(line) for pattern in patterns)


def note_messages(messages: Iterable[str], report: ToolReport) -> None:
    """Note what the sentences tell of the run and of single chips, beside what the answer told."""
    for line in _joined(messages):
        if handle := _HANDLE.search(line):
            _note_handle(handle, line, report)
        elif damaged := _INFOROM.search(line):
            _note_inforom(normalise_pci(damaged["pci"]), line, report)
        elif lost := _LOST_LINE.match(line):
            chip = Chips(report).add(ChipReport(pci=normalise_pci(lost["pci"])))
            facts.mark_lost(report, chip, line)
        else:
            _note_sentence(line, report)


def note_exit_status(exit_code: int | None, report: ToolReport) -> None:
    """Note what the exit status tells where nothing else told it."""
    if not exit_code or report.problems:
        return
    if exit_code == _INFOROM_STATUS and any(chip.health for chip in report.chips):
        return
    kind, meaning = _EXIT_STATUS.get(exit_code, (ProblemKind.MALFORMED, "of no known meaning"))
    report.add_problem(kind, f"exit status {exit_code}: {meaning}")


def _note_sentence(line: str, report: ToolReport) -> None:
    for kind, sentence in _SENTENCES:
        if sentence.search(line):
            report.add_problem(kind, line)
            return


def _note_inforom(pci: str | None, line: str, report: ToolReport) -> None:
    """Note a chip whose infoROM is damaged: it works, and its counters are not to be trusted."""
    chip = Chips(report).find(ChipReport(pci=pci))
    if chip is None and len(report.chips) == 1 and report.chips[0].pci is None:
        chip = report.chips[0]
    if chip is None and not report.chips:
        chip = Chips(report).add(ChipReport(pci=pci))
    if chip is None:  # the answer names its chips in another way, so it cannot be told which it is
        report.add_problem(ProblemKind.PARTIAL, line)
    else:
        worsen(chip, Health.WARNING)


def _note_handle(handle: re.Match[str], line: str, report: ToolReport) -> None:
    """Note the one chip whose handle the tool could not get; the others were not asked."""
    chip = ChipReport(
        index=int(handle["index"]) if handle["index"] else None,
        pci=normalise_pci(handle["pci"] or ""),
    )
    chip = Chips(report).add(chip)
    reason = handle["reason"]
    if _DENIED.search(reason):
        worsen(chip, Health.UNKNOWN)
        report.add_problem(ProblemKind.PERMISSION, line)
    elif _GONE.search(reason) or not reason:
        facts.mark_lost(report, chip, line)
    elif _NOT_OFFERED.search(reason):
        report.add_problem(ProblemKind.UNSUPPORTED, line)
    elif facts.trouble_of([reason]) is facts.Trouble.RESET_REQUIRED:
        facts.mark_reset_required(report, chip, line)
    else:
        facts.mark_silent(report, chip, line)
