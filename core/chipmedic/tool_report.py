"""What one run of a vendor tool stated: the answer of `chipmedic parse` and of every tool reader.

A reader is a pure function over text. It states facts only: what the tool did not say stays None.
Collectors turn a report into a `Scan`; `chipmedic parse --json` prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ProblemKind(StrEnum):
    """Why a tool's answer is not whole."""

    TOOL_MISSING = "tool_missing"
    DRIVER_DOWN = "driver_down"
    """The tool is there and cannot reach its driver or library, or they do not match."""
    NO_DEVICES = "no_devices"
    PERMISSION = "permission"
    """Not allowed, also by a container or a missing execute bit."""
    MALFORMED = "malformed"
    """Not the format that was asked for."""
    TRUNCATED = "truncated"
    """Stops before the tool's own end."""
    UNSUPPORTED = "unsupported"
    """This tool, chip or version does not offer it."""
    CHIP_LOST = "chip_lost"
    PARTIAL = "partial"
    """Some chips or values are missing from an otherwise good answer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an answer, in the tool's words where it said any."""

    kind: ProblemKind
    message: str


class Health(StrEnum):
    """The worst state that the tool itself states of a chip."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LinkReport:
    """One link of a chip."""

    index: int | None
    is_up: bool


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """One process on a chip, as the tool lists it."""

    pid: int
    name: str | None = None
    memory_bytes: int | None = None


@dataclass(slots=True, kw_only=True)
class ChipReport:
    """One chip as one run of a tool described it; None means that the tool did not say.

    Mutable, because readers fill it line by line; it does not leave the reader before it is whole.
    Units are in the names; `utilization_ratio` is 0..1; totals are over the chip's life where
    printed.
    """

    index: int | None = None
    die: int = 0
    name: str | None = None
    uuid: str | None = None
    serial: str | None = None
    pci: str | None = None
    health: Health | None = None
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    utilization_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_used_ratio: float | None = None
    ecc_corrected_total: int | None = None
    ecc_uncorrected_total: int | None = None
    retired_pages: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    error_codes: list[str] | None = None
    links: list[LinkReport] | None = None
    processes: list[ProcessReport] | None = None
    lost: bool | None = None


@dataclass(slots=True, kw_only=True)
class ToolReport:
    """One run of a vendor tool."""

    vendor: str
    tool_version: str | None = None
    driver_version: str | None = None
    chips: list[ChipReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add_problem(self, kind: ProblemKind, message: str) -> None:
        """Note a problem once."""
        problem = Problem(kind, message.strip())
        if problem not in self.problems:
            self.problems.append(problem)


LINE_MAX = 8192
"""Longer lines of a table are garbage, on which the patterns of a reader could work for minutes."""


@dataclass(frozen=True, slots=True)
class ToolRun:
    """What a tool was asked and what came back."""

    argv: Sequence[str]
    stdout: str
    stderr: str = ""
    exit_code: int | None = None
    """None: not recorded, which is not 0."""

    def __post_init__(self) -> None:
        """Cut lines that no table has."""
        object.__setattr__(self, "stdout", _bounded(self.stdout))
        object.__setattr__(self, "stderr", _bounded(self.stderr))


def _bounded(text: str) -> str:
    """Return a text whose lines are no longer than `LINE_MAX`; JSON and XML may be one line."""
    if len(text) <= LINE_MAX or text.lstrip()[:1] in {"{", "[", "<"}:
        return text
    return "\n".join(line[:LINE_MAX] for line in text.split("\n"))


@dataclass(frozen=True, slots=True)
class ToolReader:
    """The reader of one vendor's tools; published as an entry point of `chipmedic.tool_readers`."""

    vendor: str
    recognises: Callable[[ToolRun], int]
    """How sure this reader is that the run is one of its tools: 0 not at all, higher is surer.

    By program name alone 1; by name and text 2; by a mark that only this vendor prints 3."""
    read: Callable[[ToolRun], ToolReport]
    """Never raises: what cannot be read is a problem of the report."""


def to_json(report: ToolReport) -> dict[str, Any]:
    """Return the report as the JSON object of the `parse` contract; None and empty are left out."""
    return {
        "vendor": report.vendor,
        "tool_version": report.tool_version,
        "driver_version": report.driver_version,
        "chips": [_chip_to_json(chip) for chip in report.chips],
        "problems": [{"kind": p.kind.value, "message": p.message} for p in report.problems],
    }


def _chip_to_json(chip: ChipReport) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name in ChipReport.__slots__:
        value = getattr(chip, name)
        if value is None:
            continue
        if name == "links":
            value = [
                {"up": link.is_up}
                if link.index is None
                else {"index": link.index, "up": link.is_up}
                for link in value
            ]
        elif name == "processes":
            value = [_process_to_json(process) for process in value]
        elif name == "health":
            value = value.value
        answer[name] = value
    return answer


def _link_to_json(link: LinkReport) -> dict[str, Any]:
    return {"up": link.is_up} if link.index is None else {"index": link.index, "up": link.is_up}


def _process_to_json(process: ProcessReport) -> dict[str, Any]:
    fields = {"pid": process.pid, "name": process.name, "memory_bytes": process.memory_bytes}
    return {key: value for key, value in fields.items() if value is not None}
