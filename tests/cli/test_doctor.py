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
    assert "do: install driver" in out.getvalue()


ALL_RIGHTS, NO_KILL, NO_TRACE = "000001ffffffffff", "0000000400080004", "0000000000000024"
CONFIG = "/etc/chipmedic/agent.toml"


@pytest.mark.parametrize(
    ("jobs", "rights", "expected"),
    [
        ("", ALL_RIGHTS, []),
        ("[jobs]\nallow = []", NO_KILL, []),
        ('[jobs]\nallow = ["leave"]', ALL_RIGHTS, [("ok", "CAP_KILL"), ("ok", "CAP_SYS_PTRACE")]),
        ('[jobs]\nallow = ["restart"]', NO_KILL, [("gap", "CAP_KILL"), ("ok", "CAP_SYS_PTRACE")]),
        ('[jobs]\nallow = ["leave"]', NO_TRACE, [("ok", "CAP_KILL"), ("gap", "CAP_SYS_PTRACE")]),
        ('[jobs]\nallow = ["checkpoint"]', NO_KILL, [("gap", "CAP_KILL")]),
        ('[jobs]\nallow = ["checkpoint"]\ncheckpoint_signal = ""', NO_KILL, []),
        ('[jobs]\nallow = ["leave"]', None, [("note", "acts on jobs")]),
        ('[jobs]\nallow = "leave"', NO_KILL, []),  # the configuration's check tells of that
        ("[jobs", NO_KILL, []),
    ],
)
def test_what_acts_on_jobs_need_is_looked_for_at_the_agent_that_runs(
    jobs: str, rights: str | None, expected: list[tuple[str, str]]
) -> None:
    files = {CONFIG: jobs, "/proc/9/cmdline": "/usr/bin/python3\0train.py\0"}
    if rights is not None:
        files["/proc/71/cmdline"] = (
            "/opt/chipmedic/bin/python3\0/opt/chipmedic/bin/chipmedic-agent\0"
        )
        files["/proc/71/status"] = f"Name:\tpython3\nCapPrm:\t0\nCapEff:\t{rights}\n"
    found = [f for f in doctor.examine(FakeHost(files=files)) if f.area == "jobs"]
    assert [(f.state, f.what) for f in found] == expected
    assert all(f.remedy for f in found if f.state != "ok")


def test_collectors_without_work_share_a_line_and_the_end_sums_up() -> None:
    findings = [
        doctor.Finding("collectors", "amd", doctor.OK, "not on this host"),
        doctor.Finding("collectors", "host", doctor.OK, "runs every 15 s on this host"),
        doctor.Finding("collectors", "intel", doctor.OK, "not on this host"),
    ]
    out = io.StringIO()
    doctor.show(findings, Console(file=out, width=200))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines[0] == "ok collectors: host runs every 15 s on this host"
    assert lines[1] == "ok collectors: not on this host amd, intel"
    assert lines[-1].startswith("no gap")
    gap = doctor.Finding("chips", "x", doctor.GAP, "y", "z")
    doctor.show([*findings, gap], Console(file=out, width=200))
    assert "1 of 4 checks found a gap" in out.getvalue()


@pytest.mark.parametrize("vendor", ["0xcabc", "0x9999", "0x1ed5", "0x1e3e", "0x1e36", "0x1ee0"])
def test_chips_of_the_smaller_vendors_are_known_too(vendor: str) -> None:
    folder = "/sys/bus/pci/devices/0000:1a:00.0"
    host = FakeHost(files={f"{folder}/vendor": f"{vendor}\n", f"{folder}/class": "0x120000\n"})
    (found, missing) = (f for f in doctor.examine(host) if f.area == "chips")
    assert found.detail == "1 on the PCI bus"
    assert missing.state == doctor.GAP
