"""A fake `xpu-smi` of Intel (line 1.3, Data Center GPU Max): layouts and lies of the real one.

It reads the state anew at each call (`tool_state`) and needs Python and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chipmedic_simulator.tool_state import ToolChip, ToolHost, install, load_named, value_of

_EXIT_BAD_ARGUMENT = 2
_EXIT_NO_SUCH_DEVICE = 4
_EXIT_NO_LEVEL_ZERO = 39
_METRICS: dict[str, tuple[str, Callable[[ToolChip], object]]] = {
    "0": ("GPU Utilization (%)", lambda chip: f"{chip.use_percent:.2f}"),
    "1": ("GPU Power (W)", lambda chip: f"{chip.power_watts:.2f}"),
    "3": ("GPU Core Temperature (Celsius Degree)", lambda chip: chip.temperature_celsius),
    "4": ("GPU Memory Temperature (Celsius Degree)", lambda chip: chip.temperature_celsius - 5),
    "18": ("GPU Memory Used (MiB)", lambda chip: f"{chip.used_mib:.2f}"),
    "29": ("GPU Memory Errors Correctable", lambda chip: chip.corrected),
    "30": ("GPU Memory Errors Uncorrectable", lambda chip: chip.uncorrected),
}
_NAME = "Intel(R) Data Center GPU Max 1550"
_COMPONENTS = ("core_temperature", "memory_temperature", "power", "memory", "frequency")

Numbered = list[tuple[int, ToolChip]]


def install_tools(bin_dir: Path, *names: str) -> None:
    """Write the tool under these names (`xpu-smi` where none is given) into a folder for PATH."""
    target = "chipmedic_simulator.intel_tools:xpu_smi"
    install(bin_dir, dict.fromkeys(names or ("xpu-smi",), target))


def xpu_smi(
    argv: Sequence[str] | None = None,
    *,
    host: ToolHost | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run xpu-smi; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    host = load_named() if host is None else host
    if host.prints_nothing:
        return 0
    if host.driver == "down":
        return _fail(words, "Level Zero Initialization Error", _EXIT_NO_LEVEL_ZERO)
    if any(word in host.unknown_words for word in words):
        sys.stdout.write("The following argument was not expected: " + " ".join(words) + "\n")
        return _EXIT_BAD_ARGUMENT
    chips = host.shown(value_of(words, "-d")) if host.driver == "up" else []
    if not chips:
        if value_of(words, "-d") not in (None, "-1"):
            return _fail(words, "device not found", _EXIT_NO_SUCH_DEVICE)
        sys.stdout.write("No device discovered\n")
        return 0
    sleep(host.waiting_seconds(chips))
    sys.stdout.write(_answer(words, chips)[: host.cut_after])
    return 0


def _fail(words: list[str], message: str, status: int) -> int:
    body = json.dumps({"error": message, "errno": status}) if "-j" in words else f"Error: {message}"
    sys.stdout.write(f"{body}\n")
    return status


def _answer(words: list[str], chips: Numbered) -> str:
    if words[0] == "dump":
        return _dump((value_of(words, "-m") or "").split(","), chips)
    if words[0] == "discovery" and "--dump" in words:
        return _properties(chips)
    answers: dict[str, Callable[[Numbered], object]] = {
        "discovery": _discovery,
        "health": _health,
        "ps": _processes,
    }
    if "--list-offline-pages" in words:
        return json.dumps(_pages(chips), indent=4) + "\n"
    answer = answers.get(words[0])
    if answer is None:
        return f"The following argument was not expected: {words[0]}\n"
    return json.dumps(answer(chips), indent=4) + "\n"


def _dump(metrics: list[str], chips: Numbered) -> str:
    known = [_METRICS[number] for number in metrics if number in _METRICS]
    lines = [", ".join(["Timestamp", "DeviceId", *(name for name, _ in known)])]
    for number, chip in chips:
        cells = ["N/A" if chip.is_dead else str(read(chip)) for _, read in known]
        lines.append(", ".join(["06:14:46.000", f"{number:4}", *cells]))
    return "\n".join([*lines, ""])


def _properties(chips: Numbered) -> str:
    names = "Device ID,Device Name,UUID,Serial Number,PCI BDF Address,Memory Physical Size"
    rows = [
        f'{number},"{_NAME}","{chip.uuid}","{chip.serial}","{chip.pci}","{chip.total_mib}.00 MiB"'
        for number, chip in chips
    ]
    return "\n".join([names, *rows, ""])


def _discovery(chips: Numbered) -> object:
    return {
        "device_list": [
            {
                "device_function_type": "physical",
                "device_id": number,
                "device_name": _NAME,
                "device_type": "GPU",
                "pci_bdf_address": chip.pci,
                "uuid": chip.uuid,
                "vendor_name": "Intel(R) Corporation",
            }
            for number, chip in chips
        ]
    }


def _health(chips: Numbered) -> object:
    return {
        "device_list": [
            {
                "device_id": number,
                **{part: {"status": "OK", "description": "healthy"} for part in _COMPONENTS},
                "memory": {"status": chip.health, "description": "as its channels say"},
            }
            for number, chip in chips
        ]
    }


def _pages(chips: Numbered) -> object:
    """As 2.x answers; `unknown_words` makes the tool one of 1.x, which does not know the option."""
    return [
        {
            "device_index": number,
            "pci_bdf": chip.pci,
            "offline_page_count": chip.retired_pages,
            "offline_pages": [
                {"address": f"0x{0x1000 * page:016X}", "size": 4096}
                for page in range(chip.retired_pages)
            ],
        }
        for number, chip in chips
    ]


def _processes(chips: Numbered) -> object:
    return {
        "device_util_by_proc_list": [
            {
                "device_id": number,
                "mem_size": 524288,
                "process_id": pid,
                "process_name": "python",
                "shared_mem_size": 0,
            }
            for number, chip in chips
            for pid in chip.pids
        ]
    }
