"""What a simulated host with AMD or Hygon chips is like now: one JSON file, always whole."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

STATE_VARIABLE = "CHIPMEDIC_ROCM_STATE"


@dataclass
class RocmChip:
    """One GPU, DCU or HCU."""

    pci: str
    uuid: str
    serial: str = "SIM-BOARD-7"
    name: str = "AMD Instinct MI325X"
    temperature_celsius: float = 44.0
    memory_temperature_celsius: float = 39.0
    power_watts: float = 151.0
    power_cap_watts: float = 1000.0
    use_percent: float = 0.0
    used_mib: int = 291
    total_mib: int = 262128
    corrected: int = 0
    uncorrected: int = 0
    deferred: int = 0
    retired_pages: int = 0
    pending_pages: int = 0
    links: str = "UUUUUUUX"
    pids: list[int] = field(default_factory=list)
    is_hot: bool = False
    """The socket's thermal limit lowers the clock."""
    partition: int = 0
    """Above 0: a further partition of a device, which prints no sensors."""
    is_lost: bool = False
    """Off the bus: no row, and the numbers of the chips behind it move up."""
    is_dead: bool = False
    """Answers nothing: its row shows N/A, and 0 for use and memory."""
    hang_seconds: float = 0.0
    """Every question that reaches this chip waits for so long."""


@dataclass
class RocmHost:
    """One host."""

    chips: list[RocmChip] = field(default_factory=list)
    driver_version: str = "6.14.14"
    driver: str = "up"
    """`up`, `down` (not in the modules), or `gone` (no device is found)."""
    prints_nothing: bool = False
    """Empty output and exit status 0."""
    cut_after: int | None = None
    """The answer stops after so many characters, as when the tool is killed."""
    unknown_options: list[str] = field(default_factory=list)
    """Options that this version does not know."""

    @classmethod
    def simulated(cls, count: int, *, prefix: str = "5c77a1e0") -> RocmHost:
        """Return a healthy host with so many chips."""
        return cls(
            [
                RocmChip(
                    pci=f"0000:{0x05 + 0x1D * number:02x}:00.0",
                    uuid=f"{prefix}{number:02x}",
                    serial=f"SIM-7730-{number:03d}",
                    temperature_celsius=44.0 + number,
                    power_watts=151.0 + number,
                )
                for number in range(count)
            ]
        )

    def shown(self) -> list[tuple[int, RocmChip]]:
        """Return the chips that the tools see, with the numbers that they give them now."""
        return list(enumerate(chip for chip in self.chips if not chip.is_lost))


def save(host: RocmHost, path: Path) -> None:
    """Write the state in one step: a tool that reads meanwhile sees the old or the new one."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(dataclasses.asdict(host), indent=1), encoding="utf-8")
    new.replace(path)


def load(path: Path) -> RocmHost:
    """Read the state.

    Raises:
        OSError: there is no such file.
        ValueError: it is not what `save` writes.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    try:
        chips = [RocmChip(**chip) for chip in fields.pop("chips", [])]
        return RocmHost(chips, **fields)
    except (TypeError, AttributeError) as e:
        raise ValueError(f"{path}: no state of such a host: {e}") from e


def load_named() -> RocmHost:
    """Read the state that the environment names; an absent one is a host without a driver."""
    name = os.environ.get(STATE_VARIABLE)
    if not name or not Path(name).exists():
        return RocmHost(driver="down")
    return load(Path(name))


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
