"""The fake `npu-smi`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from chipmedic_simulator.ascend_tools import topics
from chipmedic_simulator.ascend_tools.layouts import listing, mapping, pairs, summary
from chipmedic_simulator.ascend_tools.state import AscendChip, AscendHost, load_named

_USAGE = "Usage: npu-smi info <watch|proc|-h|-m|-l|-t type> [Options...]"
_NO_DRIVER = {
    "down": (
        ["DrvMngGetConsoleLogLevel failed. (ret=4)", "dcmi module initialize failed. ret is -8005"],
        -8005,
    ),
    "occupied": (
        ["dcmi model initialized failed, because the device is used. ret is -8020"],
        -8020,
    ),
    "container": (["npu get board type failed. ret is -9005"], -9005),
}
_LOADER = (
    "npu-smi: error while loading shared libraries: libdrvdsmi_host.so: "
    "cannot open shared object file: No such file or directory"
)


Sleep = Callable[[float], None]


def main(
    argv: Sequence[str] | None = None,
    *,
    host: AscendHost | None = None,
    sleep: Sleep = time.sleep,
) -> int:
    """Run the tool; returns its exit status, the negative DCMI code modulo 256."""
    words = list(sys.argv[1:] if argv is None else argv)
    host = load_named() if host is None else host
    sleep(host.hang_seconds)
    if host.driver == "no-library":
        sys.stderr.write(_LOADER + "\n")
        return 127
    if host.prints_nothing:
        return 0
    lines, code = _NO_DRIVER.get(host.driver) or _answer(host, words, sleep)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return code % 256


def _answer(host: AscendHost, words: list[str], sleep: Sleep) -> tuple[list[str], int]:
    if words == ["-v"]:
        return [f"npu-smi version: {host.tool_version}"], 0
    if words[:1] != ["info"]:
        return [_USAGE], -8001
    options = dict(zip(words[1:], [*words[2:], ""], strict=False))
    if "-t" in options:
        return _topic(host, options, sleep)
    if not [chip for chip in host.chips if not chip.is_lost]:
        return ["There is no NPU card on this server."], 0
    if "-m" in options:
        return mapping(host), 0
    if "-l" in options:
        return listing(host), 0
    return _summary(host, sleep)


def _summary(host: AscendHost, sleep: Sleep) -> tuple[list[str], int]:
    sleep(sum(chip.hang_seconds for chip in host.chips if not chip.is_lost))
    if any(chip.kills_summary for chip in host.chips):
        return ["Failed to get device type.", "Failed to query card total info."], -8012
    lines = summary(host)
    return lines[: host.cut_after_lines], 0


def _topic(host: AscendHost, options: dict[str, str], sleep: Sleep) -> tuple[list[str], int]:
    ask: Callable[[AscendChip], list[tuple[str, object]]] | None = topics.TOPICS.get(options["-t"])
    if ask is None or (options["-t"] == "current-fault-event" and not host.has_fault_events):
        return ["Error parameter of -t", _USAGE], -8001
    card = [chip for chip in host.chips if str(chip.npu) == options.get("-i") and not chip.is_lost]
    chips = [chip for chip in card if options.get("-c") in (None, str(chip.die))]
    if not chips:
        return ["Invalid card id.", "Error parameter of -i", _USAGE], -8007
    sleep(max(chip.hang_seconds for chip in chips))
    if "-c" in options:
        return _one_chip(options["-t"], chips[0], ask(chips[0]))
    return _card(options["-t"], chips, ask)


def _one_chip(
    topic: str, chip: AscendChip, values: list[tuple[str, object]]
) -> tuple[list[str], int]:
    if chip.has_no_values or chip.kills_summary:
        return [f'Failed to query "{topic}" result.'], -8012
    return pairs(values, width=topics.width_of(topic)), 0


def _card(
    topic: str,
    chips: list[AscendChip],
    ask: Callable[[AscendChip], list[tuple[str, object]]],
) -> tuple[list[str], int]:
    """The card form prints a chip's number after its values, but for `-t common`."""
    if topic == "board":
        return pairs(topics.card_board(chips)), 0
    width = topics.width_of(topic)
    lines = pairs([("NPU ID", chips[0].npu), ("Chip Count", len(chips))], width=width)
    code = 0
    for chip in chips:
        if chip.has_no_values or chip.kills_summary:
            lines.append(f"Failed to query npu chip: {chip.die} info.")
            code = -8012
            continue
        number = pairs([("Chip ID", chip.die)], width=width)
        values = pairs(ask(chip), width=width)
        lines += ["", *number, *values] if topic == "common" else ["", *values, *number]
        code = 0  # the last chip decides
    return lines, code
