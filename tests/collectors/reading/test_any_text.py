"""No text makes a reader fail, invent a number, or take a part for the whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.tool_readers import load_readers
from chipmedic.tool_report import ToolRun
from fuzzing import assert_possible, examples
from vendor_readings import RECORDED, recorded

VENDORS = (
    "biren",
    "cambricon",
    "enflame",
    "gaudi",
    "iluvatar",
    "intel",
    "kunlun",
    "metax",
    "mthreads",
)
READERS = {reader.vendor: reader for reader in load_readers() if reader.vendor in VENDORS}
PREFIXES = ("xpu", "hl-", "cnmon", "mx-", "mthreads", "ixsmi", "efsmi")
NAMES = sorted(path.name for path in RECORDED.iterdir() if path.name.startswith(PREFIXES))
ENDLESS = ("hl-smi-L", "xpu-smi-q-p800-5.0", "efsmi", "hl-smi-table-hl205", "xpu-smi-intel")
"""Texts without an end of their own, as of a table of one device or two, or recorded without."""
COMMANDS = (
    "xpu-smi",
    "xpu_smi -m",
    "xpumcli stats -d 0 -j",
    "hl-smi -Q index,name,bus_id,power.draw,memory.used -f csv,noheader",
    "mx-smi -L",
    "brsmi gpu --query-gpu=index,memory.used",
    "",
)

fragments = st.sampled_from(
    [
        *(line for name in NAMES for line in recorded(name).splitlines() if line.strip()),
        '{"device_list": [{"device_id": 0, "tile_level": [1, {}]}]}',
        '{"error": 5}',
        "port 99999: UP",
        "0, [N/A], ERR!, 1e999, -1",
        "| 0 |",
        "|",
        "<xpu_smi_log><xpu id='",
    ]
)
texts = st.lists(fragments | st.text(max_size=40), max_size=25).map("\n".join)


def check(text: str, command: str) -> None:
    for reader in READERS.values():
        run = ToolRun(command.split(), text, "", None)
        assert reader.recognises(run) in (0, 1, 2, 3)
        report = reader.read(run)
        assert_possible(report)


@settings(max_examples=examples(200), deadline=None)
@given(texts, st.sampled_from(COMMANDS))
def test_any_text(text: str, command: str) -> None:
    check(text, command)


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_any_damage(name: str, data: st.DataObject) -> None:
    text = recorded(name)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 200)))
    check(text[:start] + data.draw(st.text(max_size=5)) + text[end:], "")


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(ENDLESS)])
@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_a_part_is_never_the_whole(name: str, data: st.DataObject) -> None:
    text = recorded(name)
    closing = [line for line in text.splitlines() if line.startswith(("+-", "+=", "---", "</"))]
    end = text.rindex(closing[-1])
    reader = max(READERS.values(), key=lambda one: one.recognises(ToolRun((), text)))
    report = reader.read(ToolRun((), text[: data.draw(st.integers(1, end - 1))]))
    whole = reader.read(ToolRun((), text))
    assert report.problems
    assert report.problems != whole.problems
