"""Hygon DCU and HCU, through `hy-smi` or the `rocm-smi` that the DTK ships (a fork of AMD's)."""

from __future__ import annotations

from typing import ClassVar

from chipmedic import Metric
from chipmedic.tool_report import ProblemKind, ToolReader
from chipmedic_collectors.pci_bus import PciPattern
from chipmedic_collectors.reading.language import Language, sentence
from chipmedic_collectors.rocm_smi.layouts import HYGON, LAYOUTS, SENTENCES
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector

VENDOR = "hygon"

LANGUAGE = Language(
    vendor=VENDOR,
    tools=frozenset({"hy-smi", "hy_smi"}),
    mark=HYGON,
    layouts=LAYOUTS,
    sentences=(
        *SENTENCES,
        # "Open mkfd failed" alone is the noise of a container; the table follows it.
        sentence(ProblemKind.NO_DEVICES, r"No device available|no device found"),
    ),
)
READER: ToolReader = LANGUAGE.reader()

_TABLE = frozenset({Metric.TEMPERATURE, Metric.POWER, Metric.POWER_LIMIT, Metric.UTILIZATION})
_MEMORY = frozenset({Metric.MEMORY_USED, Metric.MEMORY_TOTAL})
_ERRORS = frozenset({Metric.ECC_CORRECTED, Metric.ECC_UNCORRECTED})


def _plan(program: str, *, is_own_name: bool) -> Plan:
    """Return the questions: one table each scan; one option a call, since several break the JSON.

    `--showxgmierr` is not asked: reading it clears it.
    """

    def ask(*words: str, **more: object) -> Question:
        return Question(argv=(program, *words), **more)  # type: ignore[arg-type]

    return Plan(
        questions=(
            ask(states=_TABLE),
            ask("--showbus", "--json", every_seconds=600.0, names_chips=True),
            ask("--showuniqueid", "--json", every_seconds=600.0, names_chips=True),
            ask("--showproductname", "--json", every_seconds=3600.0, names_chips=True),
            ask("--showmeminfo", "vram", "--json", every_seconds=15.0, states=_MEMORY),
            ask("--showpids", every_seconds=30.0),
            ask("--showrasinfo", "all", every_seconds=300.0, states=_ERRORS),
            ask("--showpagesinfo", every_seconds=600.0),
        ),
        is_own_name=is_own_name,
    )


class Hygon(ToolCollector):
    """Reads Hygon DCU and HCU chips."""

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (
        _plan("hy-smi", is_own_name=True),
        _plan("rocm-smi", is_own_name=False),
    )
    pci: ClassVar[PciPattern] = PciPattern(
        vendors=frozenset({"0x1d94"}), classes=("0x0300", "0x0302", "0x0380", "0x1200", "0x0b40")
    )
    folders: ClassVar[tuple[str, ...]] = (
        "/opt/hyhal/bin",
        "/usr/local/hyhal/bin",
        "/opt/dtk/bin",
        "/opt/dtk/.hyhal/bin",
    )
    trusts_serial: ClassVar[bool] = False
