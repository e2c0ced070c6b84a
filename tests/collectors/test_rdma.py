"""Ports of RDMA devices: state, carrier, and counters that must be read with care."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, GapReason
from chipmedic.testing import FakeHost
from chipmedic_collectors.rdma import RdmaPorts

IB = "/sys/class/infiniband/mlx5_4"
ROCE = "/sys/class/infiniband/mlx5_bond_0"


@dataclass(slots=True)
class CountingHost(FakeHost):
    """A host that remembers what was read."""

    reads: list[str] = field(default_factory=list)

    def read(self, path: str) -> str:
        self.reads.append(path)
        return super(CountingHost, self).read(path)


def port(
    device: str, number: int = 1, *, state: str = "4: ACTIVE", layer: str = "InfiniBand"
) -> dict[str, str | OSError]:
    folder = f"{device}/ports/{number}"
    return {
        f"{folder}/state": f"{state}\n",
        f"{folder}/rate": "400 Gb/sec (4X NDR)\n",
        f"{folder}/link_layer": f"{layer}\n",
        f"{folder}/counters/link_downed": "2\n",
        f"{folder}/counters/symbol_error": "7\n",
        f"{folder}/counters/link_error_recovery": "1\n",
        f"{folder}/counters/port_rcv_errors": "0\n",
        f"{folder}/counters/local_link_integrity_errors": "0\n",
        f"{folder}/counters/excessive_buffer_overrun_errors": "0\n",
    }


def nic(name: str) -> Component:
    return Component(ComponentKind.NIC, name)


def collector(host: FakeHost) -> RdmaPorts:
    found = RdmaPorts.discover(host)
    assert found is not None
    return found


def test_a_port_that_is_up() -> None:
    scan = collector(FakeHost(files=port(IB))).scan()
    me = nic("mlx5_4/1")
    assert scan.values(Metric.LINK_UP) == {me: 1}
    assert scan.values(Metric.LINK_RATE) == {me: 400e9}
    assert scan.values(Metric.LINK_DOWNED) == {me: 2}
    assert scan.values(Metric.LINK_ERRORS) == {me: 8}
    assert scan.gaps == ()


@pytest.mark.parametrize("state", ["1: DOWN", "2: INIT", "3: ARMED", "5: ACTIVE_DEFER"])
def test_every_state_but_active_is_down(state: str) -> None:
    scan = collector(FakeHost(files=port(IB, state=state))).scan()
    assert scan.values(Metric.LINK_UP) == {nic("mlx5_4/1"): 0}
    assert scan.values(Metric.LINK_RATE) == {}


def test_roce_needs_the_carrier_of_its_own_interface() -> None:
    files = port(ROCE, 1, layer="Ethernet") | port(ROCE, 2, layer="Ethernet")
    for number, carrier in ((0, "1"), (1, "0")):
        folder = f"{ROCE}/device/net/eth{number}"
        files |= {f"{folder}/carrier": f"{carrier}\n", f"{folder}/dev_port": f"{number}\n"}
    scan = collector(FakeHost(files=files)).scan()
    assert scan.values(Metric.LINK_UP) == {nic("mlx5_bond_0/1"): 1, nic("mlx5_bond_0/2"): 0}


def test_a_counter_that_was_refused_is_never_read_again() -> None:
    refused = f"{IB}/ports/1/counters/symbol_error"
    host = CountingHost(files=port(IB) | {refused: OSError(errno.EINVAL, "Invalid argument")})
    subject = collector(host)
    for _ in range(4):
        scan = subject.scan()
        host.at += 20
    assert host.reads.count(refused) == 1
    assert scan.values(Metric.LINK_ERRORS) == {nic("mlx5_4/1"): 1}
    assert any("not asked again" in gap.detail for gap in scan.gaps)


def test_a_counter_that_fails_once_gives_no_smaller_sum() -> None:
    files = port(IB)
    host = FakeHost(files=files)
    subject = collector(host)
    subject.scan()
    path = f"{IB}/ports/1/counters/symbol_error"
    files[path] = OSError(errno.EIO, "Input/output error")
    host.at += 20
    assert subject.scan().values(Metric.LINK_ERRORS) == {}
    files[path] = "9\n"
    host.at += 20
    assert subject.scan().values(Metric.LINK_ERRORS) == {nic("mlx5_4/1"): 10}


def test_a_counter_that_was_missing_once_is_read_later() -> None:
    """A driver that is loaded again shows its files one after the other."""
    path = f"{IB}/ports/1/counters/symbol_error"
    files = port(IB)
    later = files.pop(path)
    host = FakeHost(files=files)
    subject = collector(host)
    assert subject.scan().values(Metric.LINK_ERRORS) == {nic("mlx5_4/1"): 1}
    files[path] = later
    host.at += 20
    assert subject.scan().values(Metric.LINK_ERRORS) == {nic("mlx5_4/1"): 1}  # 7 is no burst
    files[path] = "10\n"
    host.at += 20
    assert subject.scan().values(Metric.LINK_ERRORS) == {nic("mlx5_4/1"): 4}
    files[path] = "2\n"  # the driver was loaded again
    host.at += 20
    assert subject.scan().values(Metric.LINK_ERRORS) == {nic("mlx5_4/1"): 3}
    del files[path]
    host.at += 20
    assert subject.scan().values(Metric.LINK_ERRORS) == {}  # a smaller sum would be a reset


def test_a_link_that_counts_its_losses_late_counts_them() -> None:
    path = f"{IB}/ports/1/counters/link_downed"
    files = port(IB)
    later = files.pop(path)
    host = FakeHost(files=files)
    subject = collector(host)
    assert subject.scan().values(Metric.LINK_DOWNED) == {}
    files[path] = later
    host.at += 20
    assert subject.scan().values(Metric.LINK_DOWNED) == {nic("mlx5_4/1"): 2}


def test_a_counter_that_has_stopped_is_said() -> None:
    files = port(IB) | {f"{IB}/ports/1/counters/link_error_recovery": "255\n"}
    (gap,) = collector(FakeHost(files=files)).scan().gaps
    assert (gap.metric, gap.reason) == (Metric.LINK_ERRORS, GapReason.MALFORMED)
    assert "255" in gap.detail


def test_states_are_read_each_time_and_counters_every_fifteen_seconds() -> None:
    host = CountingHost(files=port(IB))
    subject = collector(host)
    for _ in range(7):  # 0 to 30 s
        subject.scan()
        host.at += 5
    assert host.reads.count(f"{IB}/ports/1/state") == 7
    assert host.reads.count(f"{IB}/ports/1/counters/link_downed") == 3


def test_one_port_that_cannot_be_read_costs_no_other() -> None:
    files = port(IB) | port(ROCE) | {f"{IB}/ports/1/state": OSError(errno.EIO, "I/O error")}
    scan = collector(FakeHost(files=files)).scan()
    assert scan.values(Metric.LINK_UP) == {nic("mlx5_bond_0/1"): 1}
    assert [gap.component for gap in scan.gaps] == [nic("mlx5_4/1")]


def test_no_rdma_device_no_collector() -> None:
    assert RdmaPorts.discover(FakeHost()) is None


def is_count(text: str) -> bool:
    return text.strip().isascii() and text.strip().isdecimal()


ANY = st.text(max_size=30)


@given(
    ANY | st.sampled_from(["4: ACTIVE", "1: DOWN", "4", "44: X"]),
    ANY | st.sampled_from(["200 Gb/sec (4X HDR)", "0 Gb/sec"]),
    ANY | st.sampled_from(["InfiniBand", "Ethernet"]),
    ANY | st.integers(0, 1 << 64).map(str),
)
def test_a_port_of_any_text_is_up_or_down_or_a_gap(
    state: str, rate: str, layer: str, count: str
) -> None:
    files = port(IB) | {
        f"{IB}/ports/1/state": state,
        f"{IB}/ports/1/rate": rate,
        f"{IB}/ports/1/link_layer": layer,
        f"{IB}/ports/1/counters/symbol_error": count,
    }
    me, scan = nic("mlx5_4/1"), collector(FakeHost(files=files)).scan()
    missed = {gap.metric for gap in scan.gaps if gap.component == me}
    up = scan.values(Metric.LINK_UP).get(me)
    if up is None:
        assert (scan.readings, missed) == ((), {None}), "of a port without a state nothing is told"
        return
    assert up == 0 or state.strip().startswith("4")
    assert (me in scan.values(Metric.LINK_RATE)) == (up == 1 and Metric.LINK_RATE not in missed)
    assert (me in scan.values(Metric.LINK_ERRORS)) == is_count(count)
