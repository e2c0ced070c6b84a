"""`chipmedic doctor --timing`: what each call of each collector costs on this host.

Every collector that finds its source here scans a few times, each in a thread of its own that may
be given up. Tools and files are timed at the door to the machine, the calls of a library by the
collector that makes them. The clock that collectors see is moved on between two scans, so that each
scan asks what is otherwise spread over minutes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import EntryPoint
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from chipmedic.collector import Collector
from chipmedic.errors import CollectError
from chipmedic.host import Answer, Host
from chipmedic_agent.registry import Broken, Found, discover, installed_collectors

SCANS = 3
STEP_SECONDS = 61.0
"""How far the collectors' clock moves between two scans: what is asked once a minute is due."""
PATIENCE_SECONDS = 5.0
"""How much longer than its own deadlines a collector may take before it is given up."""
ONE_CALLER = frozenset({"ascend"})
"""Collectors whose tools serve one caller at a time: not measured beside a running agent."""
FILES_READ, FILES_LISTED = "files: read", "files: list"

_NUMBERS = re.compile(r"\d+(?:,\d+)*")
_PCI = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCost:
    """What one kind of call has cost, in seconds of wall time."""

    call: str
    """A command line with its numbers as `N`, a library's function, or a kind of file access."""
    times: int
    total_seconds: float
    slowest_seconds: float
    failed: int = 0

    @property
    def mean_seconds(self) -> float:
        """The usual cost."""
        return self.total_seconds / self.times


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorCost:
    """What a collector has cost."""

    collector: str
    period_seconds: float = 0.0
    scan_seconds: tuple[float, ...] = ()
    """Each scan; the first one opens what the others find open."""
    calls: tuple[CallCost, ...] = ()
    """Cheapest first."""
    trouble: str = ""


@dataclass(slots=True)
class _Spent:
    seconds: list[float] = field(default_factory=list)
    failed: int = 0


