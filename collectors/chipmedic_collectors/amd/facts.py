"""What a GPU's tree says of it: which path of amd-smi means which field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from chipmedic.tool_report import ChipReport, Health, LinkReport, ProcessReport, ToolReport
from chipmedic_collectors.amd.documents import Tree, is_leaf, text_of, walk
from chipmedic_collectors.reading.cells import counter
from chipmedic_collectors.reading.judging import worsen
from chipmedic_collectors.rocm_smi.keys import model, positive, share
from chipmedic_collectors.values import identity, memory_bytes, normalise_pci, process_id

Texts = Mapping[tuple[str, ...], str]

_REDACTED = re.compile(r"<redacted>|[xX-]+|0x[xX]+", re.IGNORECASE)


def _name(text: str) -> str | None:
    return None if _REDACTED.fullmatch(text.strip()) else identity(text)


_FIELDS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("pci", normalise_pci, ("bdf", "bus/bdf")),
    ("uuid", _name, ("uuid",)),
    ("serial", _name, ("board/product_serial", "product_serial", "asic_serial")),
    ("name", model, ("market_name", "product_name")),
    (
        "temperature_celsius",
        positive,
        (
            "temperature/hotspot",
            "temperature/edge",
            "hotspot",
            "edge",
            "hotspot_temperature",
            "edge_temperature",
        ),
    ),
    (
        "memory_temperature_celsius",
        positive,
        ("temperature/mem", "temperature/vram", "memory_temperature", "vram_temperature"),
    ),
    (
        "power_watts",
        positive,
        (
            "power/socket_power",
            "power/current_socket_power",
            "power/average_socket_power",
            "socket_power",
            "current_socket_power",
            "average_socket_power",
            "power_usage",
        ),
    ),
    (
        "power_limit_watts",
        positive,
        ("limit/socket_power", "limit/power", "socket_power_limit", "current_power_limit"),
    ),
    ("utilization_ratio", share, ("usage/gfx_activity", "gfx_activity", "gfx_util", "gfx")),
    ("memory_used_bytes", memory_bytes, ("used_vram", "vram_used", "fb_used")),
    (
        "memory_total_bytes",
        memory_bytes,
        ("total_vram", "vram_total", "vram/size", "vram_size", "fb_total"),
    ),
    ("ecc_corrected_total", counter, ("total_correctable_count",)),
    ("ecc_uncorrected_total", counter, ("total_uncorrectable_count",)),
)
"""Field, reader, and the ends of paths by preference. In CSV a path is one name."""
_BLOCK_COUNTS = (
    ("ecc_corrected_total", "correctable_count"),
    ("ecc_uncorrected_total", "uncorrectable_count"),
)
_PAGES = ("retired", "pending", "un_res")
_NO_PAGES = re.compile(r"no bad pages", re.IGNORECASE)
_NO_PROCESS = re.compile(r"no running process", re.IGNORECASE)
_XGMI_ERRORS = frozenset({"AMDSMI_XGMI_STATUS_ERROR", "AMDSMI_XGMI_STATUS_MULTIPLE_ERRORS"})
_STATES = {"u": True, "up": True, "d": False, "down": False}


def fill_chip(chip: ChipReport, tree: Tree) -> None:
    """Fill a chip from its tree; what is there already stays."""
    texts = _in_groups(_of_chip(_texts(tree)))
    for attribute, read, ends in _FIELDS:
        values = (read(text) for end in ends for text in _at(texts, end))
        if getattr(chip, attribute) is None:
            setattr(chip, attribute, next((v for v in values if v is not None), None))
    _fill_blocks(chip, tree)
    _fill_pages(chip, tree)
    _fill_health(chip, texts)
    _fill_links(chip, tree)
    _fill_processes(chip, tree)


def fill_report(report: ToolReport, tree: Tree) -> None:
    """Take the versions of the driver and of the tool from a tree."""
    texts = _texts(tree)
    for end in ("driver/version", "driver_version", "amdgpu_version"):
        for text in _at(texts, end):
            report.driver_version = report.driver_version or identity(text)
    if "tool" in tree and "version" in tree:
        report.tool_version = identity(text_of(tree["version"]))


def _texts(tree: Tree) -> Texts:
    return {path: text_of(value) for path, value in walk(tree) if path and is_leaf(value)}


def _of_chip(texts: Texts) -> Texts:
    """Leave out what is said of a process: its `gfx` is the time that it had, not the chip's."""
    names = {"gfx"} if ("pid",) in texts else set()
    return {
        path: text
        for path, text in texts.items()
        if not path[0].startswith("process") and path[0] not in names
    }


