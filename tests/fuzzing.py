"""Mutated captures for property tests, what a report may state, and how many a run tries.

`HYPOTHESIS_PROFILE=fuzz` (`make fuzz`) tries at least `FUZZ_EXAMPLES` per property; a usual run of
the tests tries what the property itself asks for.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from chipmedic.tool_report import ChipReport, ToolReport, to_json

FUZZ_EXAMPLES = 10_000
RECORDED = Path(__file__).parent / "recorded"
CORPUS = Path(__file__).parents[2] / "shared/conformance"
"""Real captures lie beside the checkout of those who have them."""

_NUMBER = re.compile(r"\d+")
_NUMBERS = ("0", "-7", "99999999999999999999", "9" * 400, "9" * 5000, "٣", "1.5.2")
"""Python refuses to read a whole number of more than 4,300 digits."""
_BREAKS = ("\n", "\r\n", "\r", "\x0b", "\u2028", "")
_JUNK = (
    *("|", "+---", "=====", " : ", ",", ", ", "\t", "\n", "/", "%", "%%", "'", '"', "\\"),
    *(
        "N/A",
        "NA",
        "-",
        "--",
        "[N/A]",
        "[Unknown Error]",
        "ERR!",
        "NaN",
        "inf",
        "-1",
        "0x",
        "1e999",
    ),
    *("{", "}", "[", "]", "{}", "[]", "null", "<a>", "</a>", "<!--", "&amp;", "&#0;"),
    *("\x00", "\x1b[31m", "\ufeff", "٣", "²", "𝟜", "½", "…", "\ud800", "No devices", "Failed to"),
)


def examples(quick: int) -> int:
    """Return how many examples a property tries: its own number, or that of a long run."""
    return max(quick, FUZZ_EXAMPLES) if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else quick


@cache
def captures() -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the outputs of tools that are here, by command line (empty where none is known)."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in sorted(RECORDED.iterdir()):
        found.setdefault((), []).append(path.read_text(encoding="utf-8"))
    cases = CORPUS / "cases.jsonl"
    for line in cases.read_text(encoding="utf-8").splitlines() if cases.exists() else ():
        case = json.loads(line)
        if case["stdout"]:
            text = (CORPUS / case["stdout"]).read_text(encoding="utf-8", errors="replace")
            found.setdefault(tuple(case["argv"]), []).append(text)
    return {argv: tuple(texts) for argv, texts in found.items()}


NUMBERS = tuple(
    name
    for name in ChipReport.__slots__
    if name.endswith(("_celsius", "_watts", "_ratio", "_bytes", "_total", "_pages"))
)


def assert_possible(report: ToolReport) -> None:
    """What a report states is possible, and a report that states nothing says why."""
    json.dumps(to_json(report), allow_nan=False)
    for chip in report.chips:
        for name in NUMBERS:
            value = getattr(chip, name)
            assert value is None or math.isfinite(value), name
            if name.endswith(("_bytes", "_total", "_pages")):
                assert value is None or (isinstance(value, int) and value >= 0), name
            if name.endswith("_ratio"):
                assert value is None or 0 <= value <= 1, name
        for process in chip.processes or []:
            assert process.pid >= 0
    assert report.chips or report.problems or report.tool_version or report.driver_version


@st.composite
def mutated(draw: st.DrawFn, texts: Sequence[str]) -> str:
    """One of the texts after a few accidents: cut, spliced, doubled, other numbers, junk."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(0, 4))):
        text = _accident(draw, text, texts)
    return text


def _accident(draw: st.DrawFn, text: str, texts: Sequence[str]) -> str:
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, min(len(text), begin + draw(st.sampled_from((3, 40, 2000))))))
    match draw(st.integers(0, 8)):
        case 0:
            return text[:begin]
        case 1:
            return text[:begin] + text[end:]
        case 2:
            return text[:end] + text[begin:end] + text[end:]
        case 3:
            return text[:begin] + draw(st.sampled_from(_JUNK)) + text[end:]
        case 4:
            return text[:begin] + draw(st.text(max_size=12)) + text[end:]
        case 5:
            other = draw(st.sampled_from(texts))
            return text[:begin] + other[draw(st.integers(0, len(other))) :]
        case 6:
            number = draw(st.sampled_from(_NUMBERS))
            return text[:begin] + _NUMBER.sub(number, text[begin:end]) + text[end:]
        case 7:
            lines = draw(st.permutations(text[begin:end].split("\n")[:12]))
            return text[:begin] + "\n".join(lines) + text[end:]
        case _:
            return text[:begin] + text[begin:].replace("\n", draw(st.sampled_from(_BREAKS)))
