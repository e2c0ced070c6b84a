"""The ports and links of an Ascend host, from the simulated tools to the faults."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ascend_story import SimulatedHost, a_host, later, started, uid
from chipmedic.model import Cleared, Fault, Raised, Severity
from chipmedic_agent.detectors import DetectorSettings, builtin_detectors
from chipmedic_agent.pipeline import Pipeline
from chipmedic_simulator.ascend_tools import AscendChip

HOURS = 3600.0
BEAT_SECONDS = 60.0


class Watched:
    """A host of two chips under watch; time passes in steps of a minute."""

    def __init__(self) -> None:
        self.host: SimulatedHost = a_host(2)
        self.collector = started(self.host)
        self.pipeline = Pipeline(builtin_detectors(DetectorSettings()), boot_id="b")
        self.cleared: list[tuple[str, str]] = []
        self.pipeline.consume(self.collector.scan())
        self.pass_time(600.0)

    @property
    def chip(self) -> AscendChip:
        return self.host.ascend.chip(1)

    def pass_time(
        self, seconds: float, change: Callable[[AscendChip], None] | None = None
    ) -> list[Fault]:
        """Let time pass, changing the second chip in each minute; return what was raised."""
        raised = []
        for _ in range(int(seconds // BEAT_SECONDS)):
            if change is not None:
                change(self.chip)
            changes, _ = self.pipeline.consume(later(self.collector, self.host, BEAT_SECONDS))
            raised += [each.fault for each in changes if isinstance(each, Raised)]
            self.cleared += [
                (str(each.fault.component), each.fault.kind)
                for each in changes
                if isinstance(each, Cleared)
            ]
        return raised

    def name(self, link: str) -> str:
        return f"link:{uid(self.host, 1)}/{link}"


@pytest.fixture
def watched() -> Watched:
    return Watched()


def grow(field: str, by: int) -> Callable[[AscendChip], None]:
    def change(chip: AscendChip) -> None:
        setattr(chip, field, getattr(chip, field) + by)

    return change


def test_a_healthy_host_raises_nothing(watched: Watched) -> None:
    assert watched.pass_time(2 * HOURS) == []


@pytest.mark.parametrize(
    ("field", "link", "kind"),
    [("bad_packets", "0", "link.errors"), ("hccs_errors", "hccs0", "link.errors")],
)
def test_errors_that_grow_are_a_fault_of_that_link(
    watched: Watched, field: str, link: str, kind: str
) -> None:
    (fault,) = watched.pass_time(HOURS, grow(field, 3))
    assert (str(fault.component), fault.kind) == (watched.name(link), kind)
    watched.pass_time(2 * HOURS)
    assert watched.cleared == [(watched.name(link), kind)]


def test_a_few_errors_are_not(watched: Watched) -> None:
    def rarely(chip: AscendChip) -> None:
        chip.bad_packets += int(watched.host.at) % 1800 < BEAT_SECONDS

    assert watched.pass_time(2 * HOURS, rarely) == []


def test_retries_of_the_pcie_link_are_counted_for_the_chip(watched: Watched) -> None:
    (fault,) = watched.pass_time(HOURS, grow("pcie_retries", 40))
    assert (str(fault.component), fault.kind) == (f"chip:{uid(watched.host, 1)}", "pcie.errors")


def test_dim_light_is_a_fault_until_it_is_bright(watched: Watched) -> None:
    watched.chip.rx_power_mw = 0.02
    (fault,) = watched.pass_time(900.0)
    assert (str(fault.component), fault.kind) == (watched.name("0"), "link.degraded")
    assert fault.severity is Severity.WARNING
    assert fault.summary.startswith("received light outside the module's limits")
    assert watched.pass_time(2 * HOURS) == []  # one fault, however long it lasts
    watched.chip.rx_power_mw = 1.0
    watched.pass_time(HOURS)
    assert watched.cleared == [(watched.name("0"), "link.degraded")]


def test_a_broken_link_between_chips_is_grave(watched: Watched) -> None:
    watched.chip.hccs[3] = "0000"
    faults = {str(fault.component): fault for fault in watched.pass_time(1800.0)}
    assert faults.keys() == {watched.name("hccs"), watched.name("hccs3")}
    assert faults[watched.name("hccs")].severity is Severity.CRITICAL
    assert faults[watched.name("hccs3")].kind == "link.down"
    watched.chip.hccs[3] = "1111"
    watched.pass_time(HOURS)
    assert len(watched.cleared) == 2
