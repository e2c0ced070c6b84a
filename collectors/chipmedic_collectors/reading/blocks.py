"""Answers of `key : value` lines in one block per chip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

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
