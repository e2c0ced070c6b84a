"""Answers of `key : value` lines in one block per chip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from chipmedic.tool_report import ProcessReport
from chipmedic_collectors.values import identity, memory_bytes, process_id

_PAIR = re.compile(r"\s*(?P<key>[^:\s](?:[^:]*[^:\s])?)\s*:(?:\s+(?P<value>.*))?$")
_SECTION = re.compile(r"\s*(?P<key>[A-Za-z][\w .()/-]*?)\s*$")


@dataclass(slots=True)
class Block:
    """What was printed of one chip, or before the first."""

    heading: re.Match[str] | None
    pairs: list[tuple[str, str]] = field(default_factory=list)
    """(key, value); each value also under `section/key`. Keys are in lower case."""

    def value(self, key: str) -> str:
        """Return the first value of a key; empty when it was not printed."""
        return next((value for name, value in self.pairs if name == key), "")


def read_blocks(text: str, heading: re.Pattern[str]) -> Iterator[Block]:
    """Yield the lines before the first heading as a block, and then one block per heading."""
    block = Block(None)
    section = ""
    for line in text.expandtabs().splitlines():
        if found := heading.match(line):
            yield block
            block, section = Block(found), ""
        elif pair := _PAIR.match(line):
            key, value = pair["key"].lower(), (pair["value"] or "").strip()
            if not value:
                section = key
                continue
            block.pairs.append((key, value))
            if section:
                block.pairs.append((f"{section}/{key}", value))
        elif named := _SECTION.match(line):
            section = named["key"].lower()
    yield block


def read_processes(block: Block) -> list[ProcessReport] | None:
    """Return the processes of a block; None where it has no such section.

    Each begins with its id; name and memory follow. `Processes : None` is an idle chip.
    """
    if block.value("processes").lower() == "none":
        return []
    found: list[ProcessReport] = []
    for key, value in block.pairs:
        if key in ("process id", "pid") and (pid := process_id(value)) is not None:
            found.append(ProcessReport(pid))
        elif found and key in ("name", "process name"):
            found[-1] = ProcessReport(found[-1].pid, identity(value), found[-1].memory_bytes)
        elif found and key.startswith("used ") and key.endswith("memory"):
            found[-1] = ProcessReport(found[-1].pid, found[-1].name, memory_bytes(value))
    return found or None
