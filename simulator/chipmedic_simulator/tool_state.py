"""What a simulated host is like now that vendor tools show: one JSON file, always whole."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

STATE_VARIABLE = "CHIPMEDIC_TOOL_STATE"


@dataclass
class ToolChip:
    """One chip."""

    pci: str
    uuid: str
    serial: str
    name: str = ""
    """Empty: the tool has its own."""
    temperature_celsius: float = 41
    memory_temperature_celsius: float = 39.0
    power_watts: float = 90
    power_cap_watts: float = 1000.0
    use_percent: float = 0
    used_mib: int = 768
    total_mib: int = 98304
    corrected: int = 0
    uncorrected: int = 0
    deferred: int = 0
    retired_pages: int = 0
    pending_pages: int = 0
    health: str = "Ok"
    """Intel: `Ok`, `Warning`, `Critical`, `Unknown`."""
    down_ports: list[int] = field(default_factory=list)
    links: str = "UUUUUUUX"
    """AMD: one letter per XGMI link."""
    pids: list[int] = field(default_factory=list)
    is_hot: bool = False
    """The socket's thermal limit lowers the clock."""
    partition: int = 0
    """Above 0: a further partition of a device, which prints no sensors."""
    is_lost: bool = False
    """Off the bus: no row, and the numbers of the chips behind it move up."""
    is_dead: bool = False
    """Answers nothing: its row holds zeroes (Kunlunxin) or N/A, and 0 for use and memory (AMD)."""
    hang_seconds: float = 0.0
    """Every question that reaches this chip waits for so long."""


@dataclass
class ToolHost:
    """One host."""

    chips: list[ToolChip] = field(default_factory=list)
    driver_version: str = "6.14.14"
    driver: str = "up"
    """`up`, `down` (the tool cannot reach its driver) or `gone` (no device is found)."""
    prints_nothing: bool = False
    """Empty output and exit status 0."""
    cut_after: int | None = None
    """The answer stops after so many characters, as when the tool is killed."""
    unknown_words: list[str] = field(default_factory=list)
    """Options, fields and subcommands that this version does not know."""

    @classmethod
    def simulated(cls, count: int) -> ToolHost:
        """Return a healthy host with so many chips."""
        return cls(
            [
                ToolChip(
                    pci=f"0000:{0x15 + 0x21 * number:02x}:00.0",
                    uuid=f"5a5a0000-1111-4222-8333-{number:012d}",
                    serial=f"SIM55120{number:03d}",
                    temperature_celsius=41 + number,
                    power_watts=90 + number,
                )
                for number in range(count)
            ]
        )

    @classmethod
    def rocm(cls, count: int, *, prefix: str = "5c77a1e0") -> ToolHost:
        """Return a healthy host with so many chips of AMD or Hygon."""
        return cls(
            [
                ToolChip(
                    pci=f"0000:{0x05 + 0x1D * number:02x}:00.0",
                    uuid=f"{prefix}{number:02x}",
                    serial=f"SIM-7730-{number:03d}",
                    name="AMD Instinct MI325X",
                    temperature_celsius=44.0 + number,
                    power_watts=151.0 + number,
                    use_percent=0.0,
                    used_mib=291,
                    total_mib=262128,
                )
                for number in range(count)
            ]
        )

    def shown(self, chosen: str | None = None) -> list[tuple[int, ToolChip]]:
        """Return the chips that a tool sees, with their numbers; one where it is chosen."""
        chips = list(enumerate(chip for chip in self.chips if not chip.is_lost))
        if chosen in (None, "-1"):
            return chips
        return [(number, chip) for number, chip in chips if chosen in (str(number), chip.pci)]

    def waiting_seconds(self, chips: list[tuple[int, ToolChip]]) -> float:
        """Return how long a question waits that reaches these chips."""
        return max((chip.hang_seconds for _, chip in chips), default=0.0)


def save(host: ToolHost, path: Path) -> None:
    """Write the state in one step: a tool that reads meanwhile sees the old or the new one."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(dataclasses.asdict(host), indent=1), encoding="utf-8")
    new.replace(path)


def load(path: Path) -> ToolHost:
    """Read the state.

    Raises:
        OSError: there is no such file.
        ValueError: it is not what `save` writes.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    try:
        chips = [ToolChip(**chip) for chip in fields.pop("chips", [])]
        return ToolHost(chips, **fields)
    except (TypeError, AttributeError) as e:
        raise ValueError(f"{path}: no state of such a host: {e}") from e


def load_named() -> ToolHost:
    """Read the state that the environment names; an absent one is a host without a driver."""
    name = os.environ.get(STATE_VARIABLE)
    if not name or not Path(name).exists():
        return ToolHost(driver="down")
    return load(Path(name))


def value_of(words: list[str], *options: str) -> str | None:
    """Return what follows one of these options on a command line."""
    for option in options:
        if option in words[:-1]:
            return words[words.index(option) + 1]
    return None


def install(bin_dir: Path, tools: dict[str, str]) -> None:
    """Write tools (name: module and function, `a.b:main`) into a folder that is to be on PATH."""
    bin_dir.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).resolve().parents[1]
    for tool, target in tools.items():
        module, _, function = target.partition(":")
        code = (
            f"import sys; sys.path.insert(0, {str(root)!r}); "
            f"from {module} import {function}; sys.exit({function}())"
        )
        # Without the site packages: the tools start in the time that the real ones take.
        call = f"exec {shlex.quote(sys.executable)} -E -S -c {shlex.quote(code)}"
        path = bin_dir / tool
        path.write_text(f'#!/bin/sh\n{call} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
