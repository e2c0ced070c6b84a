"""The layouts of rocm-smi and its forks, and the marks that tell AMD from Hygon."""

from __future__ import annotations

import re

from chipmedic.tool_report import ProblemKind
from chipmedic_collectors.reading.language import Layout, Sentence, sentence
from chipmedic_collectors.rocm_smi.cards import is_csv, is_json, read_csv, read_json
from chipmedic_collectors.rocm_smi.sections import is_sections, read_sections

LAYOUTS = (
    Layout(lambda text, command: is_json(text), lambda text, command, r: read_json(text, r)),
    Layout(lambda text, command: is_csv(text), lambda text, command, r: read_csv(text, r)),
    Layout(
        lambda text, command: is_sections(text), lambda text, command, r: read_sections(text, r)
    ),
)

SENTENCES: tuple[Sentence, ...] = (
    sentence(ProblemKind.NO_DEVICES, r"No AMD GPUs|No DRM devices|No device available"),
    sentence(
        ProblemKind.DRIVER_DOWN,
        r"driver not initialized|rsmi_init\(\) failed|not found in modules"
        r"|ROCm SMI returned \d+ \(the expected value is 0\)|librocm_smi",
    ),
    sentence(ProblemKind.CHIP_LOST, r"No such device (?:card)?\d+"),
    sentence(
        ProblemKind.UNSUPPORTED,
        r"Cannot print JSON/CSV output|No JSON data to report|unrecognized arguments"
        r"|error: argument |^usage: ",
    ),
)

HYGON = re.compile(
    r"^\s*(?:DCU|HCU)\s+Temp\b|\b(?:DCU|HCU)\[\d+\]|\b(?:DCU|HCU) (?:memory )?use\b"
    r"|\bHCU Index\b|Chengdu (?:Haiguang|C-3000)|\bC-3000\b|\bmkfd\b|\bhy(?:dcu|cu)\b"
    r"|vram Total (?:Used )?Memory \(MiB\)|^=+ +System Management Interface +=+",
    re.MULTILINE,
)
"""What only Hygon's builds print, under whichever name they were started."""
