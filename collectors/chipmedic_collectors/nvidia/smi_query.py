"""`nvidia-smi -q` in both its forms: text, and XML of the versions 10 to 13."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReport
from chipmedic_collectors.nvidia.smi_attributes import read_gpu
from chipmedic_collectors.nvidia.smi_chips import Chips
from chipmedic_collectors.nvidia.smi_command import selection
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.tree import Node, read_text, read_xml
from chipmedic_collectors.values import identity, integer, normalise_pci

_ROOT = "nvidia_smi_log"
_HEADLINE = re.compile(r"(?P<key>GPU)\s+(?P<id>[0-9A-Fa-f:.]+)\s*:?")
"""What begins the section of one chip in the text form."""
_PARTS = ("-d", "--display", "vgpu")
"""With one of these only some sections were asked for."""
_DRIVER = ("driver_version", "kmd_version")
_TOOL = ("nvidia_smi_version", "nvsmi_version")


def is_xml(text: str) -> bool:
    """Say whether this is the XML form."""
    return f"<{_ROOT}" in text or ("<gpu " in text and "</" in text)


def is_text(text: str) -> bool:
    """Say whether this is the text form, also where its headline is missing."""
    return "NVSMI LOG" in text or any(_gpus(read_text(text, _HEADLINE)))


def read_query_xml(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read one or several XML documents; a document without its end is truncated."""
    tree = read_xml(text)
    logs = list(tree.named(_ROOT)) or [tree]
    for log in logs:
        _read_log(log, command, report)
    if not logs[-1].is_closed:
        report.add_problem(ProblemKind.TRUNCATED, "the XML ends before </nvidia_smi_log>")


def read_query_text(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read the indented text; it has no end of its own, so what must stand there is looked for."""
    log = read_text(text, _HEADLINE)
    _read_log(log, command, report)
    gpus = list(_gpus(log))
    if not gpus:
        if not report.problems:
            report.add_problem(ProblemKind.TRUNCATED, "the answer stops before its first GPU")
        return
    last = gpus[-1]
    if "[...]" in text:
        report.add_problem(ProblemKind.PARTIAL, "parts of the answer were left out: [...]")
    elif _stops_early(last, gpus[0], is_everything=not command.has(*_PARTS)):
        report.add_problem(ProblemKind.TRUNCATED, f"the answer stops inside GPU {last.id}")


def _stops_early(last: Node, first: Node, *, is_everything: bool) -> bool:
    """Say whether the last GPU lacks what its output must have.

    All GPUs of one answer have the same sections, no section is empty, and since 2012 a full answer
    ends with the processes.
    """
    if not last.children or not last.is_closed:
        return True
    sections = {node.key for node in last.children}
    if any(node.key not in sections for node in first.children):
        return True
    return is_everything and not sections & {"processes", "compute_processes"}


def _gpus(log: Node) -> Iterator[Node]:
    """Yield the GPUs of an answer, also of one that was pasted with everything indented."""
    for node in log.children:
        if node.key == "gpu" and node.id:
            yield node
        else:
            yield from (child for child in node.children if child.key == "gpu" and child.id)


def _read_log(log: Node, command: CommandLine, report: ToolReport) -> None:
    report.driver_version = identity(log.value(*_DRIVER)) or report.driver_version
    report.tool_version = identity(log.value(*_TOOL)) or report.tool_version
    chips = Chips(report)
    listed = 0
    for node in _gpus(log):
        if not node.children:
            continue  # cut inside its headline: even its address may not be whole
        chip = ChipReport(pci=normalise_pci(node.id))
        read_gpu(node, chip, report)
        chips.add(chip)
        listed += 1
    attached = integer(log.value("attached_gpus"))
    if attached is not None and attached > listed and not selection(command):
        report.add_problem(ProblemKind.PARTIAL, f"{attached} GPUs attached, {listed} listed")
    elif attached == 0:
        report.add_problem(ProblemKind.NO_DEVICES, "0 GPUs attached")
    elif not listed and log.child("attached_units"):
        report.add_problem(ProblemKind.UNSUPPORTED, "the answer tells of units, not of GPUs")
