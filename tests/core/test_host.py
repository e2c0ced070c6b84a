"""The door to the machine: tools that answer, hang, and leave something behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from chipmedic.errors import ToolBlocked, ToolFailed, ToolMissing
from chipmedic.heap import give_back
from chipmedic.host import OUTPUT_BYTES_MAX, Answer, LinuxHost
from waiting import PATIENCE_SECONDS, until

HOST = LinuxHost()


def shell(script: str, seconds: float = 1.0) -> Answer:
    return HOST.run(["sh", "-c", script], timeout_seconds=seconds)


def is_running(pid_file: Path) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while not pid_file.exists() or not pid_file.read_text().strip():
        assert time.monotonic() < end
        time.sleep(0.01)
    try:
        state = Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text().rpartition(")")[2]
    except FileNotFoundError:
        return False
    return state.split()[0] not in "ZX"


def test_what_a_tool_wrote_and_how_it_ended() -> None:
    assert shell("echo out; echo err >&2; exit 3", 10) == Answer("out\n", "err\n", 3)


def test_no_such_tool_and_one_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="not installed"):
        HOST.run(["no-such-tool"], timeout_seconds=1)
    with pytest.raises(ToolFailed, match="Permission denied"):
        HOST.run([str(tmp_path)], timeout_seconds=1)


def test_a_tool_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(ToolBlocked, match="killed with its process group") as blocked:
        shell(f"sleep 3600 & echo $! > {tmp_path}/pid; sleep 3600")
    assert blocked.value.abandoned_pid is None
    until(lambda: not is_running(tmp_path / "pid"))


def test_a_tool_that_cannot_be_killed_is_left_alone_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the kernel's D state: the signal is sent and nothing happens."""
    sent: list[tuple[int, int]] = []
    kill = os.killpg
    monkeypatch.setattr("os.killpg", lambda group, number: sent.append((group, number)))
    monkeypatch.setattr("chipmedic.host.REAP_SECONDS", 0.2)
    host = LinuxHost()
    with pytest.raises(ToolBlocked, match=r"abandoned, cannot be killed \(pid \d+") as blocked:
        host.run(["sleep", "3600"], timeout_seconds=0.3)
    pid = blocked.value.abandoned_pid
    assert pid is not None
    assert sent == [(pid, signal.SIGKILL)]
    assert (dict(host.stuck.killed), dict(host.stuck.abandoned)) == ({}, {"sleep": 1})
    kill(pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE_SECONDS
    while Path(f"/proc/{pid}").exists():  # it is no zombie for ever
        assert time.monotonic() < end
        host.run(["true"], timeout_seconds=10)


def test_a_tool_that_was_killed_is_counted_by_its_name() -> None:
    host = LinuxHost()
    for _ in range(2):
        with pytest.raises(ToolBlocked):
            host.run(["/bin/sleep", "3600"], timeout_seconds=0.1)
    host.run(["/bin/true"], timeout_seconds=10)
    assert (dict(host.stuck.killed), dict(host.stuck.abandoned)) == ({"sleep": 2}, {})


def test_a_tool_that_answered_and_left_a_daemon_behind_has_answered() -> None:
    answer = shell("echo whole; setsid sleep 8 & exit 0")
    assert answer == Answer("whole\n", "", 0)


def test_a_daemon_that_holds_the_output_of_a_killed_tool_is_no_dead_driver() -> None:
    with pytest.raises(ToolBlocked, match="killed with its process group") as blocked:
        shell("setsid sleep 8 & sleep 3600")
    assert blocked.value.abandoned_pid is None


def test_a_tool_that_prints_for_ever_is_killed_before_it_takes_the_memory() -> None:
    host = LinuxHost()
    for script in ("yes", "yes >&2", "yes & sleep 3600"):
        with pytest.raises(ToolFailed, match=r"sh: wrote more than 8 MiB; killed with its process"):
            host.run(["sh", "-c", script], timeout_seconds=60)
    assert host.stuck.killed == {"sh": 3}


def test_what_is_just_not_too_much_is_read_whole() -> None:
    answer = shell(f"head -c {OUTPUT_BYTES_MAX} /dev/zero | tr '\\0' x; echo err >&2", 60)
    assert (len(answer.stdout), answer.stderr) == (OUTPUT_BYTES_MAX, "err\n")


@pytest.mark.parametrize(
    "script",
    [
        "trap '' TERM HUP INT; sleep 3600 & sleep 3600 & wait",  # ignores every polite signal
        "exec >&- 2>&-; sleep 3600",  # closes its output and goes on
        "while :; do echo x; sleep 0.1; done",  # goes on talking
        "sh -c 'sh -c \"sleep 3600; echo late\"'; true",
    ],
)
def test_whatever_hangs_ends_at_the_deadline(script: str) -> None:
    with pytest.raises(ToolBlocked, match=r"no answer in 0\.5 s; killed with its process group"):
        shell(script, 0.5)


def test_files_of_a_root_are_listed_and_read(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/0000:1a:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_bytes(b"0x10de\xff\n")
    (tmp_path / "sys/bus/other").mkdir()
    host = LinuxHost(str(tmp_path))
    assert host.glob("/sys/bus/*") == ["/sys/bus/0000:1a:00.0", "/sys/bus/other"]
    assert host.glob("/sys/bus/*/vendor") == ["/sys/bus/0000:1a:00.0/vendor"]
    assert host.glob("/sys/none/*") == []
    assert host.read("/sys/bus/0000:1a:00.0/vendor") == "0x10de\N{REPLACEMENT CHARACTER}\n"
    assert host.path("/x/y") == f"{tmp_path}/x/y"
    with pytest.raises(FileNotFoundError):
        host.read("/sys/none")
    with pytest.raises(IsADirectoryError):
        host.read("/sys/bus")


def test_the_real_root_and_files_without_a_size() -> None:
    assert HOST.path("/proc/self/stat") == "/proc/self/stat"
    assert HOST.glob("/proc/self/stat") == ["/proc/self/stat"]
    assert HOST.read("/proc/self/stat").startswith(f"{os.getpid()} ")


def test_free_memory_is_given_back_where_the_c_library_can() -> None:
    assert give_back() in (True, False)
