"""No input makes the reader raise, state a number that is none, or invent health."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from chipmedic.tool_report import ChipReport, Health, ToolRun, to_json
from chipmedic_collectors.nvidia.smi import READER

RECORDED = sorted((Path(__file__).parents[2] / "recorded").glob("nvidia-smi-*.txt"))
TEXTS = [path.read_text(encoding="utf-8") for path in RECORDED] + [
    "0, 00000000:2A:00.0, 41, 512 MiB, 7 %\n1, 00000000:2B:00.0, [N/A], [Unknown Error], 7 %\n",
    "GPU 0: NVIDIA H100 (UUID: GPU-a)\n\t Link 0: 26.562 GB/s\n\t Link 3: <inactive>\n",
    "# gpu    pwr  gtemp\n# Idx      W      C\n    0    294     81\n",
    "Unable to determine the device handle for GPU3: 0000:5F:00.0: Unknown Error\n",
]
ARGUMENTS = [
    "",
    "-q",
    "-q -x",
    "-L",
    "-i 3",
    "dmon",
    "--query-gpu=index,pci.bus_id,temperature.gpu,memory.used,utilization.gpu",
    "--query-compute-apps=pid,name,used_memory",
    "--query-gpu",
]
PIECES = [
    "|",
    "+---",
    "ERR!",
    "N/A",
    "GPU is lost",
    "<gpu>",
    "</gpu>",
    " : ",
    ",",
    "\n",
    "0x",
    "٣",
    "\x00",
]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A recorded answer of which a part is missing, doubled or replaced."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 400)))
        filling = draw(st.sampled_from([*PIECES, text[start:end] * 2]) | st.text(max_size=8))
        text = text[:start] + filling + text[end:]
    return text


@given(
    text=damaged() | st.text(max_size=300),
    arguments=st.sampled_from(ARGUMENTS),
    stderr=st.text(max_size=40),
    exit_code=st.none() | st.integers(-20, 300),
)
def test_no_input_is_too_bad(text: str, arguments: str, stderr: str, exit_code: int | None) -> None:
    run = ToolRun(["nvidia-smi", *arguments.split()], text, stderr, exit_code)
    report = READER.read(run)
    json.dumps(to_json(report), allow_nan=False)
    assert READER.recognises(run) > 0
    for chip in report.chips:
        assert_plausible(chip)
    if not report.chips and report.tool_version is None and "apps" not in arguments:
        assert report.problems, "nothing read and nothing said"


def assert_plausible(chip: ChipReport) -> None:
    for count in (chip.ecc_corrected_total, chip.ecc_uncorrected_total, chip.retired_pages):
        assert count is None or count >= 0
    for size in (chip.memory_used_bytes, chip.memory_total_bytes):
        assert size is None or size >= 0
    if chip.lost:
        assert chip.health is Health.CRITICAL
