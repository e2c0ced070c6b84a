"""The network ports, optical modules, chip-to-chip links and PCIe counters of an Ascend host."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_story import SimulatedHost, a_host, component, later, started, uid
from chipmedic import Action, Component, ComponentKind, Event, Metric, Scan, Severity
from chipmedic.faults.catalog import lookup
from chipmedic_collectors.ascend import Ascend, hccn, hccs, optical
from fuzzing import examples

SLOW_SECONDS = 300.0


def port(host: SimulatedHost, number: int | str = 0) -> Component:
    return Component(ComponentKind.LINK, f"{uid(host, 0)}/{number}")


def watched(host: SimulatedHost) -> Ascend:
    collector = started(host)
    scan = collector.scan()
    assert scan.events == ()
    assert scan.gaps == ()
    return collector


def a_while_later(collector: Ascend, host: SimulatedHost) -> Scan:
    later(collector, host, 60)  # the state of a port comes before what it is judged by
    return later(collector, host, SLOW_SECONDS)


def told(scan: Scan) -> list[tuple[str, str, Severity, Action]]:
    """Return the codes and what the catalog says of them."""
    rows = [(event, lookup(event.code)) for event in scan.events]
    assert all(row.is_known and event.kind is None for event, row in rows)
    return [(event.code, row.kind, row.severity, row.action) for event, row in rows]


def test_a_healthy_port_is_read_and_says_nothing() -> None:
    host = a_host(1)
    scan = started(host).scan()
    assert scan.values(Metric.LINK_ERRORS)[port(host)] == 0
    assert scan.values(Metric.LINK_UP)[port(host, "hccs6")] == 1
    assert scan.values(Metric.LINK_ERRORS)[port(host, "hccs0")] == 0
    assert scan.values(Metric.PCIE_REPLAYS)[component(host, 0)] == 0
    assert scan.events == ()


def test_counters_grow_by_what_was_bad_or_sent_again() -> None:
    host = a_host(1)
    collector = watched(host)
    chip = host.ascend.chip(0)
    chip.bad_packets, chip.hccs_errors, chip.pcie_retries = 5, 3, 7
    scan = a_while_later(collector, host)
    assert scan.values(Metric.LINK_ERRORS)[port(host)] == 15
    assert scan.values(Metric.LINK_ERRORS)[port(host, "hccs0")] == 3
    assert scan.values(Metric.PCIE_REPLAYS)[component(host, 0)] == 7


def test_a_network_that_is_not_reached_is_told_until_it_is() -> None:
    host = a_host(1)
    collector = watched(host)
    host.ascend.chip(0).net_health = "Receive timeout"
    scan = a_while_later(collector, host)
    code = "ascend:net_health:receive_timeout"
    assert told(scan) == [(code, "link.degraded", Severity.WARNING, Action.FIX_NETWORK)]
    assert scan.events[0].component == port(host)
    (reminder,) = later(collector, host, SLOW_SECONDS).events
    assert reminder.id == scan.events[0].id
    host.ascend.chip(0).net_health = "Success"
    assert later(collector, host, SLOW_SECONDS).events == ()


@pytest.mark.parametrize("state", ["Init", "Detect ip set", "Success"])
def test_a_network_that_nobody_watches_is_no_fault(state: str) -> None:
    host = a_host(1)
    collector = watched(host)
    host.ascend.chip(0).net_health = state
    assert a_while_later(collector, host).events == ()


def test_dim_light_is_told_by_the_modules_own_limits() -> None:
    host = a_host(1)
    collector = watched(host)
    host.ascend.chip(0).rx_power_mw = 0.0125
    scan = a_while_later(collector, host)
    code = "ascend:optical:rx_power"
    assert told(scan) == [(code, "link.degraded", Severity.WARNING, Action.FIX_NETWORK)]
    (event,) = scan.events
    assert "rx power1 0.0125 mw" in event.message
    assert "limits 0.1 to 3.9811" in event.message
    assert "Rx Los Flag 0xfc" in event.message


def test_no_light_explains_a_port_that_went_down() -> None:
    host = a_host(1)
    collector = watched(host)
    host.ascend.chip(0).link = "DOWN"
    scan = a_while_later(collector, host)
    assert [event.code for event in scan.events] == ["ascend:optical:rx_power"]
    assert scan.values(Metric.LINK_UP)[port(host)] == 0


def test_a_port_without_a_cable_says_nothing() -> None:
    host = a_host(1)
    host.ascend.chip(0).link = "DOWN"
    collector = started(host)
    assert collector.scan().events == ()
    assert a_while_later(collector, host).events == ()
    assert not [c for c in host.commands() if "-optical" in c or "-net_health" in c]


def test_a_broken_link_between_chips() -> None:
    host = a_host(1)
    collector = watched(host)
    host.ascend.chip(0).hccs[2] = "1101"
    scan = a_while_later(collector, host)
    assert scan.values(Metric.LINK_UP)[port(host, "hccs2")] == 0
    assert told(scan) == [
        ("ascend:hccs:NOK", "link.degraded", Severity.CRITICAL, Action.ISOLATE_NODE)
    ]
    cursor = collector.cursor()
    assert cursor is not None
    restarted = started(host)
    restarted.resume(cursor)
    assert restarted.scan().events == ()
    (reminder,) = later(restarted, host, SLOW_SECONDS).events
    assert reminder.code == "ascend:hccs:NOK"


def test_links_that_never_were_well_raise_no_alarm() -> None:
    host = a_host(1)
    host.ascend.chip(0).hccs = ["0000"] * 7
    collector = started(host)
    assert collector.scan().events == ()
    assert a_while_later(collector, host).events == ()


def test_topics_of_one_port_do_not_end_each_other() -> None:
    host = a_host(1)
    collector = watched(host)
    chip = host.ascend.chip(0)
    chip.net_health, chip.rx_power_mw = "Unreachable", 0.01
    first = {event.code: event.id for event in a_while_later(collector, host).events}
    again: list[Event] = list(later(collector, host, SLOW_SECONDS).events)
    assert first == {event.code: event.id for event in again}
    assert len(first) == 2


LINES = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.sampled_from(
            [
                "Rx Power0            : 0.0412 mW",
                "RxPower Low Thres    : 0.1445 mW",
                "RxPower High Thres   : 3.5481 mW",
                "Rx Power1            : NA",
                "Rx Los Flag          : 0x3",
                "mac_rx_bad_pkt_num:18446744073709551615",
                "net health status: Time exceeded",
                "\thccs lane mode : [4 4 0]",
                "\thccs link lane list : [1111 1011 0000]",
                "\thccs error count : [1 x 3]",
            ]
        ),
    ),
    max_size=12,
).map("\n".join)


@settings(max_examples=examples(200))
@given(LINES)
def test_no_answer_breaks_a_reader(text: str) -> None:
    assert optical.judge(text).keys() <= set(optical.CODES)
    count = hccn.errors(text)
    assert count is None or count >= 0
    assert all(link.errors is None or link.errors >= 0 for link in hccs.read(text).lanes.values())


@pytest.mark.parametrize(
    "text",
    [
        "optical info:\nRx Power : 0.0001 mW",  # no limits
        "Rx Power : -12.1 dBm\nRxPower Low Thres : 0.1 mW\nRxPower High Thres : 3.5 mW",
        "Rx Power : NA\nRxPower Low Thres : 0.1 mW\nRxPower High Thres : 3.5 mW",
        "Rx Power : 0.1 mW\nRxPower Low Thres : 0.0 mW\nRxPower High Thres : 0.0 mW",
        "present : not present\nRx Los Flag : 0xff",
    ],
    ids=["no limits", "another unit", "not measured", "limits that are none", "no module"],
)
def test_light_that_cannot_be_judged_is_not(text: str) -> None:
    assert optical.judge(text) == {}


@pytest.mark.parametrize("state", sorted(hccn.UNHEALTHY))
def test_every_word_of_an_unwell_network_is_in_the_catalog(state: str) -> None:
    assert lookup(f"ascend:net_health:{state.replace(' ', '_')}").is_known


@pytest.mark.parametrize("code", optical.CODES)
def test_every_fault_of_a_module_is_in_the_catalog(code: str) -> None:
    assert lookup(f"ascend:optical:{code}").is_known
