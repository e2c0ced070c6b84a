"""What an Ascend chip is called: dies, pairs, restarts, a replaced board, cursors."""

from __future__ import annotations

import contextlib
import json

import pytest

from ascend_story import (
    PERIOD,
    SimulatedHost,
    a_host,
    component,
    gaps,
    later,
    pci_files,
    started,
    uid,
)
from chipmedic import GapReason, Metric
from chipmedic.errors import ToolBlocked
from chipmedic_collectors.ascend import Ascend
from chipmedic_simulator.ascend_tools import AscendChip, AscendHost
from chipmedic_simulator.ascend_tools.state import FaultCode


def test_two_dies_of_a_card_and_their_ports() -> None:
    ascend = AscendHost.simulated(2, family="A3")
    first, second = ascend.chips
    second.npu, second.die = 0, 1
    for number, chip in enumerate(ascend.chips):
        chip.name, chip.phy_id = "Ascend910", 8 + number
    host = SimulatedHost(ascend)
    scan = started(host).scan()
    assert [(chip.index, chip.die) for chip in scan.chips] == [(0, 0), (0, 1)]
    assert gaps(scan) == {(component(host, 0, 1), Metric.POWER): GapReason.UNSUPPORTED}
    commands = host.commands()
    assert "hccn_tool -i 9 -link -g" in commands
    assert commands.count("npu-smi info -t ecc -i 0") == 1
    assert len(scan.values(Metric.ECC_UNCORRECTED)) == 2
    first.kills_summary = True
    with contextlib.suppress(ToolBlocked):
        scan = later(started(host), host)
    assert [chip.die for chip in scan.chips] == [1]


def test_310p_pair_on_one_address_keeps_two_names() -> None:
    zero = "00000000 00000000 00000000 00000000 00000000"
    chips = [
        AscendChip(npu=32, die=die, phy_id=die, name="310P3", pci="0000:B5:00.0", vdie=zero)
        for die in (0, 1)
    ]
    host = SimulatedHost(AscendHost(chips, family="310P"), **pci_files("0000:b5:00.0"))
    scan = started(host).scan()
    assert [chip.uid for chip in scan.chips] == ["ascend-0000:b5:00.0", "ascend-0000:b5:00.0-1"]
    assert len(scan.values(Metric.TEMPERATURE)) == 2
    assert scan.values(Metric.POWER) == {}
    assert not [command for command in host.commands() if command.startswith("hccn_tool")]


def test_restart_of_the_agent_keeps_names_and_repeats_no_code() -> None:
    boot = {"/proc/sys/kernel/random/boot_id": "b0\n"}
    host = a_host(2)
    host.files = {**host.files, **boot}
    host.ascend.chip(1).codes = [FaultCode("80E01801")]
    before = started(host)
    assert len(before.scan().events) == 1
    cursor = before.cursor()
    assert cursor is not None
    host.ascend.chip(1).has_no_values = True  # its identity cannot be asked any more
    after = started(host)
    after.resume(cursor)
    scan = after.scan()
    assert [chip.uid for chip in scan.chips] == [uid(host, 0), uid(host, 1)]
    assert scan.events == ()
    host.files = {**host.files, "/proc/sys/kernel/random/boot_id": "b1\n"}
    host.ascend.chip(1).has_no_values = False
    rebooted = started(host)
    rebooted.resume(cursor)
    assert len(rebooted.scan().events) == 1


def test_name_that_was_given_out_without_a_die_id_stays() -> None:
    host = a_host(1)
    vdie = host.ascend.chip(0).vdie
    host.ascend.chip(0).vdie = "NA"
    before = started(host)
    (chip,) = before.scan().chips
    assert chip.uid == "ascend-0000:11:00.0"
    host.ascend.chip(0).vdie = vdie
    after = started(host)
    after.resume(before.cursor() or "")
    assert [chip.uid for chip in after.scan().chips] == ["ascend-0000:11:00.0"]


def test_chip_that_was_replaced_is_lost_and_the_new_one_is_there() -> None:
    host = a_host(1)
    before = started(host)
    before.scan()
    cursor, old = before.cursor(), uid(host, 0)
    host.ascend.chip(0).vdie = "5A17C0DE 0000FFFF 13572468 86427531 100002F3"
    after = started(host)
    after.resume(cursor or "")
    assert [chip.uid for chip in after.scan().chips] == [uid(host, 0)]
    assert uid(host, 0) != old


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"uids": 3, "codes": {}, "boot": ""}',
        '{"uids": {}, "codes": {"a": 1}}',
    ],
)
def test_cursor_that_cannot_be_read_is_a_first_start(cursor: str) -> None:
    host = a_host(1)
    collector = started(host)
    collector.resume(cursor)
    assert collector.scan().is_inventory
    assert json.loads(collector.cursor() or "")["uids"]


def test_sixteen_slow_chips_are_named_over_several_scans_within_the_deadline() -> None:
    host = a_host(16)
    for chip in host.ascend.chips:
        chip.hang_seconds = 0.5
    collector = started(host)
    named = 0
    for _ in range(6):
        begun = host.at + PERIOD
        scan = later(collector, host)
        assert host.at - begun < Ascend.deadline_seconds
        assert len(scan.chips) >= named
        named = len(scan.chips)
        assert scan.is_inventory is (named == 16)
    assert named == 16