class TimedHost:
    """A `Host` that notes what each call through it costs, and whose clock can be moved on."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._spent: dict[str, _Spent] = {}
        self.ahead_seconds = 0.0

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        """See `Host.run`."""
        return self._timed(
            command_of(argv),
            lambda: self._host.run(argv, timeout_seconds=timeout_seconds, env=env),
        )

    def which(self, program: str) -> str | None:
        """See `Host.which`."""
        return self._host.which(program)

    def read(self, path: str) -> str:
        """See `Host.read`."""
        return self._timed(FILES_READ, lambda: self._host.read(path))

    def glob(self, pattern: str) -> list[str]:
        """See `Host.glob`."""
        return self._timed(FILES_LISTED, lambda: self._host.glob(pattern))

    def path(self, path: str) -> str:
        """See `Host.path`."""
        return self._host.path(path)

    def now(self) -> float:
        """See `Host.now`."""
        return self._host.now() + self.ahead_seconds

    def costs(self) -> list[CallCost]:
        """Return what was spent."""
        return [
            CallCost(
                call=call,
                times=len(spent.seconds),
                total_seconds=sum(spent.seconds),
                slowest_seconds=max(spent.seconds),
                failed=spent.failed,
            )
            for call, spent in self._spent.items()
        ]

    def _timed(self, call: str, act: Callable[[], Result]) -> Result:
        spent = self._spent.setdefault(call, _Spent())
        began = time.perf_counter()
        try:
            return act()
        except (OSError, CollectError):
            spent.failed += 1
            raise
        finally:
            spent.seconds.append(time.perf_counter() - began)


def command_of(argv: Sequence[str]) -> str:
    """Return a command line that is the same for every chip: numbers as `N`, addresses as `PCI`."""
    program, *words = argv
    shown = [_PCI.sub("PCI", word) for word in words]
    shown = ["N" if _NUMBERS.fullmatch(word) else word for word in shown]
    return " ".join([program.rpartition("/")[2], *shown])


def measure(
    host: Host,
    *,
    scans: int = SCANS,
    is_agent_here: bool = False,
    entries: Mapping[str, EntryPoint] | None = None,
) -> list[CollectorCost]:
    """Let every collector of this host scan, and return what it cost, by name."""
    measured = []
    for name, entry in sorted((installed_collectors() if entries is None else entries).items()):
        if is_agent_here and name in ONE_CALLER:
            words = "left out: its tools serve one caller, and that is the agent; stop it first"
            measured.append(CollectorCost(collector=name, trouble=words))
            continue
        measured += _one(name, entry, host, scans)
    return measured


def _one(name: str, entry: EntryPoint, host: Host, scans: int) -> list[CollectorCost]:
    """Measure one collector in a thread that is left behind when it does not come back.

    One thread for all of it: a child process that dies with its parent dies with this thread.
    """
    timed = TimedHost(host)
    found: list[CollectorCost] = []
    deadline: list[float] = []
    began = threading.Event()

    def work() -> None:
        match discover(entry, timed):
            case Found(collector):
                deadline.append(collector.deadline_seconds)
                began.set()
                found.append(_scan(name, collector, timed, scans))
            case Broken(detail):
                found.append(CollectorCost(collector=name, trouble=detail))
        began.set()

    thread = threading.Thread(target=work, name=f"timing-{name}", daemon=True)
    thread.start()
    began.wait(Collector.deadline_seconds + PATIENCE_SECONDS)
    thread.join(PATIENCE_SECONDS + sum(deadline) * (scans + 1))
    if thread.is_alive():
        return [CollectorCost(collector=name, trouble="does not come back; given up")]
    return found


def _scan(name: str, collector: Collector, timed: TimedHost, scans: int) -> CollectorCost:
    seconds: list[float] = []
    library: list[CallCost] = []
    trouble = ""
    try:
        for _ in range(scans):
            began = time.perf_counter()
            collector.scan()
            seconds.append(time.perf_counter() - began)
            timed.ahead_seconds += STEP_SECONDS
        library = _library(collector)
    except CollectError as e:
        trouble = str(e)
    except Exception as e:  # noqa: BLE001 - the wall around foreign code
        trouble = f"{type(e).__name__}: {e}"
    finally:
        collector.close()
    calls = sorted([*timed.costs(), *library], key=lambda cost: cost.mean_seconds)
    return CollectorCost(
        collector=name,
        period_seconds=collector.period_seconds,
        scan_seconds=tuple(seconds),
        calls=tuple(calls),
        trouble=trouble,
    )


def _library(collector: Collector) -> list[CallCost]:
    return [
        CallCost(
            call=call,
            times=timing.calls,
            total_seconds=timing.total_microseconds / 1e6,
            slowest_seconds=timing.slowest_microseconds / 1e6,
        )
        for call, timing in collector.timings().items()
        if timing.calls
    ]


def to_json(costs: Iterable[CollectorCost]) -> list[dict[str, Any]]:
    """Return the costs for programs."""
    return [asdict(cost) for cost in costs]


def show(costs: Iterable[CollectorCost], console: Console | None = None) -> None:
    """Print a table per collector: the scan as a whole, then its calls, cheapest first."""
    console = console or Console(highlight=False)
    for cost in costs:
        console.print(_title(cost), soft_wrap=True, markup=False)
        if not cost.calls:
            continue
        table = Table("call", box=None, padding=(0, 2), pad_edge=True)
        for heading in ("times", "mean ms", "slowest ms", "total ms", "failed"):
            table.add_column(heading, justify="right")
        for call in cost.calls:
            table.add_row(
                call.call,
                str(call.times),
                _milliseconds(call.mean_seconds),
                _milliseconds(call.slowest_seconds),
                _milliseconds(call.total_seconds),
                str(call.failed or ""),
            )
        console.print(table, markup=False)
    console.print(
        "A scan here asks everything that is otherwise spread over a minute. Times are of the\n"
        "clock on the wall: most of it is waiting. failed: answered with an error, most often\n"
        "because this host does not have it.",
        soft_wrap=True,
    )


def _title(cost: CollectorCost) -> str:
    words = [cost.collector]
    if cost.scan_seconds:
        first, *rest = cost.scan_seconds
        words.append(f"first scan {_milliseconds(first)} ms")
        if rest:
            words.append(f"then {_milliseconds(sum(rest) / len(rest))} ms")
        words.append(f"scans every {cost.period_seconds:g} s")
        if rest:
            share = 100 * sum(rest) / len(rest) / cost.period_seconds
            words.append(f"so at work for at most {share:.2g} % of the time")
    return ", ".join([*words, *([cost.trouble] if cost.trouble else [])])


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"
