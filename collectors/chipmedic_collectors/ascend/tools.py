"""The reader of `npu-smi` and `hccn_tool`: what one run of them stated."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReader, ToolReport, ToolRun
from chipmedic_collectors.ascend import cells
from chipmedic_collectors.ascend.arguments import HCCN_TOOL, Arguments, read_arguments
from chipmedic_collectors.ascend.columns import (
    is_mapping,
    is_topology,
    is_watch,
    read_mapping_into,
    read_topology,
    read_watch,
)
from chipmedic_collectors.ascend.failures import is_driver_log, kind_of_exit, kind_of_line
from chipmedic_collectors.ascend.hccn import read_hccn
from chipmedic_collectors.ascend.info_table import read_info_table
from chipmedic_collectors.ascend.key_value import is_key_value, is_pair, read_key_values
from chipmedic_collectors.reading.repeats import merge_repeats
from chipmedic_collectors.tool_failures import (
    ended_early,
    shell_failure,
    tells_tool_missing,
)

VENDOR = "ascend"
_MARK = re.compile(r"^\|\s*npu-smi \S+\s+Version:|\bdcmi mod[eu]le? initialize|NpuID\(Idx\)", re.M)
_VERSION = re.compile(r"^\s*npu-smi version\s*:\s*(\S+)", re.MULTILINE)
_ROW = re.compile(r"^\s*\|", re.M)
_CHIP_BOX = re.compile(r"\bnpu-smi \S+\s+Version:|\|\s*(?:Health|Bus-Id|Process id)\b", re.I)
_LINK_COLUMNS = re.compile(r"^\s*hccs link\s+\S+\(\S+\)", re.M)
"""`-t hccs-bw`: the traffic of each link, which is no fault of any of them."""


def read(run: ToolRun) -> ToolReport:
    """Return what the run stated; never raises."""
    report = ToolReport(vendor=VENDOR)
    arguments = read_arguments(run.argv)
    lines = (line for line in run.stdout.splitlines(True) if not tells_tool_missing(line))
    _read_answer("".join(lines), arguments, report)
    merge_repeats(report)
    _read_complaints(run, arguments, report)
    if not report.chips and not report.problems and report.tool_version is None:
        _read_silence(run, arguments, report)
    if report.chips and (problem := ended_early(run.exit_code)):
        report.add_problem(problem.kind, problem.message)
    return report


def recognises(run: ToolRun) -> int:
    """See `ToolReader.recognises`."""
    if _MARK.search(run.stdout):
        return 3
    if not read_arguments(run.argv).program:
        return 0
    return 2 if is_key_value(run.stdout) or _ROW.search(run.stdout) else 1


READER = ToolReader(VENDOR, recognises, read)


def _read_answer(text: str, arguments: Arguments, report: ToolReport) -> None:
    """The text tells its layout, not the command line: that was retyped, or is an older tool's."""
    if version := _VERSION.search(text):
        report.tool_version = cells.name(version[1])
    elif arguments.program == HCCN_TOOL:
        read_hccn(text, arguments, report)
    elif is_mapping(text):
        read_mapping_into(text, report)
    elif is_topology(text):
        read_topology(text, report)
    elif is_watch(text):
        read_watch(text, report)
    elif arguments.card is not None and _is_of_one_chip(text):
        report.chips.append(ChipReport(index=arguments.card, die=arguments.chip or 0))
    elif _ROW.search(text):
        read_info_table(text, report)
    elif is_key_value(text):
        read_key_values(text, arguments, report)


def _is_of_one_chip(text: str) -> bool:
    """Say whether the text is a table about the chip that was asked for, without its state.

    Virtual chips and templates (`-t info-vnpu`, `-t template-info`), link bandwidth.
    """
    is_box = _ROW.search(text) is not None and _CHIP_BOX.search(text) is None
    return is_box or _LINK_COLUMNS.search(text) is not None


def _read_complaints(run: ToolRun, arguments: Arguments, report: ToolReport) -> None:
    logged = ""
    for line in (*run.stdout.splitlines(), *run.stderr.splitlines()):
        bare = line.strip()
        if tells_tool_missing(bare):
            continue
        if is_driver_log(bare):
            logged = bare
        elif bare and bare[0] not in "|+" and (kind := _complaint(line)) is not None:
            if kind is ProblemKind.NO_DEVICES and arguments.card is not None:
                kind = ProblemKind.CHIP_LOST  # one chip was asked for by its number
            report.add_problem(kind, bare)
    if logged and not report.problems and not report.chips:
        report.add_problem(ProblemKind.DRIVER_DOWN, logged)


def _complaint(line: str) -> ProblemKind | None:
    if is_pair(line) and "ailed to" not in line:
        return None  # `Compatibility : NOT SUPPORT` is an answer
    return kind_of_line(line)


def _read_silence(run: ToolRun, arguments: Arguments, report: ToolReport) -> None:
    """No chip and no known complaint: say what there was, never that all is well."""
    if _has_no_address(run, arguments):
        report.chips.append(ChipReport(index=arguments.card))
        return
    lines = (*run.stdout.splitlines(), *run.stderr.splitlines())
    text = next((line.strip() for line in lines if line.strip()), "")
    if problem := shell_failure(run):
        report.add_problem(problem.kind, problem.message)
        return
    status = kind_of_exit(run.exit_code) if run.exit_code is not None else None
    if status is not None:
        report.add_problem(status[0], f"{status[1]}: {text or 'no text'}")
    elif text:
        report.add_problem(ProblemKind.MALFORMED, text)
    else:
        report.add_problem(ProblemKind.MALFORMED, "the tool printed nothing")


def _has_no_address(run: ToolRun, arguments: Arguments) -> bool:
    """Say whether this is how hccn_tool tells of a port that was given no address: by nothing."""
    is_asked = arguments.program == HCCN_TOOL and "-ip" in run.argv
    is_empty = not run.stdout.strip() and not run.stderr.strip()
    return is_asked and is_empty and run.exit_code in (0, None)
