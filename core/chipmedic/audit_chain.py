"""The chain that makes the audit tamper-evident.

Pure and standard library only, so that whoever checks need not trust the watchdog.
Each entry carries the hash of the entry before it and its own, which covers all that it says. Who
changes, removes, inserts or reorders an entry has to compute every later hash anew, and then the
last one differs from what the watchdog has logged and exported (the head). An audit that was cut at
its end is whole in itself: only a head from outside tells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
"""What the first entry has as the hash before it."""
COVERED = ("id", "at", "who", "via", "act", "target", "detail", "previous")
"""The fields under the hash; `id` counts from 1 without holes."""
HEAD_NUMBER_DIGITS = 12
"""48 bits: what a metric (a double) holds exactly."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends: the number of its entries and the last hash."""

    seq: int = 0
    hash: str = GENESIS

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @property
    def number(self) -> int:
        """The beginning of the hash as a number, for a metric."""
        return int(self.hash[:HEAD_NUMBER_DIGITS], 16)

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read `17:4f0c...` as the watchdog logs it.

        Raises:
            ValueError: it is none.
        """
        seq, colon, digest = text.strip().partition(":")
        is_hash = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        if not colon or not seq.isascii() or not seq.isdecimal() or not is_hash:
            raise ValueError(f"{text!r} is no head of an audit: NUMBER:HASH, as it is logged")
        return cls(int(seq), digest)


def entry_hash(entry: Mapping[str, Any]) -> str:
    """Return the hash of an entry: SHA-256 over its covered fields as canonical JSON."""
    covered = {name: entry[name] for name in COVERED}
    covered["at"] = float(entry["at"])
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look over the whole chain found."""

    head: Head
    """Where it ends."""
    problems: tuple[str, ...]
    """Each breach in one line; empty: the audit is as it was written."""


def verify(entries: Iterable[Mapping[str, Any]], witnesses: Iterable[Head] = ()) -> Verified:
    """Check all entries, in the order of their numbers, against the chain and against heads.

    A witness is a head that was seen before: the store's own, one from the log, one from a metric.
    """
    pending = {head.seq: head for head in witnesses if head.seq}
    problems: list[str] = []
    last = Head()
    for entry in entries:
        problems += _breaches(entry, last)
        last = Head(int(entry["id"]), str(entry["hash"]))
        witness = pending.pop(last.seq, None)
        if witness is not None and witness.hash != last.hash:
            problems.append(f"entry {last.seq}: not the one that was seen before under this number")
    problems += [
        f"entry {seq} was seen before and is not here: the end was cut off at {last.seq}"
        for seq in sorted(pending)
    ]
    return Verified(last, tuple(problems))


def _breaches(entry: Mapping[str, Any], last: Head) -> Iterable[str]:
    number = int(entry["id"])
    if number != last.seq + 1:
        yield (
            f"entry {last.seq + 1} is missing: {number} follows {last.seq}"
            if number > last.seq
            else f"entry {number} comes after {last.seq}: out of order"
        )
    elif entry["previous"] != last.hash:
        yield f"entry {number}: the entry before it is not the one that it was written after"
    if entry["hash"] != entry_hash(entry):
        yield f"entry {number}: changed after it was written"
