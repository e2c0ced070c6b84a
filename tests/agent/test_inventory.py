"""The inventory: missing is not never-there, replaced is not missing."""

from __future__ import annotations

import pytest

from agent_story import a_chip, component
from chipmedic.metric import Metric
from chipmedic.model import (
    Chip,
    ChipProcess,
    Component,
    ComponentKind,
    Event,
    Gap,
    GapReason,
    Reading,
    Scan,
)
from chipmedic_agent.inventory import Departure, Inventory, of_chip

A = a_chip("A", 0, "0000:1a:00.0", serial="S-A")
B = a_chip("B", 1, "0000:1b:00.0")


def listing(*chips: Chip, at: float = 0.0, source: str = "acme", **rest: object) -> Scan:
    return Scan(source=source, at=at, chips=chips, is_inventory=True, **rest)  # type: ignore[arg-type]


def present(scan: Scan) -> dict[str, float]:
    return {c.name: value for c, value in scan.values(Metric.PRESENT).items()}


def test_a_chip_that_is_not_shown_any_more_is_missing_by_name_and_place() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    scan, _ = inventory.complete(listing(B, at=60.0))
    assert present(scan) == {"A": 0.0, "B": 1.0}
    (gap,) = scan.gaps
    assert (gap.component, gap.reason) == (A.component, GapReason.MISSING)
    assert "serial S-A" in gap.detail
    assert "0000:1a:00.0" in gap.detail
    assert "60 s ago" in gap.detail


def test_it_is_missing_after_a_restart_too() -> None:
    before = Inventory()
    before.complete(listing(A, B))
    scan, _ = Inventory(before.known()).complete(listing(B, at=5.0))
    assert present(scan)["A"] == 0.0


def test_a_vendor_that_is_gone_altogether_leaves_all_its_chips_missing() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    scan, _ = inventory.complete(listing())
    assert present(scan) == {"A": 0.0, "B": 0.0}


def test_a_chip_comes_back() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    inventory.complete(listing(B))
    assert [e.is_missing for e in inventory.known()] == [True, False]
    scan, _ = inventory.complete(listing(A, B))
    assert present(scan) == {"A": 1.0, "B": 1.0}
    assert not any(entry.is_missing for entry in inventory.known())


def test_a_scan_that_is_no_whole_list_misses_nobody() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    scan, _ = inventory.complete(Scan(source="acme", at=1.0, chips=(B,)))
    assert scan.gaps == ()


def test_another_source_misses_nobody_of_this_one() -> None:
    inventory = Inventory()
    inventory.complete(listing(A))
    scan, _ = inventory.complete(listing(source="other"))
    assert scan.gaps == ()


def test_what_the_collector_said_itself_is_not_said_twice() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    scan, _ = inventory.complete(
        listing(
            B,
            readings=(Reading(A.component, Metric.PRESENT, 0.0),),
            gaps=(Gap(A.component, None, GapReason.FAILED, "handle lost"),),
        )
    )
    assert present(scan) == {"A": 0.0, "B": 1.0}
    assert [gap.detail for gap in scan.gaps] == ["handle lost"]


def test_a_chip_that_is_listed_and_dark_is_not_called_present() -> None:
    scan, _ = Inventory().complete(listing(A, gaps=(Gap(A.component, None, GapReason.TIMED_OUT),)))
    assert present(scan) == {}


def test_the_index_may_change_at_boot() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    inventory.complete(listing(a_chip("B", 0, "0000:1a:00.0")))
    scan, _ = inventory.complete(listing(a_chip("B", 0, "0000:1a:00.0")))
    assert present(scan) == {"A": 0.0, "B": 1.0}, "a known chip that moved replaces nobody"


def test_a_new_chip_in_the_place_of_an_old_one_replaces_it() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    newcomer = a_chip("C", 0, "0000:1a:00.0")
    scan, departures = inventory.complete(listing(newcomer, B))
    assert departures == [Departure("A", "its place is taken by C")]
    assert present(scan) == {"B": 1.0, "C": 1.0}


def test_a_chip_that_cannot_say_its_name_any_more_keeps_it() -> None:
    """After a restart of the agent its collector knows the chip by its place alone."""
    pci = "0000:3b:00.0"
    inventory = Inventory()
    inventory.complete(listing(a_chip("A-1", 1, pci, serial="77")))
    nameless = a_chip(f"acme-{pci}", 1, pci)
    link = Component(ComponentKind.LINK, f"acme-{pci}/4")
    part = Component(ComponentKind.PARTITION, f"acme-{pci}/1/0")
    scan, departures = inventory.complete(
        listing(
            nameless,
            readings=(Reading(nameless.component, Metric.TEMPERATURE, 40.0),),
            gaps=(
                Gap(link, Metric.LINK_UP, GapReason.FAILED),
                Gap(part, Metric.MEMORY_USED, GapReason.FAILED),
            ),
            processes=(ChipProcess(nameless.uid, 7),),
        )
    )
    assert departures == []
    assert [(c.uid, c.serial) for c in scan.chips] == [("A-1", "77")]
    assert present(scan) == {"A-1": 1}
    assert {str(r.component) for r in scan.readings} == {"chip:A-1"}
    assert [str(g.component) for g in scan.gaps] == ["link:A-1/4", "partition:A-1/1/0"]
    assert scan.processes == (ChipProcess("A-1", 7),)


def test_two_dies_in_one_place_do_not_replace_each_other() -> None:
    inventory = Inventory()
    inventory.complete(listing(A))
    _, departures = inventory.complete(listing(A, a_chip("A2", 1, "0000:1a:00.0", die=1)))
    assert departures == []


def test_a_forgotten_chip_is_not_missed() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    assert inventory.forget(["A"]) == [Departure("A", "forgotten by the operator")]
    scan, _ = inventory.complete(listing(B))
    assert present(scan) == {"B": 1.0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0000:1a:00.0", A.component),
        ("0000:1a:00", A.component),
        ("0000:1A:00", A.component),
        ("0000:1c:00", None),
    ],
)
def test_a_pci_address_becomes_the_chip(name: str, expected: Component | None) -> None:
    inventory = Inventory()
    inventory.complete(listing(A, B))
    pci = Component(ComponentKind.PCI, name)
    event = Event(component=pci, code="xid:79", message="fell off", at=1.0)
    scan, _ = inventory.complete(Scan(source="kernel_log", at=1.0, events=(event,)))
    assert scan.events[0].component == (expected or pci)


def test_a_place_of_two_chips_is_not_guessed() -> None:
    inventory = Inventory()
    inventory.complete(listing(A, a_chip("A2", 1, "0000:1a:00.1", die=1)))
    assert inventory.resolve(Component(ComponentKind.PCI, "0000:1a:00")).kind is ComponentKind.PCI
    assert inventory.resolve(Component(ComponentKind.PCI, "0000:1a:00.1")) == component("A2")


def test_whose_link_is_whose() -> None:
    assert of_chip(Component(ComponentKind.LINK, "A/3"), "A")
    assert of_chip(component("A"), "A")
    assert not of_chip(Component(ComponentKind.LINK, "AB/3"), "A")
    assert not of_chip(Component(ComponentKind.NIC, "A"), "A")
