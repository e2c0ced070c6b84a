"""A vendor's tool that dies half-way and ends with status 0: no chip behind the cut is healthy.

The summary of eight chips is cut behind lines and closing brackets, which is between two rows as
well as inside one, on a host that was never scanned and on one whose chips are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ascend_story import SimulatedHost, a_host
from chipmedic.host import Answer
from chipmedic.metric import Metric
from chipmedic.model import Component, Scan
from chipmedic_collectors.ascend import Ascend
from vendor_racks import COUNT, VENDORS, RackHost, Vendor

PERIOD_SECONDS = 15.0
POINTS = 6


def cut_points(text: str) -> list[int]:
    """Return places where the answer may stop, from its first line to its last."""
    points = [match.end() for match in re.finditer(r"\n|[}\]>]", text.rstrip())]
    return points[:: max(1, len(points) // POINTS)]


def begin_of_values(vendor: Vendor, argv: Sequence[str]) -> list[int]:
    """Return where the first value of each chip stands: there its silent row is another one."""
    host = RackHost(vendor)
    whole = host.run(argv, timeout_seconds=1).stdout
    begins = []
    for number in range(COUNT):
        host.rack.silent = {number}
        silent = host.run(argv, timeout_seconds=1).stdout
        pairs = enumerate(zip(whole, silent, strict=False))
        begins.append(next(place for place, (one, other) in pairs if one != other))
    return begins


def healthy(scan: Scan) -> set[Component]:
    """Return the chips that a scan says are here, or knows any value of."""
    dark = {gap.component for gap in scan.gaps if gap.metric is None}
    present = {component for component, value in scan.values(Metric.PRESENT).items() if value == 1}
    warm = scan.values(Metric.TEMPERATURE).keys()
    return (present | warm) - dark


class CuttingHost(RackHost):
    """Its tool's summary stops at `cut`."""

    def __init__(self, vendor: Vendor, summary: Sequence[str]) -> None:
        super().__init__(vendor)
        self.summary = tuple(summary)
        self.cut: int | None = None

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        answer = super().run(argv, timeout_seconds=timeout_seconds, env=env)
        is_cut = tuple(argv) == self.summary
        return replace(answer, stdout=answer.stdout[: self.cut]) if is_cut else answer


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("name", VENDORS)
def test_no_chip_behind_the_cut_is_healthy(name: str, is_known: bool) -> None:
    vendor = VENDORS[name]
    plan = next(p for p in vendor.kind.plans if p.program == vendor.program)
    summary = plan.questions[0].argv
    begins = begin_of_values(vendor, summary)
    host = CuttingHost(vendor, summary)
    whole = RackHost(vendor).run(summary, timeout_seconds=1).stdout
    collector = vendor.kind(host)
    if is_known:
        assert len(healthy(collector.scan())) == COUNT
    for point in cut_points(whole):
        if not is_known:
            collector = vendor.kind(host)
        host.cut = point
        host.at += PERIOD_SECONDS
        scan = collector.scan()
        whole_at_most = sum(begin < point for begin in begins)
        assert len(healthy(scan)) <= whole_at_most, f"cut at {point}"
        if len(healthy(scan)) < COUNT:
            assert scan.gaps, f"cut at {point}: nothing is said of what is missing"
        if is_known:
            told = healthy(scan) | {gap.component for gap in scan.gaps}
            chips = [part for part in told if part.kind.value == "chip"]
            assert len(chips) == COUNT, f"cut at {point}: a known chip is not spoken of"


@pytest.mark.parametrize("is_known", [False, True])
def test_no_ascend_chip_behind_the_cut_is_healthy(is_known: bool) -> None:
    whole = a_host(COUNT).run(("npu-smi", "info"), timeout_seconds=1).stdout

    class Cutting(SimulatedHost):
        cut: int | None = None

        def run(self, argv: Sequence[str], **rest: object) -> Answer:
            answer = super().run(argv, **rest)  # type: ignore[arg-type]
            is_cut = tuple(argv) == ("npu-smi", "info")
            return replace(answer, stdout=answer.stdout[: self.cut]) if is_cut else answer

    made = a_host(COUNT)
    host = Cutting(made.ascend, **made.files)  # type: ignore[arg-type]
    collector = Ascend(host)
    if is_known:
        assert len(healthy(collector.scan())) == COUNT
    for point in cut_points(whole):
        if not is_known:
            collector = Ascend(host)
        host.cut = point
        host.at += PERIOD_SECONDS
        scan = collector.scan()
        rows = len(re.findall(r"^\|\s*\d+\s.*\d+\s*/\s*\d+", whole[:point], re.MULTILINE))
        if rows:  # without a row the chips are asked one by one, and may answer
            assert len(healthy(scan)) <= rows, f"cut at {point}"
        if is_known:
            told = healthy(scan) | {gap.component for gap in scan.gaps}
            assert len([part for part in told if part.kind.value == "chip"]) == COUNT
