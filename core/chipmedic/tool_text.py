"""Take off a tool's answer what the way to the file put on it.

A capture was often copied out of a terminal or a ticket: with colours, with the prompt and the
command above it, indented as a whole, or with the mark that an editor puts first.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace

from chipmedic.tool_report import ToolRun

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\([A-Z0-9]|\][^\x07]*\x07)")
_PROMPT = re.compile(
    r"\s*(?:\([\w.-]+\) )?(?:\[[\w.-]+@[^\]]*\]|[\w.-]+@[\w.-]+:[^\s#$]*) ?[#$%](?:\s.*)?"
)
"""`[root@node7 ~]# ...`, `(base) user@node7:~/x$ ...`."""


def as_printed(run: ToolRun) -> ToolRun:
    """Return the run with its answer as the tool printed it."""
    text = _ESCAPES.sub("", run.stdout.removeprefix("\ufeff"))
    return replace(run, stdout=textwrap.dedent(_without_prompts(text)))


def _without_prompts(text: str) -> str:
    """Leave out the prompts of a shell before and behind the answer; within it they stay."""
    lines = text.splitlines(keepends=True)
    while lines and (_PROMPT.fullmatch(lines[0].rstrip()) or not lines[0].strip()):
        lines.pop(0)
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    if end and _PROMPT.fullmatch(lines[end - 1].rstrip()):
        del lines[end - 1 :]
    return "".join(lines)
