"""Reads what NVIDIA's command-line tools print: `nvidia-smi` in its many forms.

A run of `dcgmi` is recognised and said to be unsupported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from chipmedic.tool_report import ProblemKind, ToolReader, ToolReport, ToolRun
from chipmedic_collectors.nvidia import (
    smi_csv,
    smi_lists,
    smi_messages,
    smi_monitor,
    smi_query,
    smi_table,
)
from chipmedic_collectors.nvidia.smi_command import find_command, only_index
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.repeats import merge_repeats
from chipmedic_collectors.tool_failures import ended_early, shell_failure

VENDOR = "nvidia"
_MARK = re.compile(r"NVIDIA-SMI|<nvidia_smi_log|NVSMI LOG|nvsmi_device_v\d+\.dtd")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00\ufeff]")


def recognises(run: ToolRun) -> int:
    """Say how sure it is that this is a run of one of NVIDIA's tools."""
    if _MARK.search(run.stdout) or _MARK.search(run.stderr):
        return 3
    if find_command(run.argv).tool is None:
        return 0
    return 2 if run.stdout.strip() else 1


def read(run: ToolRun) -> ToolReport:
    """Return what the run stated; what cannot be read is a problem of the report."""
    report = ToolReport(vendor=VENDOR)
    command = find_command(run.argv)
    answer, messages = smi_messages.split_messages(_ESCAPES.sub("", run.stdout))
    messages += smi_messages.split_messages(_ESCAPES.sub("", run.stderr))[1]
    read_answer = _layout(answer, command, report)
    if read_answer is not None:
        read_answer()
        _complete_identity(command, report)
        merge_repeats(report)
    smi_messages.note_messages(messages, report)
    _note_shell(run, report, has_messages=bool(messages))
    smi_messages.note_exit_status(run.exit_code, report)
    if not report.problems and not report.chips and not smi_lists.is_version(answer):
        _note_nothing(answer, command, report)
    return report


def _note_shell(run: ToolRun, report: ToolReport, *, has_messages: bool) -> None:
    """Note that the tool did not run, or was ended; beside an answer only its exit status tells."""
    told = run if not report.chips else ToolRun(run.argv, "", "", run.exit_code)
    failure = shell_failure(told) if not has_messages else None
    if report.chips:
        failure = failure or ended_early(run.exit_code)
    if failure:
        report.add_problem(failure.kind, failure.message)


READER = ToolReader(vendor=VENDOR, recognises=recognises, read=read)


def _layout(text: str, command: CommandLine, report: ToolReport) -> Callable[[], None] | None:
    """Choose the layout by the text; the arguments decide only about CSV, which has no mark."""
    if smi_query.is_xml(text):
        return partial(smi_query.read_query_xml, text, command, report)
    if smi_table.is_table(text):
        return partial(smi_table.read_table, text, report)
    if smi_query.is_text(text):
        return partial(smi_query.read_query_text, text, command, report)
    if smi_monitor.is_monitor(text):
        return partial(smi_monitor.read_monitor, text, report)
    if smi_lists.is_list(text):
        return partial(smi_lists.read_list, text, report)
    if smi_lists.is_topology(text):
        return partial(smi_lists.read_topology, text, report)
    if smi_lists.is_slices(text):
        return partial(smi_lists.read_slices, text, report)
    if smi_lists.is_version(text):
        return partial(smi_lists.read_version, text, report)
    if smi_csv.is_csv(text, command):
        return partial(smi_csv.read_csv, text, command, report)
    return None


def _complete_identity(command: CommandLine, report: ToolReport) -> None:
    """Take the index from the arguments where one chip was asked for and the text gives none."""
    index = only_index(command)
    if index is not None and len(report.chips) == 1 and report.chips[0].index is None:
        report.chips[0].index = index


def _note_nothing(answer: str, command: CommandLine, report: ToolReport) -> None:
    if command.tool == "dcgmi" and answer.strip():
        report.add_problem(ProblemKind.UNSUPPORTED, "the output of dcgmi is not read")
        return
    if smi_csv.may_be_empty(answer, command):
        return
    if smi_lists.has_no_link(answer):
        report.add_problem(ProblemKind.UNSUPPORTED, answer.strip())
        return
    first = next((line.strip() for line in answer.splitlines() if line.strip()), None)
    if first is not None:
        report.add_problem(ProblemKind.MALFORMED, f"no GPU can be read from: {first[:200]}")
    else:
        report.add_problem(ProblemKind.MALFORMED, "the tool printed nothing")
