"""`chipmedic parse`: what one recorded run of a vendor's tool stated."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from chipmedic.errors import ChipmedicError
from chipmedic.tool_readers import load_readers, read_tool_run
from chipmedic.tool_report import ToolReader, ToolRun, to_json
from chipmedic_cli.status import table
from chipmedic_cli.words import plain

SHOWN = {
    "index": "CHIP",
    "die": "DIE",
    "name": "NAME",
    "pci": "PCI",
    "health": "HEALTH",
    "temperature_celsius": "°C",
    "power_watts": "W",
    "utilization_ratio": "BUSY",
    "ecc_uncorrected_total": "ECC",
    "retired_pages": "RETIRED",
    "error_codes": "CODES",
    "lost": "LOST",
}
"""What a person sees of a chip; `--json` has everything."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def parse_command(
    stdout_file: Path,
    tool_argv: str,
    exit_code: int | None,
    stderr: Path | None,
    *,
    readers: Iterable[ToolReader] | None = None,
) -> dict[str, Any]:
    """Return the JSON object of the `parse` contract.

    `tool_argv` is the tool's command line, quoted as for a shell. `exit_code` is None when it was
    not recorded. `readers` are the installed ones unless given.

    Raises:
        ChipmedicError: a file cannot be read, or the command line cannot be split.
    """
    run = ToolRun(
        argv=_split(tool_argv),
        stdout=_read(stdout_file),
        stderr=_read(stderr) if stderr is not None else "",
        exit_code=exit_code,
    )
    return to_json(read_tool_run(run, load_readers() if readers is None else readers))


def show(answer: dict[str, Any]) -> None:
    """Print the answer for a person: what was wrong, then one row per chip."""
    console = Console(highlight=False)
    version = answer["driver_version"] or answer["tool_version"]
    console.print(plain(f"{answer['vendor']}{f', version {version}' if version else ''}"))
    for problem in answer["problems"]:
        console.print(f"[yellow]{problem['kind']}[/]", end=" ")
        console.print(plain(problem["message"]))
    shown = [key for key in SHOWN if any(key in chip for chip in answer["chips"])]
    made = table(*(SHOWN[key] for key in shown))
    for chip in answer["chips"]:
        made.add_row(*(plain(chip.get(key, "-")) for key in shown))
    if answer["chips"]:
        console.print(made)


def _split(tool_argv: str) -> list[str]:
    try:
        argv = shlex.split(tool_argv)
    except ValueError as error:
        raise ChipmedicError(
            f"--tool-argv {tool_argv!r}: {error}; quote it as for a shell"
        ) from error
    if not argv:
        raise ChipmedicError('--tool-argv is empty: give the tool\'s command line, "nvidia-smi -q"')
    return argv


def _read(path: Path) -> str:
    """Read a capture; bytes that are no text in its encoding are replaced, never refused."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ChipmedicError(f"{path}: cannot be read: {error.strerror or error}") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    return content.decode(encoding, errors="replace")
