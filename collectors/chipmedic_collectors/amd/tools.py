"""The reader of `amd-smi` and `rocm-smi`: what one run of them stated."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReader, ToolReport, ToolRun
from chipmedic_collectors.amd.documents import (
    Tree,
    is_csv,
    is_json,
    is_tree,
    read_csv,
    read_json,
    read_tree,
    text_of,
)
from chipmedic_collectors.amd.facts import fill_chip, fill_report
from chipmedic_collectors.amd.matrices import is_matrix, read_matrix
from chipmedic_collectors.amd.tables import (
    is_cper,
    is_default_view,
    is_monitor,
    read_cper,
    read_default_view,
    read_monitor,
)
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.language import Language, Layout, sentence
from chipmedic_collectors.reading.samples import Samples
from chipmedic_collectors.rocm_smi.layouts import HYGON, LAYOUTS, SENTENCES
from chipmedic_collectors.values import identity, integer

VENDOR = "amd"

_VERSION = re.compile(
    r"(?:AMDSMI Tool|AMD System Management Interface \| Version): (?P<tool>\S+) \|(?P<more>.*)"
)
_DRIVER = re.compile(r"amdgpu version: (\S+)")
_HYGON_TOOLS = frozenset({"hy-smi", "hy_smi"})
_CODES = {
    **dict.fromkeys((-1, -2, *range(-9, -3), -1002, -1003), ProblemKind.UNSUPPORTED),
    **dict.fromkeys((194, 195, 200, 201), ProblemKind.UNSUPPORTED),
    **dict.fromkeys((-3, -1031), ProblemKind.CHIP_LOST),
    **dict.fromkeys((-1032, -1034, 205, 206), ProblemKind.DRIVER_DOWN),
    -1010: ProblemKind.PERMISSION,
    196: ProblemKind.NO_DEVICES,
}
"""Codes of the command line (-1 to -9, since 7.14 193 to 207) and, below -1000, of the library."""


def _read_json(text: str, report: ToolReport) -> None:
    cards = Samples(report)
    for tree in read_json(text, report):
        if "error" in tree:
            kind = _kind_of(tree)
            report.add_problem(kind, text_of(tree["error"]))
        _add(tree, cards, report)


def _read_csv(text: str, report: ToolReport) -> None:
    cards = Samples(report)
    for tree in read_csv(text, report):
        _add(tree, cards, report)


def _read_tree(text: str, report: ToolReport) -> None:
    cards = Samples(report)
    for index, tree in read_tree(text):
        _add({**tree, "gpu": str(index)}, cards, report)


def _add(tree: Tree, cards: Samples, report: ToolReport) -> None:
    fill_report(report, tree)
    index = integer(text_of(tree["gpu"])) if "gpu" in tree else None
    if index is None or not 0 <= index < 10_000:
        return
    branches = {key: value for key, value in tree.items() if key != "gpu"}
    chip = ChipReport(index=index)
    fill_chip(chip, branches)
    known = next((one for one in report.chips if one.index == index), None)
    if known is not None and known.processes is not None and chip.processes is not None:
        chip.processes = [*known.processes, *chip.processes]  # one row of CSV per process
    cards.add(index, chip)


def _kind_of(tree: Tree) -> ProblemKind:
    code = integer(text_of(tree.get("code", ""))) or 0
    if code in _CODES:
        return _CODES[code]
    words = text_of(tree["error"])
    found = (kind for kind, pattern in _SENTENCES if pattern.search(words))
    return next(found, ProblemKind.PARTIAL)


def _read_version(text: str, report: ToolReport) -> None:
    if found := _VERSION.search(text):
        report.tool_version = identity(found["tool"])
        driver = _DRIVER.search(found["more"])
        report.driver_version = identity(driver[1]) if driver else None


_SENTENCES = (
    sentence(
        ProblemKind.DRIVER_DOWN,
        r"driver not (?:initialized|loaded)|not found in modules|libamd_smi|amd-smi-lib"
        r"|DRIVER_NOT_LOADED|STATUS_NOT_INIT|No module named|^ImportError|^KeyError: 'lib",
    ),
    sentence(ProblemKind.NO_DEVICES, r"Unable to detect any GPU|No AMD GPUs?\b|no GPU devices"),
    sentence(ProblemKind.CHIP_LOST, r"can ?not find a device|STATUS_NOT_FOUND"),
    sentence(
        ProblemKind.PERMISSION,
        r"STATUS_NO_PERM|(?:requires|require|needs?) (?:sudo|root|elevated)|/dev/kfd\b.*denied"
        r"|not (?:in|part of|a member of) .*\b(?:render|video)\b|missing .*\b(?:render|video)\b",
    ),
    sentence(
        ProblemKind.UNSUPPORTED,
        r"(?:Command|Parameter|argument).* is invalid|is not supported on|NOT_SUPPORTED"
        r"|has no attribute|invalid choice",
    ),
    *SENTENCES,
)

LANGUAGE = Language(
    vendor=VENDOR,
    tools=frozenset({"amd-smi", "amd-smi.exe", "amdsmi_cli.py", "rocm-smi", "rocm_smi.py"}),
    mark=re.compile(
        r"(?:ROCm|AMD) System Management Interface|\bAMD-SMI \d|AMDSMI Tool\b"
        r"|Advanced Micro Devices"
        r"|\bamdgpu\b|libamd_smi|\bAMD GPU|rsmi_init\(\)|AMD Instinct|\[Instinct MI\d"
    ),
    layouts=(
        *LAYOUTS[:2],
        Layout(
            lambda text, command: is_default_view(text),
            lambda text, command, report: read_default_view(text, report),
        ),
        Layout(lambda text, command: is_cper(text), lambda text, command, r: read_cper(text, r)),
        Layout(lambda text, command: is_tree(text), lambda text, command, r: _read_tree(text, r)),
        Layout(lambda text, command: is_csv(text), lambda text, command, r: _read_csv(text, r)),
        Layout(
            lambda text, command: is_matrix(text), lambda text, command, r: read_matrix(text, r)
        ),
        LAYOUTS[2],
        Layout(
            lambda text, command: is_monitor(text),
            lambda text, command, report: read_monitor(text, report),
        ),
        Layout(
            lambda text, command: is_json(text) and _VERSION.search(text) is None,
            lambda text, command, report: _read_json(text, report),
        ),
        Layout(
            lambda text, command: _VERSION.search(text) is not None,
            lambda text, command, report: _read_version(text, report),
        ),
    ),
    sentences=_SENTENCES,
)


def recognises(run: ToolRun) -> int:
    """See `ToolReader.recognises`; Hygon's builds bear AMD's name and sometimes its banner."""
    if HYGON.search(run.stdout) or HYGON.search(run.stderr):
        return 0
    if CommandLine.of(run.argv, _HYGON_TOOLS).tool is not None:
        return 0
    return LANGUAGE.recognises(run)


READER = ToolReader(VENDOR, recognises, LANGUAGE.read)
