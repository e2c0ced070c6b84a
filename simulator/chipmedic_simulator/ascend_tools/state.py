"""What a simulated Ascend host is like now; one JSON file, replaced in one step."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATE_VARIABLE = "CHIPMEDIC_SIMULATOR_STATE"


@dataclass
class Process:
    """A process that holds a chip."""

    pid: int
    name: str = "python"
    memory_mb: int = 1024


@dataclass
class FaultCode:
    """An event that the driver lists as current."""

    code: str
    text: str = "node type=SoC, sensor type=unknown, event state=fault"
    severity: int = 2
    """0 warning, 1 minor, 2 major, 3 critical."""


@dataclass
class AscendChip:
    """One chip (die) as npu-smi addresses it."""

    npu: int
    die: int = 0
    phy_id: int = 0
    name: str = "910B3"
    pci: str = "0000:C1:00.0"
    vdie: str = "00000000 00000000 00000000 00000000 00000001"
    serial: str = "SIM0000000000001"
    health: str = "OK"
    power_watts: float = 95.0
    temperature_celsius: int = 45
    utilization_percent: int = 0
    hbm_used_mb: int = 3400
    hbm_total_mb: int = 65536
    codes: list[FaultCode] = field(default_factory=list)
    ecc_single: int = 0
    ecc_double: int = 0
    isolated_pages: int = 0
    next_isolated_pages: int = 0
    link: str = "UP"
    link_downs: int = 1
    net_health: str = "Success"
    """What the port says of the address that it watches, while it is up."""
    bad_packets: int = 0
    """Packets with errors, and those sent again."""
    rx_power_mw: float = 1.02
    """Light that the optical module receives."""
    hccs: list[str] = field(default_factory=lambda: ["1111"] * 7)
    """Lanes of the links to the other chips."""
    hccs_errors: int = 0
    pcie_retries: int = 0
    processes: list[Process] = field(default_factory=list)
    is_lost: bool = False
    """Off the bus: no row, `Invalid card id.` for its number."""
    has_no_values: bool = False
    """Every query of it fails: the table prints zeroes."""
    kills_summary: bool = False
    """Its device type cannot be read, so `npu-smi info` prints no table at all."""
    hang_seconds: float = 0.0
    """Every question that reaches this chip waits for so long."""


@dataclass
class AscendHost:
    """One host."""

    chips: list[AscendChip] = field(default_factory=list)
    family: str = "910B"
    """Layout of the tables: `910B`, `A3` or `310P`."""
    tool_version: str = "25.2.0"
    driver_version: str = "25.2.0"
    driver: str = "up"
    """`up`, `down` (-8005), `occupied` (-8020), `container` (-9005) or `no-library` (127)."""
    prints_nothing: bool = False
    """Empty output and exit status 0."""
    hang_seconds: float = 0.0
    """Every call waits for so long."""
    has_fault_events: bool = False
    """`-t current-fault-event` is there (25.5 and newer)."""
    is_hccn_busy: bool = False
    cut_after_lines: int | None = None
    """The table stops after so many lines, as when the tool is killed."""

    @classmethod
    def simulated(cls, count: int, **fields: Any) -> AscendHost:
        """Return a healthy host with so many 910B3 chips, ids 0 to count - 1."""
        return cls(
            [
                AscendChip(
                    npu=number,
                    phy_id=number,
                    pci=f"0000:{0x11 + 8 * number:02X}:00.0",
                    vdie=f"5A17C0DE 0000{number:04X} 13572468 86427531 10{number:02X}02F3",
                    serial=f"SIM10240{number:04d}",
                    power_watts=91.5 + number,
                    temperature_celsius=41 + number,
                    hbm_used_mb=3391 + number,
                )
                for number in range(count)
            ],
            **fields,
        )

    def chip(self, npu: int, die: int = 0) -> AscendChip:
        """Return the chip with this number.

        Raises:
            KeyError: the host has none.
        """
        for chip in self.chips:
            if (chip.npu, chip.die) == (npu, die):
                return chip
        raise KeyError(f"no chip {npu}/{die}")


def save(host: AscendHost, path: Path) -> None:
    """Write the state in one step: a tool that reads meanwhile sees the old or the new one."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(dataclasses.asdict(host), indent=1), encoding="utf-8")
    new.replace(path)


def load(path: Path) -> AscendHost:
    """Read the state.

    Raises:
        OSError: there is no such file.
        ValueError: it is not what `save` writes.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    try:
        chips = [_chip(chip) for chip in fields.pop("chips", [])]
        return AscendHost(chips, **fields)
    except (TypeError, AttributeError) as e:
        raise ValueError(f"{path}: no state of an Ascend host: {e}") from e


def load_named() -> AscendHost:
    """Read the state that the environment names; an absent one is a host without a driver."""
    name = os.environ.get(STATE_VARIABLE)
    if not name or not Path(name).exists():
        return AscendHost(driver="down")
    return load(Path(name))


def _chip(fields: dict[str, Any]) -> AscendChip:
    codes = [FaultCode(**code) for code in fields.pop("codes", [])]
    processes = [Process(**process) for process in fields.pop("processes", [])]
    return AscendChip(**fields, codes=codes, processes=processes)
