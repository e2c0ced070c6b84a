"""The collectors of the six smaller vendors on a machine that answers from tables."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from chipmedic import Component, ComponentKind, GapReason, Metric
from chipmedic.errors import ChipmedicError, ToolBlocked
from chipmedic.host import Answer
from chipmedic.testing import FakeHost
from chipmedic_collectors.biren import Biren
from chipmedic_collectors.cambricon import Cambricon
from chipmedic_collectors.enflame import Enflame
from chipmedic_collectors.iluvatar import Iluvatar
from chipmedic_collectors.metax import MetaX
from chipmedic_collectors.mthreads import MooreThreads
from chipmedic_collectors.tool_collector import ToolCollector
from vendor_readings import recorded

IXSMI = """<ixsmi_log><driver_version>4.4.2</driver_version><attached_gpus>2</attached_gpus>
<gpu id="00000000:36:00.0"><product_name>Iluvatar MR-V100 DUO</product_name>
<serial>242600999</serial><uuid>GPU-36</uuid><minor_number>0</minor_number>
<memory_usage><total>32768 MiB</total><used>68 MiB</used></memory_usage>
<utilization><gpu_util>41 %</gpu_util></utilization>
<temperature><gpu_temp>38 C</gpu_temp></temperature><processes></processes></gpu>
<gpu id="00000000:39:00.0"><product_name>Iluvatar MR-V100 DUO</product_name>
<serial>242600999</serial><uuid>GPU-39</uuid><minor_number>1</minor_number>
<memory_usage><total>32768 MiB</total><used>68 MiB</used></memory_usage>
<utilization><gpu_util>0 %</gpu_util></utilization>
<temperature><gpu_temp>37 C</gpu_temp></temperature><processes></processes></gpu>
</ixsmi_log>
"""
BIREN = (
    "0, Biren 166M, BR-0, 00000000:41:00.0, 50, 100, 65536, 44\n"
    "1, Biren 166M, BR-1, 00000000:42:00.0, 0, 100, 65536, 40\n"
)


@dataclass(frozen=True)
class Case:
    """One vendor: its collector, the commands it needs, and what the first of two chips shows."""

    kind: type[ToolCollector]
    vendor_id: str
    tools: dict[str, str]
    addresses: tuple[str, ...]
    uid: str
    celsius: float


CASES = {
    "cambricon": Case(
        Cambricon,
        "0xcabc",
        {"cnmon": recorded("cnmon-mlu590-6.5.txt")},
        ("0000:64:00.0", "0000:65:00.0"),
        "cambricon-0000:64:00.0",
        51,
    ),
    "metax": Case(
        MetaX,
        "0x9999",
        {
            "mx-smi": recorded("mx-smi-table-c500-2.2.5-unavailable.txt"),
            "mx-smi -L": (
                "GPU#0 MXC500 0000:0a:00.0 Available (UUID: GPU-0a)\n"
                "GPU#2 MXC500 0000:0c:00.0 Available (UUID: GPU-0c)\n"
            ),
            "mx-smi --count-ecc": (
                "GPU#0 MXC500 0000:0a:00.0\n  ECC Errors\n    SRAM Correctable : 3\n"
            ),
        },
        ("0000:0a:00.0", "0000:0c:00.0"),
        "GPU-0a",
        46,
    ),
    "mthreads": Case(
        MooreThreads,
        "0x1ed5",
        {"mthreads-gmi": recorded("mthreads-gmi-s5000-2.4.txt")},
        ("0000:19:00.0", "0000:3b:00.0"),
        "mthreads-0000:19:00.0",
        58,
    ),
    "iluvatar": Case(
        Iluvatar, "0x1e3e", {"ixsmi": IXSMI}, ("0000:36:00.0", "0000:39:00.0"), "GPU-36", 38
    ),
    "enflame": Case(
        Enflame,
        "0x1e36",
        {"efsmi": recorded("efsmi-s60g-1.6.txt"), "efsmi -q": ""},
        ("0000:2f:00.0", "0000:30:00.0"),
        "A099K30520099",
        36,
    ),
    "biren": Case(Biren, "0x1ee0", {"brsmi": BIREN}, ("0000:41:00.0", "0000:42:00.0"), "BR-0", 44),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def machine(
    case: Case, *more: str, tools: dict[str, str | Answer | ChipmedicError] | None = None
) -> FakeHost:
    """Return a machine with the vendor's chips at these addresses and those of the case."""
    files: dict[str, str | OSError] = {}
    for address in (*case.addresses, *more):
        folder = f"/sys/bus/pci/devices/{address}"
        files |= {f"{folder}/vendor": case.vendor_id, f"{folder}/class": "0x120000"}
        files |= {f"{folder}/device": "0x0001", f"{folder}/uevent": ""}
    return FakeHost(case.tools if tools is None else tools, files)


