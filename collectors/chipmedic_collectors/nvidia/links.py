"""A chip's links, to other chips (NVLink) and to its CPU (C2C), as readings and gaps. Pure."""

from __future__ import annotations

from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, GapReason
from chipmedic_collectors.nvidia.chip_readings import ChipReadings, is_whole
from chipmedic_collectors.nvidia.codes import UNREADABLE, gap_reason
from chipmedic_collectors.nvidia.reply import SUCCESS, Answer

LINKS_MAX = 255


def read_nvlinks(chip: ChipReadings) -> None:
    """Read each NVLink. A link that is down is not asked for its errors; it may be so by design."""
    for number, up, errors in _rows(chip, "links"):
        link = Component(ComponentKind.LINK, f"{chip.uid}/{number}")
        chip.judge(Metric.LINK_UP, up, largest=1, component=link)
        if up[1]:
            chip.judge(Metric.LINK_ERRORS, errors, component=link)


def read_c2c(chip: ChipReadings) -> None:
    """Read each link between the chip and its CPU (Grace), `c2c0` and so on.

    That there are none, or that the driver does not know of them, is no gap: few chips have them.
    Nor is it one that a driver counts no replays.
    """
    if gap_reason(chip.answers["c2c"][0]) is GapReason.UNSUPPORTED:
        return
    for number, up, replays in _rows(chip, "c2c"):
        link = Component(ComponentKind.LINK, f"{chip.uid}/c2c{number}")
        chip.judge(Metric.LINK_UP, up, largest=1, component=link)
        if up[1] and gap_reason(replays[0]) is not GapReason.UNSUPPORTED:
            chip.judge(Metric.LINK_ERRORS, replays, component=link)


def _rows(chip: ChipReadings, name: str) -> list[tuple[int, Answer, Answer]]:
    """Return links by number with their state and their errors; what is no such row is a gap."""
    code, raw = chip.answers[name]
    if code != SUCCESS:
        chip.miss(Metric.LINK_UP, code)
        return []
    if not isinstance(raw, list):
        chip.doubt(Metric.LINK_UP, raw)
        return []
    rows = []
    for row in raw:
        if not isinstance(row, list) or len(row) != 5 or not is_whole(row[0], LINKS_MAX):
            chip.doubt(Metric.LINK_UP, row)
            continue
        number, up_code, is_up, errors_code, errors = row
        rows.append((number, (_code(up_code), is_up), (_code(errors_code), errors)))
    return rows


def _code(raw: object) -> int:
    return raw if isinstance(raw, int) and is_whole(raw) else UNREADABLE
