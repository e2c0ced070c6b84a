"""What is asked of a chip's links, to other chips (NVLink) and to its CPU (C2C); in the child.

Sources: nvml.h 13.3 and the field ids of nvidia-ml-py 13.615.
"""

from __future__ import annotations

import pynvml

from chipmedic_collectors.nvidia.session import (
    ABSENT,
    INVALID_ARGUMENT,
    NOT_SUPPORTED,
    SUCCESS,
    Answer,
    OpenChip,
)

LINK_COUNT_FIELD, LINK_STATE_FIELD = 91, 165
C2C_COUNT_FIELD, C2C_STATE_FIELD, C2C_REPLAYS_FIELD = 170, 171, 232
"""Of 231 to 233: a CRC error (231) causes a replay, one after the other (233) are replays too."""
C2C_LINKS_MAX = 64
LINK_ERROR_FIELDS = ((161, 162), (208, 215))
"""Errors that cost a retry or a recovery. Hopper: replays, recoveries (a CRC error causes a
replay, so 163 would count it twice). Blackwell, which lacks those: receive errors, recovery
events."""
LINK_BLOCK_FIELDS = (294, 295)
"""Blocks sent by a link of Blackwell, and those sent again (physical layer retransmission)."""
LINK_ERROR_COUNTERS = (0, 1)
"""The same before Hopper, for nvmlDeviceGetNvLinkErrorCounter: replays, recoveries."""


def ask_c2c(chip: OpenChip) -> Answer:
    """Return the links between the chip and its CPU in rows like those of `ask_links`."""
    code, count = chip.fields([(C2C_COUNT_FIELD, 0)])[C2C_COUNT_FIELD, 0]
    if code != SUCCESS:
        return (code, None)
    links = range(min(count, C2C_LINKS_MAX))
    wanted = [(field, link) for link in links for field in (C2C_STATE_FIELD, C2C_REPLAYS_FIELD)]
    answers = chip.fields(wanted)
    rows = []
    for link in links:
        code, replays = answers[C2C_REPLAYS_FIELD, link]
        if code == INVALID_ARGUMENT:  # what drivers answer that count none
            code = NOT_SUPPORTED
        rows.append([link, *answers[C2C_STATE_FIELD, link], code, replays])
    return (SUCCESS, rows)


def ask_links(chip: OpenChip) -> Answer:
    """Rows of: link, code and value of its state, code and value of its errors."""
    code, count = chip.fields([(LINK_COUNT_FIELD, 0)])[LINK_COUNT_FIELD, 0]
    if code in ABSENT:
        count = pynvml.NVML_NVLINK_MAX_LINKS
    elif code != SUCCESS:
        return (code, None)
    states = _link_states(chip, count)
    if not states:
        return (NOT_SUPPORTED, None)
    errors = _link_errors(chip, [link for link, (_, is_up) in states.items() if is_up])
    nothing = (NOT_SUPPORTED, None)
    return (SUCCESS, [[link, *states[link], *errors.get(link, nothing)] for link in states])


def ask_link_blocks(chip: OpenChip, links: Answer) -> Answer:
    """Rows of: link, code, blocks sent and blocks sent again, of the links that are up.

    Only chips that count their link errors as Blackwell does have these counters.
    """
    if links[0] != SUCCESS or chip.link_errors != LINK_ERROR_FIELDS[-1]:
        return (NOT_SUPPORTED, None)
    up = [link for link, _, is_up, *_ in links[1] if is_up]
    fields = chip.fields([(field, link) for link in up for field in LINK_BLOCK_FIELDS])
    rows = []
    for link in up:
        counts = [fields[field, link] for field in LINK_BLOCK_FIELDS]
        trouble = next((code for code, _ in counts if code != SUCCESS), SUCCESS)
        rows.append([link, trouble, *(value for _, value in counts)])
    return (SUCCESS, rows)


def _link_states(chip: OpenChip, count: int) -> dict[int, Answer]:
    """Return the state of each link up to the first that is not supported: there the list ends."""
    fields = chip.fields([(LINK_STATE_FIELD, link) for link in range(count)])
    states: dict[int, Answer] = {}
    for link in range(count):
        answer = fields[LINK_STATE_FIELD, link]
        if answer[0] in ABSENT:
            answer = chip.ask("nvmlDeviceGetNvLinkState", link)
        if answer[0] in ABSENT:
            break
        states[link] = answer
    return states


def _link_errors(chip: OpenChip, links: list[int]) -> dict[int, Answer]:
    """Return the errors of the links that are up, by the counters of the chip's generation."""
    if not links:
        return {}
    if chip.link_errors is None:
        chip.link_errors = _link_error_fields(chip, links[0])
    if chip.link_errors:
        ids = chip.link_errors
        fields = chip.fields([(field, link) for link in links for field in ids])
        return {link: _sum([fields[field, link] for field in ids]) for link in links}
    return {
        link: _sum(
            [
                chip.ask("nvmlDeviceGetNvLinkErrorCounter", link, counter)
                for counter in LINK_ERROR_COUNTERS
            ]
        )
        for link in links
    }


def _link_error_fields(chip: OpenChip, link: int) -> tuple[int, ...] | None:
    """Find out which counters this chip has, on a link that is up."""
    for ids in LINK_ERROR_FIELDS:
        codes = [code for code, _ in chip.fields([(field, link) for field in ids]).values()]
        if all(code == SUCCESS for code in codes):
            return ids
        if any(code not in ABSENT for code in codes):
            return None
    return ()


def _sum(answers: list[Answer]) -> Answer:
    trouble = next((code for code, _ in answers if code != SUCCESS), None)
    return (SUCCESS, sum(value for _, value in answers)) if trouble is None else (trouble, None)