def _at(texts: Texts, end: str) -> list[str]:
    """Return the texts at every path that ends so, the shortest path first."""
    parts = tuple(end.split("/"))
    found = [path for path in texts if path[-len(parts) :] == parts]
    if len(parts) == 1 and "socket_power" in end:
        found = [path for path in found if "limit" not in path]
    return [texts[path] for path in sorted(found, key=len)]


def _in_groups(texts: Texts) -> Texts:
    """Give the flat names of CSV back the group that they are ambiguous without."""
    flat = {path[0] for path in texts if len(path) == 1}
    groups = {}
    if "max_power" in flat:
        groups["socket_power"] = "limit"
    if flat & {"hotspot", "edge"}:
        groups["mem"] = "temperature"
    if "bit_width" in flat:
        groups["size"] = "vram"
    return {
        ((groups[path[0]], path[0]) if len(path) == 1 and path[0] in groups else path): text
        for path, text in texts.items()
    }


def _fill_blocks(chip: ChipReport, tree: Tree) -> None:
    """Sum the blocks where no total is printed; deferred errors are neither of the two."""
    blocks = tree.get("ecc_blocks")
    if not isinstance(blocks, dict):
        return
    for attribute, key in _BLOCK_COUNTS:
        counts = [
            count
            for path, value in walk(blocks)
            if path and path[-1] == key and (count := counter(text_of(value))) is not None
        ]
        if counts and getattr(chip, attribute) is None:
            setattr(chip, attribute, sum(counts))


def _fill_pages(chip: ChipReport, tree: Tree) -> None:
    retired, pending, _ = (_pages(tree.get(key)) for key in _PAGES)
    if retired is not None:
        chip.retired_pages = retired
    if pending is not None:
        chip.remap_pending = pending > 0


def _pages(value: object) -> int | None:
    """Return how many pages: a text that says none, one page, or a list of them."""
    if isinstance(value, str):
        return 0 if _NO_PAGES.search(value) else None
    if isinstance(value, list):
        return sum(_pages(one) or 0 for one in value)
    if isinstance(value, dict):
        addresses = value.get("page_address")
        if isinstance(addresses, list):
            return len(addresses)
        return 1 if addresses is not None else None
    return None


def _fill_health(chip: ChipReport, texts: Texts) -> None:
    """The tool states few things: a spent page threshold is AMD's criterion for return."""
    for text in _at(texts, "bad_page_threshold_exceeded"):
        if text.strip().lower() == "true":
            worsen(chip, Health.CRITICAL)
            chip.remap_failed = True
        elif text.strip().lower() == "false":
            chip.remap_failed = False
    if any(text.strip() in _XGMI_ERRORS for text in _at(texts, "xgmi_err")):
        worsen(chip, Health.WARNING)


def _fill_links(chip: ChipReport, tree: Tree) -> None:
    states = tree.get("link_status", tree.get("port_status"))
    if isinstance(states, str):
        states = states.replace(",", " ").split()
    if not isinstance(states, list):
        return
    links = [
        LinkReport(position, _STATES[str(state).strip().lower()])
        for position, state in enumerate(states)
        if str(state).strip().lower() in _STATES
    ]
    chip.links = links or chip.links


def _fill_processes(chip: ChipReport, tree: Tree) -> None:
    processes = list(_processes(tree))
    texts = [text_of(value) for path, value in walk(tree) if is_leaf(value) and path]
    if processes or any(_NO_PROCESS.search(text) for text in texts):
        chip.processes = [*(chip.processes or []), *processes]


def _processes(tree: Tree) -> Iterator[ProcessReport]:
    for _, value in walk(tree):
        if not isinstance(value, dict) or "pid" not in {str(key).lower() for key in value}:
            continue
        branch = {str(key).lower(): one for key, one in value.items()}
        pid = process_id(text_of(branch["pid"])) if is_leaf(branch["pid"]) else None
        if pid is None or pid <= 0:
            continue
        usage = branch.get("memory_usage")
        vram = usage.get("vram_mem") if isinstance(usage, dict) else branch.get("vram_mem")
        memory = vram if vram is not None else branch.get("mem_usage")
        name = branch.get("name")
        yield ProcessReport(
            pid,
            identity(name) if isinstance(name, str) else None,
            memory_bytes(text_of(memory), "B") if memory is not None else None,
        )
