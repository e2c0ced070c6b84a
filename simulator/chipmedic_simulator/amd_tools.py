"""A fake `amd-smi` (7.x) and a fake `rocm-smi` (6.x), with the layouts and the lies of the real
ones. Both read the state anew at each call (`tool_state`); they need Python and nothing else.
"""  # noqa: D205

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chipmedic_simulator.tool_state import ToolChip, ToolHost, install, load_named

TOOLS = {
    "amd-smi": "chipmedic_simulator.amd_tools:amd_smi",
    "rocm-smi": "chipmedic_simulator.amd_tools:rocm_smi",
}
AMD_SMI_VERSION = "26.2.1+e3a1b07f"
_NO_MODULE = "ERROR:root:Driver not initialized (amdgpu not found in modules)"

Sleep = Callable[[float], None]
Numbered = list[tuple[int, ToolChip]]


def install_tools(bin_dir: Path, *names: str) -> None:
    """Write the tools of these names (all, where none is given) into a folder for PATH."""
    install(bin_dir, {name: TOOLS[name] for name in names or TOOLS})


# -- amd-smi


def amd_smi(
    argv: Sequence[str] | None = None,
    *,
    host: ToolHost | None = None,
    sleep: Sleep = time.sleep,
) -> int:
    """Run amd-smi; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    host = load_named() if host is None else host
    if unknown := [word for word in words if word in host.unknown_words]:
        sys.stderr.write(f"amd-smi: error: unrecognized arguments: {' '.join(unknown)}\n")
        return 2
    if host.driver != "up":
        sys.stderr.write(
            "ERROR:root:Unable to get devices, driver not initialized "
            "(amdgpu not found in modules)\n"
            "ERROR:root:Unable to detect any GPU devices, check amdgpu version and module status "
            "(sudo modprobe amdgpu)\n"
        )
        version = {"tool": "AMDSMI Tool", "version": AMD_SMI_VERSION, "rocm_version": "N/A"}
        sys.stdout.write(json.dumps([version]) + "\n")
        return 255
    if host.prints_nothing:
        return 0
    chips = _chosen(host, words, "-g")
    sleep(max((chip.hang_seconds for _, chip in chips), default=0.0))
    if not chips:
        sys.stdout.write('{"error": "Can not find a device: GPU", "code": -3}\n')
        return 0
    text = _links(chips) if words[:1] == ["xgmi"] else _document(words, chips, host)
    sys.stdout.write(text[: host.cut_after])
    return 0


def _chosen(host: ToolHost, words: list[str], option: str) -> Numbered:
    if option not in words:
        return host.shown()
    numbers = words[words.index(option) + 1 : words.index(option) + 2]
    return [(number, chip) for number, chip in host.shown() if str(number) in numbers]


def _document(words: list[str], chips: Numbered, host: ToolHost) -> str:
    command, options = (words[0] if words else ""), set(words[1:])
    ask = {
        "metric": lambda chip: _metric(chip, options),
        "list": lambda chip: {"bdf": chip.pci, "uuid": chip.uuid, "node_id": 2},
        "static": lambda chip: _static(chip, host),
        "process": lambda chip: {"process_list": _processes(chip)},
        "bad-pages": _bad_pages,
    }[command]
    gpus = [{"gpu": number, **ask(chip)} for number, chip in chips]
    is_wrapped = command in ("metric", "static")
    return json.dumps({"gpu_data": gpus} if is_wrapped else gpus, indent=4) + "\n"


def _value(number: float, unit: str, chip: ToolChip) -> Any:
    is_dark = chip.is_dead or chip.partition > 0
    return "N/A" if is_dark else {"value": number, "unit": unit}


def _metric(chip: ToolChip, options: set[str]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    if "-u" in options:
        groups["usage"] = {
            "gfx_activity": _value(chip.use_percent, "%", chip),
            "umc_activity": _value(71, "%", chip),
            "vcn_activity": ["N/A", "N/A"],
        }
    if "-p" in options:
        groups["power"] = {
            "socket_power": _value(chip.power_watts, "W", chip),
            "gfx_voltage": "N/A",
            "throttle_status": "N/A",
        }
    if "-t" in options:
        groups["temperature"] = {
            "edge": "N/A",
            "hotspot": _value(chip.temperature_celsius, "C", chip),
            "mem": _value(chip.memory_temperature_celsius, "C", chip),
        }
    if "-m" in options:
        groups["mem_usage"] = {
            "total_vram": {"value": chip.total_mib, "unit": "MB"},
            "used_vram": {"value": 0 if chip.is_dead else chip.used_mib, "unit": "MB"},
            "total_gtt": {"value": 773311, "unit": "MB"},
            "used_gtt": {"value": 17, "unit": "MB"},
        }
    if "--ecc" in options:
        groups["ecc"] = {
            "total_correctable_count": "N/A" if chip.is_dead else chip.corrected,
            "total_uncorrectable_count": "N/A" if chip.is_dead else chip.uncorrected,
            "total_deferred_count": chip.deferred,
            "cache_correctable_count": 0,
        }
    if "--throttle" in options:
        groups["throttle"] = {
            "socket_thermal_accumulated": 7719,
            "prochot_violation_status": "NOT ACTIVE",
            "ppt_violation_status": "ACTIVE",
            "socket_thermal_violation_status": "ACTIVE" if chip.is_hot else "NOT ACTIVE",
            "hbm_thermal_violation_status": "N/A",
        }
    return groups


def _static(chip: ToolChip, host: ToolHost) -> dict[str, Any]:
    return {
        "asic": {"market_name": chip.name, "asic_serial": f"0x{chip.uuid.upper()}"},
        "limit": {
            "max_power": {"value": chip.power_cap_watts + 50, "unit": "W"},
            "socket_power": {"value": chip.power_cap_watts, "unit": "W"},
        },
        "driver": {"name": "amdgpu", "version": host.driver_version},
        "board": {"product_serial": chip.serial, "product_name": chip.name},
        "ras": {"bad_page_threshold": 128, "bad_page_threshold_exceeded": "False"},
    }


def _processes(chip: ToolChip) -> list[dict[str, Any]]:
    if not chip.pids:
        return [{"process_info": "No running processes detected"}]
    return [
        {
            "process_info": {
                "name": "train",
                "pid": pid,
                "memory_usage": {"vram_mem": {"value": 3 * 1048576, "unit": "B"}},
                "mem_usage": {"value": 4 * 1048576, "unit": "B"},
            }
        }
        for pid in chip.pids
    ]


def _bad_pages(chip: ToolChip) -> dict[str, Any]:
    def pages(count: int, status: str) -> Any:
        if not count:
            return "No bad pages found."
        return [
            {"page_address": f"0x{0x40 + number:x}", "page_size": 4096, "status": status}
            for number in range(count)
        ]

    return {
        "retired": pages(chip.retired_pages, "reserved"),
        "pending": pages(chip.pending_pages, "pending"),
        "un_res": "No bad pages found.",
    }


def _links(chips: Numbered) -> str:
    rows = [f"GPU{number}   {chip.pci}  {'  '.join(chip.links)}" for number, chip in chips]
    head = ["", "XGMI LINK STATUS:", "    bdf           link_status"]
    return "\n".join([*head, *rows, "", "* U:Up D:Down X:Disabled", ""])


# -- rocm-smi


def rocm_smi(
    argv: Sequence[str] | None = None,
    *,
    host: ToolHost | None = None,
    sleep: Sleep = time.sleep,
) -> int:
    """Run rocm-smi; it ends with 0 whatever happened, but for an option that it does not know."""
    words = list(sys.argv[1:] if argv is None else argv)
    host = load_named() if host is None else host
    if unknown := [word for word in words if word in host.unknown_words]:
        sys.stderr.write(
            f"usage: rocm-smi [-h]\nrocm-smi: error: unrecognized arguments: {unknown[0]}\n"
        )
        return 2
    if host.driver != "up":
        sys.stderr.write("cat: /sys/module/amdgpu/initstate: No such file or directory\n")
        sys.stderr.write(_NO_MODULE + "\n")
        return 0
    if host.prints_nothing:
        return 0
    chips = _chosen(host, words, "-d")
    sleep(max((chip.hang_seconds for _, chip in chips), default=0.0))
    if not chips:
        sys.stdout.write("WARNING: No AMD GPUs specified\n")
        return 0
    if "--json" in words:
        cards = {f"card{number}": _card(chip, set(words)) for number, chip in chips}
        text = (
            "WARNING: AMD GPU device(s) is/are in a low-power state. \n" + json.dumps(cards) + "\n"
        )
    else:
        text = _report(words, chips)
    sys.stdout.write(text[: host.cut_after])
    return 0


def _card(chip: ToolChip, options: set[str]) -> dict[str, str]:
    is_dark = chip.is_dead or chip.partition > 0
    pairs = {}
    if "--showtemp" in options:
        hot, warm = chip.temperature_celsius, chip.memory_temperature_celsius
        pairs["Temperature (Sensor junction) (C)"] = "N/A" if is_dark else f"{hot}"
        pairs["Temperature (Sensor memory) (C)"] = "N/A" if is_dark else f"{warm}"
    if "--showpower" in options:
        key = "Current Socket Graphics Package Power (W)"
        pairs[key] = "N/A" if is_dark else f"{chip.power_watts}"
    if "--showmaxpower" in options:
        pairs["Max Graphics Package Power (W)"] = f"{chip.power_cap_watts}"
    if "--showuse" in options:
        pairs["GPU use (%)"] = f"{chip.use_percent:.0f}"
        pairs["GFX Activity"] = "8812345"
    if "--showmeminfo" in options:
        pairs["VRAM Total Memory (B)"] = f"{chip.total_mib * 1048576}"
        pairs["VRAM Total Used Memory (B)"] = f"{chip.used_mib * 1048576}"
    if "--showbus" in options:
        pairs["PCI Bus"] = chip.pci.upper()
    if "--showuniqueid" in options:
        pairs["Unique ID"] = f"0x{chip.uuid}"
    if "--showserial" in options:
        pairs["Serial Number"] = chip.serial
    if "--showproductname" in options:
        pairs["Card Series"] = chip.name
        pairs["Card Vendor"] = "Advanced Micro Devices Inc. [AMD/ATI]"
    return pairs


def _report(words: list[str], chips: Numbered) -> str:
    lines = ["", " ROCm System Management Interface ".center(84, "=")]
    if "--showrasinfo" in words:
        for number, chip in chips:
            lines += ["", f"GPU[{number}]: \tRAS INFO", *_ras(chip)]
    elif "--showpidgpus" in words:
        lines += [" GPUs Indexed by PID ".center(84, "=")]
        for pid in sorted({pid for _, chip in chips for pid in chip.pids}):
            cards = [str(number) for number, chip in chips if pid in chip.pids]
            lines += [f"PID {pid} is using {len(cards)} DRM device(s):", " ".join(cards)]
    elif "--showretiredpages" in words:
        for number, chip in chips:
            if chip.retired_pages:
                lines += [f"GPU[{number}]: \tRETIRED PAGES INFO"]
                lines += ["    Page address   Page size    Status"]
                lines += [
                    f"    0x{at + 64:x}  0x1000  reserved" for at in range(chip.retired_pages)
                ]
    return "\n".join([*lines, " End of ROCm SMI Log ".center(84, "="), ""])


def _ras(chip: ToolChip) -> list[str]:
    return [
        "         Block       Status    Correctable Error  Uncorrectable Error  ",
        f"           UMC        ENABLED  {chip.corrected:17}  {chip.uncorrected:19}  ",
        "          SDMA       DISABLED            3145680              2097120  ",
        "         ATHUB        ENABLED  ",
        "_" * 84,
    ]
