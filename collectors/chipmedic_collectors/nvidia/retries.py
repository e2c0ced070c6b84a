"""How many of the blocks that a link of Blackwell sent it had to send again. Pure.

The physical layer of NVLink 5 repairs by sending again what forward error correction could not, so
every link does it now and then: what counts is the share, which is bandwidth lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, Gap, GapReason, Reading
from chipmedic_collectors.nvidia.chip_readings import is_row
from chipmedic_collectors.nvidia.codes import gap_reason, words
from chipmedic_collectors.nvidia.reply import SUCCESS, Answer

BLOCKS_MIN = 1_000_000
"""A share of fewer blocks says nothing; a busy link sends as many in milliseconds."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """What a link has sent since its counters were cleared."""

    sent: int
    again: int


def read_retries(
    uid: str, answer: Answer, earlier: Mapping[Component, Blocks]
) -> tuple[list[Reading | Gap], dict[Component, Blocks]]:
    """Return the shares since the last look, and what the next one starts from.

    An idle link has none, and keeps its start until it has sent enough.
    """
    answers: list[Reading | Gap] = []
    starts: dict[Component, Blocks] = {}
    for link, code, blocks in _rows(uid, answer):
        if code != SUCCESS or blocks is None:
            reason = gap_reason(code) if code != SUCCESS else GapReason.MALFORMED
            detail = words(code) if code != SUCCESS else "counters of blocks that cannot be true"
            if reason is not GapReason.UNSUPPORTED:
                answers.append(Gap(link, Metric.LINK_RETRIES, reason, detail))
            continue
        start = starts[link] = earlier.get(link, blocks)
        sent, again = blocks.sent - start.sent, blocks.again - start.again
        if sent < 0 or again < 0:  # cleared by a reset
            starts[link] = blocks
        elif sent >= BLOCKS_MIN:
            answers.append(Reading(link, Metric.LINK_RETRIES, min(1.0, again / sent)))
            starts[link] = blocks
    return answers, starts


def _rows(uid: str, answer: Answer) -> Iterator[tuple[Component, int, Blocks | None]]:
    """Yield each link with the code of its answer and its counters, None where they are none."""
    code, rows = answer
    if code != SUCCESS or not isinstance(rows, list):
        return
    for row in rows:
        if not isinstance(row, list) or len(row) != 4 or not is_row(row[:2], 2):
            continue
        link = Component(ComponentKind.LINK, f"{uid}/{row[0]}")
        yield link, row[1], Blocks(*row[2:]) if is_row(row[2:], 2) else None
