"""The reader of Intel's `xpu-smi` and `xpumcli` for Data Center GPU Max and Flex.

Kunlunxin ships a tool called `xpu-smi` too: the text decides, then the arguments.
"""

from __future__ import annotations

import re

from chipmedic.tool_report import ProblemKind
from chipmedic_collectors.intel import csv_answers, health_text, json_answers, tables
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.language import Language, Layout, sentence
from chipmedic_collectors.reading.xpu_smi import INTEL_WORDS

VENDOR = "intel"


def _is_ours(command: CommandLine) -> bool:
    return command.tool == "xpumcli" or command.has(*INTEL_WORDS)


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"xpu-smi", "xpumcli"}),
    mark=re.compile(
        r"Intel\(R\)|^CLI:\s*$|XPUM_STATS_|Level Zero|Intel XPU System Management"
        r"|^\s*\|\s*Device ID\s*\||Intel XPU-SMI v\d|^Timestamp, DeviceId\b|^No device discovered",
        re.MULTILINE,
    ),
    version=re.compile(r"^CLI:\s*\n\s*Version:\s*(\S+)", re.MULTILINE),
    layouts=(
        Layout(json_answers.is_json, json_answers.read_json),
        Layout(tables.is_summary, tables.read_summary),
        Layout(tables.is_box, tables.read_box),
        Layout(tables.is_process_list, tables.read_process_list),
        Layout(health_text.is_health, health_text.read_health),
        Layout(health_text.is_pages, health_text.read_pages),
        Layout(tables.is_topology, tables.read_topology),
        Layout(csv_answers.is_csv, csv_answers.read_csv),
    ),
    sentences=(
        sentence(ProblemKind.NO_DEVICES, r"^no device discovered"),
        sentence(ProblemKind.DRIVER_DOWN, r"level zero initialization|xpum service status error"),
        sentence(ProblemKind.DRIVER_DOWN, r"fail(?:ed)? to (?:initialize xpum|connect)"),
        sentence(ProblemKind.UNSUPPORTED, r"run with --help"),
    ),
    is_ours=_is_ours,
).reader()
