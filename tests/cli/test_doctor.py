"""What `chipmedic doctor` says of a host."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from chipmedic.errors import ToolBlocked
from chipmedic.host import Answer
from chipmedic.testing import FakeHost
from chipmedic_cli import doctor

GPU = {
    "/sys/bus/pci/devices/0000:1a:00.0/vendor": "0x10de\n",
    "/sys/bus/pci/devices/0000:1a:00.0/class": "0x030200\n",
}
BROKEN = Answer("NVIDIA-SMI has failed because it couldn't communicate\n", "", 9)
GOOD = "NVIDIA-SMI version  : 570.158.01\n"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (FakeHost(), [("note", "none: no PCI device")]),
        (FakeHost(files=GPU, tools={"nvidia-smi": GOOD}), [("ok", "1 on"), ("ok", "NVIDIA-SMI")]),
        (FakeHost(files=GPU), [("ok", "1 on"), ("gap", "nvidia-smi: not installed")]),
        (
            FakeHost(files=GPU, tools={"nvidia-smi": BROKEN}),
            [("ok", "1 on"), ("gap", "nvidia-smi --version: exit status 9")],
        ),
        (
            FakeHost(files=GPU, tools={"nvidia-smi": ToolBlocked("nvidia-smi: no answer in 10 s")}),
            [("ok", "1 on"), ("gap", "nvidia-smi: no answer in 10 s")],
        ),
        (FakeHost(tools={"npu-smi": ""}), [("note", "none on the PCI"), ("gap", "npu-smi -v:")]),
    ],
)
def test_chips_and_tools(host: FakeHost, expected: list[tuple[str, str]]) -> None:
    found = [f for f in doctor.examine(host) if f.area == "chips"]
    assert [f.state for f in found] == [state for state, _ in expected]
    for finding, (_, start) in zip(found, expected, strict=True):
        assert finding.detail.startswith(start)
        assert finding.remedy or finding.state == "ok"


def test_every_gap_has_a_remedy_and_hurts() -> None:
    findings = doctor.examine(FakeHost(files=GPU))
    gaps = [finding for finding in findings if finding.state == doctor.GAP]
    assert gaps
    assert all(gap.remedy for gap in gaps)
    assert doctor.is_hurting(findings)


def test_what_is_shown_holds_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    doctor.show(doctor.examine(FakeHost(files=GPU)), console)
    assert "nvidia-smi: not installed" in out.getvalue()
    assert "do install driver" in out.getvalue()
