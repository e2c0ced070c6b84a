"""The lines of a large log that hold one of many texts, at the speed of a block search.

Looking for each of 190 texts in each line costs ten times what reading the file does. So a block is
searched as a whole, in two ways, of which neither loses a line:

- Log lines repeat but for their numbers: of a block only those lines are searched that, without
  their numbers, were never seen before.
- The texts are looked for by their rarest characters, with one pattern for all of them; a text
  without a rare character is searched by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

LINE_MAX = 16_384
"""Longer lines are cut: a kernel record has at most 8 KiB."""
BLOCK_BYTES = 1 << 17
TEMPLATES_MAX = 8192
HIT_NANOSECONDS = 70.0
"""What it costs to look at one place where a rare character stands. Measured; only the ratio to
`_find_nanoseconds` counts, and it decides what is faster, never what is found."""
NEW_SHARE_MAX = 0.8
"""Where more of the lines than this were never seen, remembering costs more than it saves."""
BLOCKS_UNREMEMBERED = 64
"""How many blocks are then searched without."""

_THOUSANDTHS = {
    "e": 127, "t": 91, "a": 82, "o": 75, "i": 70, "n": 67, "s": 63, "h": 61, "r": 60, "d": 43,
    "l": 40, "c": 28, "u": 28, "m": 24, "w": 24, "f": 22, "g": 20, "y": 20, "p": 19, "b": 15,
    "v": 10, "k": 8, "_": 5, "x": 3, "j": 2, "q": 1, "z": 1,
}  # fmt: skip
"""Shares of English words, as in a log; capitals and signs have less than one each."""
_EVERYWHERE = frozenset("0123456789 .:-/[]")
_DIGITS = b"0123456789"
_HEXADECIMAL = bytes.maketrans(b"abcdef", b"aaaaaa")
_SHORT = 2
"""A text of which masking leaves less than this is looked for as it is."""


class Search:
    """Finds any of several texts in a block of lines."""

    def __init__(self, texts: Iterable[str]) -> None:
        ordered = needed(texts)
        anchors = _anchors(ordered)
        anchored: dict[str, list[str]] = {}
        self._others: list[bytes] = []
        for text in ordered:
            mine = [character for character in text if character in anchors]
            if mine:
                rarest = min(mine, key=_share)
                anchored.setdefault(rarest, []).append(_behind(rarest, text))
            else:
                self._others.append(text.encode())
        # The most frequent first: of an alternation each is tried in turn.
        by_share = sorted(anchored.items(), key=lambda item: -_share(item[0]))
        pattern = "|".join(f"{re.escape(anchor)}(?:{'|'.join(r)})" for anchor, r in by_share)
        self._pattern = re.compile(pattern.encode()) if pattern else None

    def line_starts(self, block: bytes) -> list[int]:
        """Return where the lines begin that hold a text; each line ends with a newline."""
        starts = set()
        if self._pattern is not None:
            search, at = self._pattern.search, 0
            while match := search(block, at):
                starts.add(block.rfind(b"\n", 0, match.start()) + 1)
                at = block.find(b"\n", match.start()) + 1
        for text in self._others:
            at = block.find(text)
            while at >= 0:
                starts.add(block.rfind(b"\n", 0, at) + 1)
                at = block.find(text, block.find(b"\n", at) + 1)
        return sorted(starts)


class Templates:
    """Lines without their numbers that were seen before and hold none of the texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        masked = {text: _masked(text.encode()) for text in texts}
        self._search = Search(m.decode() for m in masked.values() if len(m) >= _SHORT)
        self._short = [text.encode() for text, m in masked.items() if len(m) < _SHORT]
        self._quiet: set[bytes] = set()
        self._unremembered = 0

    def loud_lines(self, block: bytes) -> list[int] | None:
        """Return the numbers, from 0, of the lines that may hold a text; None: search the block."""
        if self._unremembered > 0:
            self._unremembered -= 1
            return None
        if any(text in block for text in self._short):
            return None
        lines = _masked(block).split(b"\n")
        new = set(lines) - self._quiet
        if len(new) > NEW_SHARE_MAX * len(lines):
            self._unremembered = BLOCKS_UNREMEMBERED
        joined = b"\n".join(new) + b"\n"
        loud = {joined[at : joined.find(b"\n", at)] for at in self._search.line_starts(joined)}
        if len(self._quiet) + len(new) > TEMPLATES_MAX:
            self._quiet.clear()
        if len(new) <= TEMPLATES_MAX:
            self._quiet |= new - loud
        return [number for number, line in enumerate(lines) if line in loud] if loud else []


