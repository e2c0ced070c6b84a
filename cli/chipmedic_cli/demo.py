"""`chipmedic demo`: the whole path on simulated chips, from a fault to a job that runs again.

Only the chips, the scheduler and the job are simulated. Watchdog and agents are the real daemons,
and what is printed as seen was seen through the watchdog's interface and by those who got its
notices.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from chipmedic.errors import ChipmedicError
from chipmedic_cli.client import Client, UsageWrong
from chipmedic_cli.demo_screen import Screen
from chipmedic_cli.demo_story import BROKEN, Story
from chipmedic_cli.demo_witness import Witness
from chipmedic_simulator.cluster import KEEP, create, members
from chipmedic_simulator.configuration import module_argv
from chipmedic_simulator.layout import MARK, Layout, remove

EXIT_FAILED, EXIT_USAGE = 1, 2
LANGUAGES = ("en", "zh")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_SECONDS = 20.0
TAIL_LINES = 8


class Interrupted(Exception):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def run_demo(
    keep: bool = False,
    state: Path | None = None,
    language: str = "en",
    screen: Screen | None = None,
) -> int:
    """Run the demo and return the exit status: 0 only if every act of it was really seen.

    Raises:
        ChipmedicError: the folder or the language cannot be used.
    """
    if language not in LANGUAGES:
        raise UsageWrong(f"--language {language}: allowed are {', '.join(LANGUAGES)}")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    screen = screen or Screen()
    try:
        with _signals(), _folder(state) as folder:
            layout = create(folder, language=language, is_temporary=state is None)
            return _run(layout, screen, keep=keep)
    except Interrupted as e:
        screen.complaint(f"stopped by {e}; nothing is left running")
        return 128 + e.number


def _run(layout: Layout, screen: Screen, *, keep: bool) -> int:
    supervisor = _start(layout)
    is_kept = False
    try:
        with Client(layout.addresses.watchdog) as client:
            status = _tell(Story(layout, Witness(client, layout), screen), layout, screen)
        screen.gap()
        if keep:
            is_kept = _keep(layout, supervisor, screen)
        elif status == 0:
            seconds = screen.since_start()
            screen.line(f"every act was seen; it took {seconds:.0f} s; nothing is left running")
        return status
    finally:
        if not is_kept:
            _stop(layout, supervisor)


def _tell(story: Story, layout: Layout, screen: Screen) -> int:
    try:
        story.tell()
    except ChipmedicError as e:
        screen.gap()
        screen.complaint(str(e))
        _show_logs(layout, screen)
        return EXIT_FAILED
    return 0


def _show_logs(layout: Layout, screen: Screen) -> None:
    """Print the end of each log, for whoever wants to know why."""
    for path in [*sorted(layout.logs.glob("*.log")), *sorted(layout.job.glob("*.log"))]:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines:
            screen.plain(f"--- {path.relative_to(layout.folder)}")
            for line in lines[-TAIL_LINES:]:
                screen.plain(line)


def _start(layout: Layout) -> subprocess.Popen[bytes]:
    """Start the supervisor; it ends with us, as it holds the other end of a pipe."""
    with (layout.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            module_argv("cluster", str(layout.folder)),
            env={**os.environ, MARK: str(layout.folder)},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _stop(layout: Layout, supervisor: subprocess.Popen[bytes]) -> None:
    """End the cluster and wait until nothing of it is left."""
    addresses = layout.addresses
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it
    supervisor.terminate()
    try:
        supervisor.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    for pid in members(layout.folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    remove(layout, addresses)


def _keep(layout: Layout, supervisor: subprocess.Popen[bytes], screen: Screen) -> bool:
    """Let the cluster go on without us, and say how to look at it and how to end it."""
    assert supervisor.stdin is not None  # noqa: S101 - Popen was told so
    supervisor.stdin.write(KEEP)
    supervisor.stdin.close()
    program = shlex.quote(str(Path(sys.argv[0])))
    folder, url = shlex.quote(str(layout.folder)), layout.addresses.watchdog
    screen.line("everything is left running, to be looked at:")
    for words, command in (
        ("the status page", url),
        ("nodes, jobs, incidents", f"{program} status --watchdog {url}"),
        ("what happened", f"{program} incidents list --all --watchdog {url}"),
        ("repair the node", f"{program} inject clear --state {folder} --node {BROKEN}"),
        ("break something", f"{program} inject chip-lost --state {folder} --node gpu-2"),
        ("what can be broken", f"{program} inject --list"),
        ("logs and notices", f"{layout.logs} and {layout.inbox}"),
        ("stop it all", f"kill {supervisor.pid}"),
    ):
        screen.plain(f"  {words:<24}{command}")
    return True


@contextmanager
def _folder(state: Path | None) -> Iterator[Path]:
    """Yield an empty folder; a temporary one is removed by the supervisor, at the very end."""
    if state is None:
        folder = Path(tempfile.mkdtemp(prefix="chipmedic-demo-"))
        try:
            yield folder
        except BaseException:  # also when a signal came before the supervisor was there
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return
    try:
        state.mkdir(parents=True, exist_ok=True)
        is_empty = not any(state.iterdir())
    except OSError as e:
        raise UsageWrong(f"--state {state}: cannot be used: {e.strerror}") from e
    if not is_empty:
        raise UsageWrong(f"--state {state}: is not empty; name a new folder")
    yield state.absolute()


@contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an exception, so that everything is ended in order."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
