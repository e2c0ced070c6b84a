"""What an Ascend tool was asked, from its command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from chipmedic_collectors.values import integer

NPU_SMI = "npu-smi"
HCCN_TOOL = "hccn_tool"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line of one run, whatever stands before the tool (`sudo`, `timeout 10`)."""

    program: str
    """`npu-smi`, `hccn_tool`, or empty for neither."""
    card: int | None = None
    """`-i`: NPU id; of hccn_tool the physical device id."""
    chip: int | None = None
    """`-c`: chip inside the card."""
    port: int | None = None
    """`-p`: port of hccn_tool on the 950."""
    topic: str | None = None
    """`-t` of npu-smi: `health`, `ecc`, ..."""


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Return what `argv` asks; options that are not known here are left out."""
    names = [PurePosixPath(word).name for word in argv]
    start = next((i for i, name in enumerate(names) if name in (NPU_SMI, HCCN_TOOL)), None)
    if start is None:
        return Arguments("")
    options: dict[str, str] = {}
    for word, following in zip(argv[start + 1 :], [*argv[start + 2 :], ""], strict=False):
        option, equals, value = word.partition("=")
        if option.startswith("-"):
            options[option] = value if equals else following
    return Arguments(
        names[start],
        card=integer(options.get("-i", "")),
        chip=integer(options.get("-c", "")),
        port=integer(options.get("-p", "")),
        topic=options.get("-t"),
    )
