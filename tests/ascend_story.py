"""An Ascend host of the simulator, steps of stories about it, and answers of its tools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence

from chipmedic import Component, ComponentKind, GapReason, Metric, Scan
from chipmedic.errors import ToolBlocked
from chipmedic.host import Answer
from chipmedic.model import collector_component
from chipmedic.testing import FakeHost
from chipmedic.tool_report import ProblemKind, ToolReport, ToolRun
from chipmedic_collectors.ascend import Ascend
from chipmedic_collectors.ascend.tools import read
from chipmedic_simulator.ascend_tools import AscendHost, hccn_tool, npu_smi

PERIOD = Ascend.period_seconds
COLLECTOR = collector_component("ascend")
DEVICES = "/sys/bus/pci/devices"


class _Hung(Exception):
    """The simulated tool waits for longer than it is given."""


class SimulatedHost(FakeHost):
    """A host whose npu-smi and hccn_tool are the simulator's, in this process; time is `at`."""

    def __init__(self, ascend: AscendHost, **files: str) -> None:
        super().__init__(tools={"npu-smi": "", "hccn_tool": ""}, files=dict(files))
        self.ascend = ascend

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        del env
        self.ran.append(tuple(argv))
        main = {"npu-smi": npu_smi.main, "hccn_tool": hccn_tool.main}[argv[0]]
        out, err = io.StringIO(), io.StringIO()

        def sleep(seconds: float) -> None:
            self.at += min(seconds, timeout_seconds)
            if seconds >= timeout_seconds:
                raise _Hung

        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(argv[1:], host=self.ascend, sleep=sleep)
        except _Hung:
            raise ToolBlocked(f"{argv[0]}: no answer in {timeout_seconds:g} s") from None
        return Answer(out.getvalue(), err.getvalue(), code)

    def commands(self) -> list[str]:
        """Return what was run since the last time."""
        lines = [" ".join(argv) for argv in self.ran]
        self.ran.clear()
        return lines


def pci_files(*addresses: str, vendor: str = "0x19e5", device: str = "0xd802") -> dict[str, str]:
    files: dict[str, str] = {}
    for address in addresses:
        folder = f"{DEVICES}/{address}"
        files |= {
            f"{folder}/class": "0x120000\n",
            f"{folder}/vendor": f"{vendor}\n",
            f"{folder}/device": f"{device}\n",
            f"{folder}/uevent": "DRIVER=devdrv_device_driver\nPCI_CLASS=120000\n",
        }
    return files


def a_host(count: int = 3, **fields: object) -> SimulatedHost:
    ascend = AscendHost.simulated(count, **fields)
    return SimulatedHost(ascend, **pci_files(*(chip.pci.lower() for chip in ascend.chips)))


def started(host: SimulatedHost) -> Ascend:
    collector = Ascend.discover(host)
    assert collector is not None
    return collector


def later(collector: Ascend, host: SimulatedHost, seconds: float = PERIOD) -> Scan:
    host.at += seconds
    return collector.scan()


def uid(host: SimulatedHost, npu: int, die: int = 0) -> str:
    return host.ascend.chip(npu, die).vdie.replace(" ", "-")


def component(host: SimulatedHost, npu: int, die: int = 0) -> Component:
    return Component(ComponentKind.CHIP, uid(host, npu, die))


def gaps(scan: Scan) -> dict[tuple[Component, Metric | None], GapReason]:
    return {(gap.component, gap.metric): gap.reason for gap in scan.gaps}


def answer(
    text: str, command: str = "npu-smi info", *, stderr: str = "", exit_code: int | None = 0
) -> ToolReport:
    return read(ToolRun(command.split(), text, stderr, exit_code))


def kinds(report: ToolReport) -> set[ProblemKind]:
    return {problem.kind for problem in report.problems}
