"""PCI links of accelerators and NICs in a captured sysfs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.host import LinuxHost
from chipmedic.metric import Metric
from chipmedic.model import HOST, Component, ComponentKind, GapReason
from chipmedic.testing import FakeHost
from chipmedic_collectors.pcie import PcieLinks, read_speed, read_total, read_width

GPU, NIC = "0000:5e:00.0", "0000:61:00.1"
AER = "RxErr 3\nBadTLP 0\nTimeout 2\nTOTAL_ERR_COR 5\n"


def device(address: str, code: str, **files: str | OSError) -> dict[str, str | OSError]:
    folder = f"/sys/bus/pci/devices/{address}"
    given: dict[str, str | OSError] = {
        "class": f"0x{code}00\n",
        "current_link_width": "16\n",
        "max_link_width": "16\n",
        "current_link_speed": "32.0 GT/s PCIe\n",
        "max_link_speed": "32.0 GT/s PCIe\n",
        **files,
    }
    return {f"{folder}/{name}": text for name, text in given.items()}


MACHINE = (
    device(GPU, "0302", current_link_width="8\n", aer_dev_correctable=AER)
    | device(NIC, "0207", aer_dev_fatal="TOTAL_ERR_FATAL 1\n")
    | device("0000:00:1f.2", "0106")
)


def pci(address: str) -> Component:
    return Component(ComponentKind.PCI, address)


def collector(host: FakeHost) -> PcieLinks:
    found = PcieLinks.discover(host)
    assert found is not None
    return found


def test_accelerators_and_nics_are_read_and_nothing_else() -> None:
    scan = collector(FakeHost(files=MACHINE)).scan()
    assert scan.values(Metric.PCIE_WIDTH) == {pci(GPU): 8, pci(NIC): 16}
    assert scan.values(Metric.PCIE_WIDTH_MAX) == {pci(GPU): 16, pci(NIC): 16}
    assert scan.values(Metric.PCIE_SPEED)[pci(GPU)] == 32e9
    assert scan.values(Metric.PCIE_ERRORS_CORRECTABLE) == {pci(GPU): 5}
    assert scan.values(Metric.PCIE_ERRORS_FATAL) == {pci(NIC): 1}
    assert scan.gaps == ()


def test_the_class_of_a_device_is_read_once_while_it_is_on_the_bus() -> None:
    files: dict[str, str | OSError] = {**MACHINE}
    host = FakeHost(files=files)
    links = collector(host)

    def watched() -> set[Component]:
        host.at += 60.0
        return set(links.scan().values(Metric.PCIE_WIDTH))

    name = f"/sys/bus/pci/devices/{GPU}/class"
    assert watched() == {pci(GPU), pci(NIC)}
    code = files.pop(name)
    assert watched() == {pci(GPU), pci(NIC)}
    gone = {path: files.pop(path) for path in list(files) if GPU in path}
    assert watched() == {pci(NIC)}
    files |= gone
    assert watched() == {pci(NIC)}  # back, and does not tell yet what it is
    files[name] = code
    assert watched() == {pci(GPU), pci(NIC)}
    files[name] = "0x010802\n"
    for _ in range(10):
        seen = watched()
    assert seen == {pci(NIC)}


def test_a_narrow_slot_is_no_defect() -> None:
    files = MACHINE | {f"/sys/bus/pci/devices/{GPU}/../max_link_width": "8\n"}
    scan = collector(FakeHost(files=files)).scan()
    assert scan.values(Metric.PCIE_WIDTH_MAX)[pci(GPU)] == 8


def test_the_slot_is_found_through_the_links_of_a_real_sysfs(tmp_path: Path) -> None:
    real = tmp_path / "sys/devices/pci0000:5d/0000:5d:00.0" / GPU
    real.mkdir(parents=True)
    (real.parent / "max_link_width").write_text("4\n")
    for path, text in device(GPU, "0302").items():
        (real / path.rsplit("/", 1)[-1]).write_text(str(text))
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices" / GPU).symlink_to(real)
    found = PcieLinks.discover(LinuxHost(str(tmp_path)))
    assert found is not None
    assert found.scan().values(Metric.PCIE_WIDTH_MAX) == {pci(GPU): 4}


@pytest.mark.parametrize(
    "marks",
    [
        {"/proc/cpuinfo": "flags\t\t: fpu vme hypervisor lahf_lm\n"},
        {"/sys/class/dmi/id/product_name": "KVM Virtual Machine\n"},
    ],
)
def test_a_virtual_machine_says_that_its_links_are_not_real(marks: dict[str, str]) -> None:
    scan = collector(FakeHost(files=MACHINE | marks)).scan()
    assert scan.values(Metric.PCIE_WIDTH) == {}
    assert scan.values(Metric.PCIE_ERRORS_CORRECTABLE) == {pci(GPU): 5}
    (gap,) = scan.gaps
    assert (gap.component, gap.metric) == (HOST, Metric.PCIE_WIDTH)
    assert gap.reason is GapReason.UNSUPPORTED


def test_a_link_that_is_down_or_denied_is_a_gap() -> None:
    files = device(
        GPU, "0302", current_link_width="255\n", current_link_speed="Unknown\n"
    ) | device(NIC, "0200", current_link_width=PermissionError(13, "Permission denied"))
    scan = collector(FakeHost(files=files)).scan()
    reasons = {(gap.component, gap.metric): gap.reason for gap in scan.gaps}
    assert reasons == {
        (pci(GPU), Metric.PCIE_WIDTH): GapReason.UNSUPPORTED,
        (pci(GPU), Metric.PCIE_SPEED): GapReason.UNSUPPORTED,
        (pci(NIC), Metric.PCIE_WIDTH): GapReason.DENIED,
    }


def test_virtual_functions_and_hosts_without_devices_are_left_out() -> None:
    function = device(NIC, "0200", **{"physfn/class": "0x020000\n"})
    assert PcieLinks.discover(FakeHost(files=function)) is None
    assert PcieLinks.discover(FakeHost(files=device("0000:00:1f.2", "0106"))) is None


TEXT = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "TOTAL_ERR_COR ", "RxErr 1\nTOTAL_ERR_COR ", "-"]),
    st.integers(0, 10**400) | st.floats(0, 1e9) | st.text(max_size=20),
    st.sampled_from(["", "\n", " GT/s PCIe\n", " GT/s", "\nTOTAL_ERR_FATAL 7\n"]),
)


@given(TEXT)
def test_what_is_read_of_any_text_is_a_possible_value(text: str) -> None:
    width = read_width(text)
    assert width is None or (0 < width < 255 and int(text) == width)
    speed = read_speed(text)
    assert speed is None or (0 <= speed < math.inf and "GT/s" in text)
    total = read_total(text, "TOTAL_ERR_COR")
    assert total is None or (0 <= total < math.inf and "TOTAL_ERR_COR" in text)
