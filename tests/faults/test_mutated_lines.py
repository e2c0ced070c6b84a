"""Log lines of every vendor, cut, spliced and garbled: no reader fails, and none invents.

`make fuzz` tries ten thousand of each vendor.
"""

from __future__ import annotations

import io
import json
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chipmedic.faults.explain import explain_stream
from chipmedic.faults.kernel_lines import (
    LINE_MAX,
    QUOTING_PROGRAMS,
    is_candidate,
    read_line,
    read_text,
)
from chipmedic.faults.kinds import KINDS
from chipmedic.faults.lines_training import read_training_text
from chipmedic.faults.prefix import strip_prefix
from chipmedic.model import Severity
from chipmedic_cli.explain import render
from fuzzing import CORPUS, examples, mutated

PAGE = Path(__file__).parents[2] / "docs/faults.md"
PREFIXES = (
    "",
    "[ 4711.082213] ",
    "6,9314,81123456,-;",
    "Nov  3 04:11:09 node-17 kernel: ",
    "2026-11-03T04:11:09.123456+08:00 node-17 kernel: [99.1] ",
    "[Tue Nov  3 04:11:09 2026] ",
    "<4>[   12.345678] ",
    "kern  :err   : [Tue Nov  3 04:11:09 2026] ",
)
PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}(\.[0-7])?|[0-9a-f]{5,8}:.*")


@cache
def lines() -> dict[str, list[str]]:
    """Return lines that state something, by vendor."""
    texts = [text for _, text, _ in examples_of_the_page()]
    corpus = CORPUS / "kmsg.jsonl"
    if corpus.exists():
        rows = corpus.read_text(encoding="utf-8").splitlines()
        texts += [json.loads(row)["line"] for row in rows]
    found: dict[str, list[str]] = {}
    for text in texts:
        findings = read_line(text)
        training = read_training_text(text)
        vendor = findings[0].vendor if findings else training.vendor if training else "nobody"
        found.setdefault(vendor, []).append(text)
    return found


def examples_of_the_page() -> list[tuple[str, str, str]]:
    """Return kind, line and code of the examples in docs/faults.md."""
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)` \| `(.+)` \| `(\w+:[\w.]+)` \|$", page, re.MULTILINE)
    return [(kind, text.replace("\\|", "|"), code) for kind, text, code in rows]


@pytest.mark.parametrize("vendor", sorted(lines()))
@given(data=st.data())
@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
def test_no_mutated_line_breaks_the_reader(vendor: str, data: st.DataObject) -> None:
    line = data.draw(st.sampled_from(PREFIXES)) + data.draw(mutated(lines()[vendor]))
    found = read_line(line)
    assert len(found) <= 1  # one line, one fault
    stripped = strip_prefix(line)
    for finding in found:
        assert is_candidate(line)
        assert finding.kind in KINDS or finding.kind == "info"
        assert finding.severity in Severity
        assert finding.code.partition(":")[2]
        assert finding.count >= 1
        assert finding.hint
        if finding.pci is not None:
            assert PCI.fullmatch(finding.pci), finding.pci
    if not found and stripped.program not in QUOTING_PROGRAMS:
        assert read_text(stripped.text) is None or len(line) > LINE_MAX
    read_training_text(stripped.text)


@given(data=st.data())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_no_mutated_log_breaks_explain(data: st.DataObject) -> None:
    every = [line for several in lines().values() for line in several]
    log = "\n".join(data.draw(st.lists(mutated(every), max_size=12)))
    report = explain_stream(io.BytesIO(log.encode(errors="replace")))
    assert report.lines <= len(re.split(r"[\n]", log))
    for language in ("en", "zh"):
        assert render(report, language)
    if not any(read_line(line) or read_training_text(line) for line in log.split("\n")):
        assert not report.causes
