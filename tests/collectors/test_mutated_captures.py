"""Every reader of a vendor's tools, on captures that were cut, spliced, garbled and mixed up.

A reader never raises, and what it then states is still possible: `make fuzz` tries ten thousand
mutated captures per reader.
"""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chipmedic.tool_readers import load_readers, read_tool_run
from chipmedic.tool_report import LINE_MAX, ToolRun
from fuzzing import assert_possible, captures, examples, mutated

READERS = {reader.vendor: reader for reader in load_readers()}
COMMANDS = {
    "ascend": ("npu-smi info", "npu-smi info -t ecc -i 2", "hccn_tool -i 0 -link -g"),
    "nvidia": ("nvidia-smi", "nvidia-smi -q -x", "nvidia-smi --query-gpu=index,memory.used"),
    "amd": ("amd-smi metric --json", "amd-smi monitor", "rocm-smi", "amd-smi list --csv"),
    "hygon": ("hy-smi", "hy-smi --showuse --json", "rocm-smi"),
    "kunlun": ("xpu-smi", "xpu_smi -m", "xpu-smi -q -x"),
    "intel": ("xpu-smi stats -d 0 -j", "xpumcli discovery", "xpu-smi dump -d -1 -m 0,1"),
    "gaudi": ("hl-smi", "hl-smi -Q index,name,memory.used -f csv", "hl-smi -L"),
    "biren": ("brsmi", "brsmi gpu --query-gpu=index,memory.used"),
}
PLACES = examples(6)
"""How many places of one capture are changed in turn."""


@cache
def commands_of(vendor: str) -> list[str]:
    """Return the command lines that a reader takes for its vendor's."""
    reader = READERS[vendor]
    known = [" ".join(argv) for argv in captures() if reader.recognises(ToolRun(argv, "")) > 0]
    return sorted({*known, *COMMANDS.get(vendor, ()), ""})


@cache
def texts_of(vendor: str) -> list[str]:
    """Return the captures of a vendor, and one of each other: what a reader must not choke on."""
    reader = READERS[vendor]
    own = [
        text
        for argv, texts in captures().items()
        for text in texts
        if reader.recognises(ToolRun(argv, text)) > 0
    ]
    return [*own, *(texts[0] for texts in captures().values()), ""]


@cache
def texts_of_all() -> list[str]:
    """Return every capture."""
    return [text for texts in captures().values() for text in texts]


@pytest.mark.parametrize("vendor", READERS)
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_no_mutated_capture_breaks_a_reader(vendor: str, data: st.DataObject) -> None:
    reader = READERS[vendor]
    text = data.draw(mutated(texts_of(vendor)) | st.text(max_size=200))
    argv = data.draw(st.sampled_from(commands_of(vendor))).split()
    stderr = data.draw(st.sampled_from(("", "error: ", text[:200])))
    run = ToolRun(argv, text, stderr, data.draw(st.none() | st.integers(-20, 300)))
    assert reader.recognises(run) in (0, 1, 2, 3)
    report = reader.read(run)
    assert report.vendor == vendor
    assert_possible(report)


@pytest.mark.parametrize("junk", [("9" * 400, r"\d+"), ("9" * 5000, r"\d+"), ("\x0b", "\n")])
@pytest.mark.parametrize("vendor", READERS)
def test_each_number_and_line_end_may_be_absurd(vendor: str, junk: tuple[str, str]) -> None:
    """Python makes no whole number of more than 4,300 digits, and no float of 400."""
    absurd, pattern = junk
    for argv, texts in captures().items():
        for text in texts:
            if READERS[vendor].recognises(ToolRun(argv, text)) == 0:
                continue
            places = list(re.finditer(pattern, text))
            for place in places[:: len(places) // PLACES + 1]:
                changed = text[: place.start()] + absurd + text[place.end() :]
                assert_possible(READERS[vendor].read(ToolRun(argv, changed)))


def test_an_endless_line_of_a_table_is_cut_and_one_of_json_is_whole() -> None:
    line = "| 0  " + "9" * 1_000_000
    table = ToolRun(("any-smi",), f"{line}\n|\n").stdout
    assert [len(part) for part in table.split("\n")] == [LINE_MAX, 1, 0]
    assert len(ToolRun(("any-smi",), "{}", line).stderr) == LINE_MAX
    assert len(ToolRun(("any-smi",), '{"a":"' + line + '"}').stdout) > len(line)


@given(data=st.data())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_whichever_reader_takes_it_the_answer_is_possible(data: st.DataObject) -> None:
    every = texts_of_all()
    argv = data.draw(st.sampled_from(sorted(captures())))
    report = read_tool_run(ToolRun(argv, data.draw(mutated(every))), READERS.values())
    assert_possible(report)