def collector(case: Case, host: FakeHost) -> ToolCollector:
    found = case.kind.discover(host)
    assert found is not None
    return found


def test_chips_are_read(case: Case) -> None:
    scan = collector(case, machine(case)).scan()
    assert scan.is_inventory
    first = Component(ComponentKind.CHIP, case.uid)
    assert scan.chips[0].component == first
    assert scan.values(Metric.PRESENT)[first] == 1.0
    assert scan.values(Metric.TEMPERATURE)[first] == case.celsius
    assert len({chip.uid for chip in scan.chips}) == 2
    assert scan.events == ()


def test_chip_on_the_bus_that_the_tool_does_not_show_is_lost(case: Case) -> None:
    scan = collector(case, machine(case, "0000:f1:00.0")).scan()
    lost = Component(ComponentKind.CHIP, f"{case.kind.vendor}-0000:f1:00.0")
    assert scan.values(Metric.PRESENT)[lost] == 0.0


def test_tool_that_hangs_is_a_gap_of_each_chip(case: Case) -> None:
    host = machine(case)
    polled = collector(case, host)
    known = {chip.component for chip in polled.scan().chips}
    host.tools = dict.fromkeys(case.tools, ToolBlocked("no answer in 10 s"))
    host.at += 15
    scan = polled.scan()
    assert scan.readings == ()
    assert {gap.component for gap in scan.gaps} >= known
    assert {gap.reason for gap in scan.gaps} == {GapReason.TIMED_OUT}


def test_chips_without_their_tool_are_here_and_said_to_be_without(case: Case) -> None:
    scan = collector(case, machine(case, tools={})).scan()
    assert [event.code for event in scan.events] == [f"{case.kind.vendor}:tool:tool_missing"]
    assert scan.readings == ()


def test_silence_with_success_is_no_health(case: Case) -> None:
    empty: dict[str, str | Answer | ChipmedicError] = {
        tool: Answer("", "", 0) for tool in case.tools
    }
    scan = collector(case, machine(case, tools=empty)).scan()
    assert [event.code for event in scan.events] == [f"{case.kind.vendor}:tool:malformed"]
    assert not scan.is_inventory


def test_sound_function_of_a_card_is_no_chip(case: Case) -> None:
    host = machine(case)
    host.files = {
        path: "0x040300" if path.endswith("/class") else text for path, text in host.files.items()
    }
    assert case.kind.discover(host) is None


def test_silent_row_is_no_healthy_chip() -> None:
    case = CASES["cambricon"]
    scan = collector(case, machine(case)).scan()
    silent = Component(ComponentKind.CHIP, "cambricon-0000:65:00.0")
    assert (silent, None) in {(gap.component, gap.metric) for gap in scan.gaps}
    assert silent not in scan.values(Metric.PRESENT)


def test_metax_list_tells_what_the_table_does_not() -> None:
    case = CASES["metax"]
    gone = "GPU#0 MXC500 0000:0a:00.0 Available (UUID: GPU-0a)\n" + (
        "GPU#2 MXC500 0000:0c:00.0 Not Available(MetaX Sysfs File Unaccessible)\n"
    )
    host = machine(case)
    polled = collector(case, host)
    scan = polled.scan()
    good, bad = (chip.component for chip in scan.chips)
    assert scan.values(Metric.HEALTH) == {good: 0.0, bad: 2.0}
    assert scan.values(Metric.ECC_CORRECTED) == {good: 3.0}
    host.tools = {**case.tools, "mx-smi -L": gone}
    host.at += 90
    assert polled.scan().values(Metric.PRESENT) == {good: 1.0, bad: 0.0}
