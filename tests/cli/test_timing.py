"""What `chipmedic doctor --timing` measures, and that no collector can hold it up."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import ClassVar, Self

import pytest
from rich.console import Console

from chipmedic import Collector, Host, Scan
from chipmedic.collector import CallTiming
from chipmedic.errors import ToolBlocked, ToolFailed, ToolMissing
from chipmedic.host import Answer
from chipmedic.testing import FakeHost
from chipmedic_cli import timing


class SlowHost(FakeHost):
    """Tools take time here."""

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        time.sleep(0.02)
        return super().run(argv, timeout_seconds=timeout_seconds, env=env)


class Asks(Collector):
    """Asks two chips, each time it scans, and one slow question once a minute."""

    vendor = "x"
    period_seconds: ClassVar[float] = 7.0

    def __init__(self, host: Host) -> None:
        self._host = host
        self._asked_at = -1e9

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        return cls(host) if host.which("tool") else None

    def scan(self) -> Scan:
        at = self._host.now()
        for index in ("0", "12"):
            self._host.run(["/opt/bin/tool", "-i", index, "-t", "ecc"], timeout_seconds=1)
        if at - self._asked_at >= 60:
            self._asked_at = at
            self._host.run(["tool", "--pci", "0000:3b:00.0", "--all"], timeout_seconds=1)
        with contextlib.suppress(OSError):
            self._host.read("/nowhere")
        return Scan(source="x", at=at)

    def timings(self) -> Mapping[str, CallTiming]:
        return {"xGetTemperature": CallTiming(6, 600, 200), "xNever": CallTiming(0, 0, 0)}


class Hangs(Asks):
    """Never comes back."""

    deadline_seconds: ClassVar[float] = 0.05

    def scan(self) -> Scan:
        time.sleep(30)
        raise AssertionError


class Breaks(Asks):
    """Works once."""

    def scan(self) -> Scan:
        self._host.run(["tool"], timeout_seconds=1)
        raise ToolBlocked("tool: no answer in 1 s")


class Defect(Asks):
    """Is wrong itself."""

    def scan(self) -> Scan:
        raise ZeroDivisionError


class Installed(EntryPoint):
    """An entry point of a class of this file, which no installed package names."""

    def load(self) -> type[Collector]:
        found: type[Collector] = globals()[self.attr]
        return found


def entries(**kinds: type[Collector]) -> dict[str, EntryPoint]:
    return {
        name: Installed(name, f"{__name__}:{kind.__name__}", "chipmedic.collectors")
        for name, kind in kinds.items()
    }


HOST = SlowHost(tools={"/opt/bin/tool": "", "tool": ""})


def test_every_kind_of_call_is_measured_cheapest_first() -> None:
    [cost] = timing.measure(HOST, scans=3, entries=entries(x=Asks))
    assert (cost.collector, cost.period_seconds, len(cost.scan_seconds)) == ("x", 7.0, 3)
    calls = {call.call: call for call in cost.calls}
    assert set(calls) == {
        "tool -i N -t ecc",
        "tool --pci PCI --all",
        "files: read",
        "xGetTemperature",
    }
    assert calls["tool -i N -t ecc"].times == 6  # two chips, three scans
    assert calls["tool --pci PCI --all"].times == 3  # due each time: the clock is moved on
    assert calls["tool -i N -t ecc"].mean_seconds >= 0.02
    assert calls["files: read"].failed == 3
    assert calls["xGetTemperature"].total_seconds == pytest.approx(600e-6)
    means = [call.mean_seconds for call in cost.calls]
    assert means == sorted(means)


@pytest.mark.parametrize(
    ("kind", "trouble"), [(Breaks, "tool: no answer in 1 s"), (Defect, "ZeroDivisionError")]
)
def test_a_collector_that_fails_says_why_and_shows_what_it_cost(
    kind: type[Collector], trouble: str
) -> None:
    costs = timing.measure(HOST, entries=entries(broken=kind, x=Asks))
    assert [cost.collector for cost in costs] == ["broken", "x"]
    assert costs[0].trouble.startswith(trouble)
    assert costs[1].calls


def test_a_collector_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PATIENCE_SECONDS", 0.1)
    hung, good = timing.measure(HOST, entries=entries(hangs=Hangs, x=Asks))
    assert "given up" in hung.trouble
    assert good.calls


def test_a_source_that_is_not_here_is_not_shown() -> None:
    assert timing.measure(FakeHost(), entries=entries(x=Asks)) == []


def test_a_tool_for_one_caller_is_left_to_the_agent() -> None:
    host = SlowHost(tools={"/opt/bin/tool": "", "tool": ""})
    [cost] = timing.measure(host, entries=entries(ascend=Asks), is_agent_here=True)
    assert "left out" in cost.trouble
    assert host.ran == []
    [cost] = timing.measure(host, entries=entries(ascend=Asks))
    assert cost.calls


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (
            ["/usr/local/sbin/npu-smi", "info", "-t", "ecc", "-i", "2144"],
            "npu-smi info -t ecc -i N",
        ),
        (["xpu-smi", "stats", "-d", "0", "-e", "--json"], "xpu-smi stats -d N -e --json"),
        (["xpu-smi", "dump", "-m", "0,1,2"], "xpu-smi dump -m N"),
        (["nvidia-smi", "-q", "-i", "00000000:3B:00.0"], "nvidia-smi -q -i PCI"),
        (["mx-smi"], "mx-smi"),
    ],
)
def test_one_row_for_all_chips(argv: list[str], command: str) -> None:
    assert timing.command_of(argv) == command


@pytest.mark.parametrize("error", [ToolMissing("x"), ToolFailed("x"), ToolBlocked("x")])
def test_an_error_of_a_tool_is_counted_and_passed_on(error: ToolFailed) -> None:
    timed = timing.TimedHost(FakeHost(tools={"tool": error}))
    with pytest.raises(type(error)):
        timed.run(["tool", "1"], timeout_seconds=1)
    [cost] = timed.costs()
    assert (cost.call, cost.times, cost.failed) == ("tool N", 1, 1)


def test_what_is_shown_and_what_programs_get() -> None:
    costs = timing.measure(HOST, entries=entries(x=Asks, broken=Breaks))
    out = io.StringIO()
    timing.show(costs, Console(file=out, width=200))
    shown = out.getvalue()
    assert "x, first scan" in shown
    assert "scans every 7 s" in shown
    assert "tool -i N -t ecc" in shown
    assert "no answer in 1 s" in shown
    rows = timing.to_json(costs)
    assert {row["collector"] for row in rows} == {"x", "broken"}
    assert rows[1]["calls"][0]["call"]
