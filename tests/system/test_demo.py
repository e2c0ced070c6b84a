"""`chipmedic demo` as a person starts it: it ends by itself, shows every act, leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from chipmedic_simulator.layout import MARK, SUPERVISOR
from waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

PROGRAM = [sys.executable, "-c", "from chipmedic_cli.entry import run; run()"]
STAND_IN = {"CHIPMEDIC_SIMULATOR_NVML_STAND_IN": "1"}


class Demo:
    """One run of the demo in a place of its own."""

    def __init__(self, place: Path, *arguments: str, **environment: str) -> None:
        self.place = place
        self._output = (place.parent / f"{place.name}.out").open("w+")
        self.process = subprocess.Popen(
            [*PROGRAM, "demo", *arguments],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(place), "NO_COLOR": "1", **environment},
            start_new_session=True,
        )

    @property
    def text(self) -> str:
        return Path(self._output.name).read_text()

    def until(self, words: str) -> None:
        until(lambda: words in self.text, words, explain=lambda: self.text)

    def wait(self) -> int:
        return self.process.wait(300)  # it gives up by itself before

    def pids(self) -> dict[str, int]:
        (path,) = self.place.rglob("pids.json")
        pids: dict[str, int] = json.loads(path.read_text())
        return pids

    def members(self) -> list[psutil.Process]:
        """Return every process that the demo has started, and those that these have started."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if environment.get(MARK, "").startswith(str(self.place)):
                found.append(process)
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._output.close()
        left = self.members()
        for process in left:
            process.kill()
        assert not left, f"left running: {[process.cmdline() for process in left]}"


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield an empty folder for what is temporary; it must be empty again at the end."""
    with tempfile.TemporaryDirectory(prefix="cm-") as folder:
        inside = Path(folder) / "tmp"
        inside.mkdir()
        yield inside
        until(lambda: not any(inside.iterdir()), f"{inside} is empty again")


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def run(*arguments: str, **environment: str) -> Demo:
        demos.append(Demo(place, *arguments, **environment))
        return demos[-1]

    yield run
    for demo in demos:
        demo.close()


ENDED = r"every act was seen; it took \d+ s; nothing is left running"
KEPT = "everything is left running, to be looked at"


def assert_is_whole(text: str, end: str) -> None:
    """Require each act, in its order."""
    acts = (
        r"\+ *\d+\.\d s  agents of gpu-1, gpu-2, npu-1 are connected",
        r"trains on gpu-1, npu-1: step \d+, checkpoint at step \d0",
        r"FAULT injected on chip 1 of gpu-1",
        r"NOTICE delivered, \d+\.\d s after the fault",
        r"as the person on call gets it",
        r"gpu-1",
        r"NVRM: Xid \(PCI:0000:2b:00\): 48",
        r"chipmedic incidents show inc-00000\d",
        r"gpu-1 is isolated",
        r"trains on gpu-2, npu-1 and is at step \d+: beyond step \d+, where it was",
        r"LEDGER: where every lost second",
        r"\d+\.\d s  detect",
        r"\d+\.\d s  decide",
        r"\d+\.\d s  isolate",
        r"\d+\.\d s  restart",
        r"\d+\.\d s  recompute",
        r"\d+\.\d s  lost in all",
        r"FAULT injected: rank 1 of the job, on gpu-2",
        r"NOTICE delivered, \d+\.\d s after the fault",
        r"rank 1 on gpu-2 is named as the one that did not arrive",
        r"was restarted and is at step \d+",
        r"ALL-CLEAR delivered",
        r"LEDGER of torchrun:pretrain: \d+\.\d s = \d+\.\d s productive \+ .* lost to inc-00000\d",
        end,
    )
    at = 0
    for act in acts:
        found = re.compile(act).search(text, at)
        assert found, f"not told after what came before: {act}\n{text}"
        at = found.end()


def the_ledger_adds_up(text: str) -> None:
    rows = re.findall(r"^\s*(\d+\.\d) s  ([a-z ]+?)(?:  |$)", text, re.MULTILINE)
    parts = {name: float(seconds) for seconds, name in rows}
    total = parts.pop("lost in all")
    assert abs(sum(parts.values()) - total) < 0.06 * len(parts)  # each is rounded to 0.1 s


def test_with_nothing_but_python_and_an_agent_killed_before_it_could_tell(
    start: Callable[..., Demo], place: Path
) -> None:
    """No compiler, no tool on PATH at all, no cache, no network to be asked; and in Chinese."""
    nothing = {"PATH": "/nonexistent", "CC": "", "XDG_CACHE_HOME": str(place.parent / "cache")}
    demo = start("--language", "zh", **nothing)
    demo.until("trains on gpu-1, npu-1")
    os.kill(demo.pids()["agent-gpu-1"], signal.SIGKILL)
    assert demo.wait() == 0, demo.text
    assert "NVML is the stand-in in Python: no C compiler here" in demo.text
    assert "显存" in demo.text
    assert_is_whole(demo.text, ENDED)
    assert demo.members() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(start: Callable[..., Demo], number: signal.Signals) -> None:
    demo = start(**STAND_IN)
    demo.until("are connected")
    assert demo.members()
    demo.process.send_signal(number)
    assert demo.wait() == 128 + number
    assert "nothing is left running" in demo.text
    assert "Traceback" not in demo.text
    assert demo.members() == []


def test_even_killed_it_leaves_nothing(start: Callable[..., Demo]) -> None:
    demo = start(**STAND_IN)
    demo.until("are connected")
    demo.process.kill()
    until(lambda: demo.members() == [], "the cluster ends with its demo")


def test_what_was_not_seen_is_named(start: Callable[..., Demo]) -> None:
    demo = start(**STAND_IN)
    demo.until("FAULT injected on chip 1")
    os.kill(demo.pids()["watchdog"], signal.SIGSTOP)
    assert demo.wait() == 1
    assert re.search(r"chipmedic demo: not seen within \d+ s: ", demo.text)
    assert "--- logs/watchdog.log" in demo.text
    assert demo.members() == []


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False)


def test_with_the_c_library_kept_it_can_be_looked_at_broken_and_stopped(
    start: Callable[..., Demo], place: Path
) -> None:
    folder = place / "kept"
    demo = start("--keep", "--state", str(folder))
    assert demo.wait() == 0, demo.text
    assert "NVML is the fake library" in demo.text
    assert_is_whole(demo.text, KEPT)
    the_ledger_adds_up(demo.text)
    pids = demo.pids()
    url = re.search(r"status --watchdog (http://\S+)", demo.text)
    assert url, demo.text
    here = ("--state", str(folder), "--node")

    status = command("status", "--watchdog", url[1])
    assert status.returncode == 1, status.stderr  # the chip's incident is open
    assert "torchrun:pretrain" in status.stdout

    repaired = command("inject", "clear", *here, "gpu-1")
    assert (repaired.returncode, repaired.stderr) == (0, "")
    until(
        lambda: command("status", "--watchdog", url[1]).returncode == 0,
        "the all-clear of the chip's incident",
        explain=lambda: command("incidents", "list", "--watchdog", url[1]).stdout,
    )

    again = command("inject", "chip-lost", *here, "gpu-2")
    assert again.returncode == 0, again.stderr
    until(
        lambda: "chip.lost" in command("incidents", "list", "--watchdog", url[1], "--json").stdout,
        "an incident of the lost chip",
    )

    os.kill(pids[SUPERVISOR], signal.SIGTERM)
    until(lambda: demo.members() == [], "everything has stopped")
    assert list((folder / "inbox" / "desk").glob("*.json")), "what was delivered stays"
    stopped = command("inject", "thermal", *here, "gpu-2")
    assert stopped.stderr == f"chipmedic: {folder}: the demo there is stopped; start another one\n"
    subprocess.run(["/bin/rm", "-r", str(folder)], check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--language", "fr"), "--language fr: allowed are en, zh"),
        (("--state", "/proc/demo"), "--state /proc/demo: cannot be used: "),
        (("--state", "/usr"), "--state /usr: is not empty; name a new folder"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = command("demo", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"chipmedic: {words}")
    assert done.stderr.count("\n") == 1