class Sieve:
    """Finds candidate lines; made once for its texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(texts)
        self._search = Search(self._texts)

    def candidates(self, stream: BinaryIO) -> Iterator[tuple[int, str]]:
        """Yield number (from 1) and text of each line that holds a text, in order.

        The last item is the number of the log's last line with an empty text, so that who reads
        knows how long the log is. Memory: two blocks and at most `TEMPLATES_MAX` lines.
        """
        templates = Templates(self._texts)
        number = 0
        for block in _whole_lines(stream):
            loud = templates.loud_lines(block)
            found = self._in_block(block) if loud is None else self._in_lines(block, loud)
            for offset, line in found:
                yield number + offset + 1, line[:LINE_MAX].decode(errors="replace")
            number += block.count(b"\n")
        yield number, ""

    def _in_block(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        offset, done = 0, 0
        for begin in self._search.line_starts(block):
            offset += block.count(b"\n", done, begin)
            done = begin
            yield offset, block[begin : block.find(b"\n", begin)]

    def _in_lines(self, block: bytes, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
        lines = block.split(b"\n") if numbers else []
        for offset in numbers:
            if self._search.line_starts(lines[offset] + b"\n"):
                yield offset, lines[offset]


def needed(texts: Iterable[str]) -> list[str]:
    """Return the texts without those that hold another one of them."""
    several = set(texts)
    return sorted(t for t in several if not any(o != t and o in t for o in several))


def _masked(text: bytes) -> bytes:
    """Return a text without its digits, hexadecimal letters all alike."""
    return text.translate(_HEXADECIMAL, _DIGITS)


def _share(character: str) -> float:
    return 1.0 if character in _EVERYWHERE else _THOUSANDTHS.get(character, 0.8) / 1000


def _find_nanoseconds(text: str) -> float:
    """Return what searching a block for one text costs, by byte of the block."""
    return max(0.17, 4.0 / len(text))


def _anchors(texts: Iterable[str]) -> set[str]:
    """Choose rare characters by which texts are found, as long as each saves more than it costs."""
    chosen: set[str] = set()
    left = list(texts)
    while left:
        saved = {
            character: sum(_find_nanoseconds(text) for text in left if character in text)
            for character in sorted(set("".join(left)))
        }
        worth = [c for c in saved if saved[c] > _share(c) * HIT_NANOSECONDS]
        if not worth:
            break
        best = max(worth, key=lambda character: saved[character] / _share(character))
        chosen.add(best)
        left = [text for text in left if best not in text]
    return chosen


def _behind(anchor: str, text: str) -> str:
    """Return the pattern of a text behind its anchor: what follows, then what stood before."""
    before, _, behind = text.partition(anchor)
    return re.escape(behind) + (f"(?<={re.escape(text)})" if before else "")


def _whole_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield blocks that end with a line; of a line without an end only the beginning."""
    rest, is_cut = b"", False
    while block := stream.read(BLOCK_BYTES):
        if is_cut:
            _, newline, block = block.partition(b"\n")
            if not newline:
                continue
            is_cut = False
        block = rest + block
        end = block.rfind(b"\n") + 1
        rest = block[end:]
        if end:
            yield block[:end]
        if len(rest) > LINE_MAX:
            yield rest[:LINE_MAX] + b"\n"
            rest, is_cut = b"", True
    if rest:
        yield rest + b"\n"
