"""Both daemons under a real systemd: ready, watched, restarted, reloaded, stopped, confined."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from system.systemd.container import Container
from system.systemd.supplies import REPOSITORY, Supplies

# The first run builds the root and fetches the wheels.
pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

AGENT, WATCHDOG = "chipmedic-agent", "chipmedic-watchdog"
DAEMONS = (AGENT, WATCHDOG)
AGENT_URL, WATCHDOG_URL = "http://127.0.0.1:9480", "http://127.0.0.1:7480"
AGENT_TOML = """\
node = "n1"
watchdogs = ["127.0.0.1:7443"]
[detectors]
expiry_seconds = 5.0
"""
WATCHDOG_TOML = (REPOSITORY / "systemd" / "watchdog.toml").read_text()
PYTHON = "/opt/chipmedic/bin/python"
CAPABILITIES_OF_AGENT = 1 << 34 | 1 << 19 | 1 << 2
"""CAP_SYSLOG, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH."""
EXPOSURE_MAX = {AGENT: 2.8, WATCHDOG: 1.5}
"""What docs/operations.md says."""


@pytest.fixture(scope="module")
def running(supplies: Supplies, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A host on which the documented command has installed both daemons."""
    with supplies.boot(tmp_path_factory.mktemp("boot") / "console") as container:
        container.command("mkdir", "/etc/chipmedic")
        container.write("/etc/chipmedic/agent.toml", AGENT_TOML)
        container.command(*supplies.install, "agent", "watchdog", seconds=600)
        yield container


@pytest.fixture
def node(running: Container) -> Iterator[Container]:
    """The host with both daemons up, connected and as they were installed, for each test."""
    _wait_until_connected(running)
    yield running
    if _is_as_installed(running):
        return
    running.command("rm", "-rf", *(f"/etc/systemd/system/{d}.service.d" for d in DAEMONS))
    running.write("/etc/chipmedic/agent.toml", AGENT_TOML)
    running.write("/etc/chipmedic/watchdog.toml", WATCHDOG_TOML)
    running.command("systemctl", "daemon-reload")
    running.command("systemctl", "reset-failed")
    running.command("systemctl", "restart", *DAEMONS)


def _is_as_installed(node: Container) -> bool:
    has_drop_in = any(node.show(daemon, "DropInPaths") for daemon in DAEMONS)
    is_own = node.read("/etc/chipmedic/agent.toml") == AGENT_TOML
    is_changed = node.read("/etc/chipmedic/watchdog.toml") != WATCHDOG_TOML
    return is_own and not has_drop_in and not is_changed and all(map(node.is_active, DAEMONS))


def test_ready_enabled_and_well_formed(node: Container) -> None:
    for daemon in DAEMONS:
        assert node.show(daemon, "Type") == "notify"
        assert node.show(daemon, "SubState") == "running"
        assert node.show(daemon, "UnitFileState") == "enabled"
        assert node.show(daemon, "ControlGroup") == f"/chipmedic.slice/{daemon}.service"
    assert node.show(AGENT, "StatusText") == "watching n1; watchdogs: 127.0.0.1:7443"
    units = [f"/etc/systemd/system/{d}.service" for d in DAEMONS]
    verified = node.run("systemd-analyze", "verify", "--man=no", *units)
    assert (verified.code, verified.output) == (0, "")
    slices = node.run("systemd-analyze", "verify", "/etc/systemd/system/chipmedic.slice")
    assert (slices.code, slices.output) == (0, "")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_exposure_is_what_the_manual_says(node: Container, daemon: str) -> None:
    threshold = f"--threshold={EXPOSURE_MAX[daemon] * 10:.0f}"
    node.command("systemd-analyze", "security", "--no-pager", threshold, f"{daemon}.service")
    manual = (REPOSITORY / "docs" / "operations.md").read_text()
    assert f"| `{daemon}` | {EXPOSURE_MAX[daemon]} |" in manual


def test_killed_daemons_come_back_and_remember(node: Container) -> None:
    epoch = node.get(f"{AGENT_URL}/healthz")["spool"]["epoch"]
    before = {daemon: node.show(daemon, "MainPID") for daemon in DAEMONS}
    node.command("systemctl", "kill", "--kill-who=main", "--signal=KILL", *DAEMONS)
    for daemon in DAEMONS:
        node.wait(f"{daemon} again", lambda d=daemon: _is_another(node, d, before[d]))  # type: ignore[misc]
        assert int(node.show(daemon, "NRestarts")) >= 1
    _wait_until_connected(node)
    assert node.get(f"{AGENT_URL}/healthz")["spool"]["epoch"] == epoch
    assert [n["node"] for n in node.get(f"{WATCHDOG_URL}/api/v1/nodes")["items"]] == ["n1"]


def test_a_stalled_main_loop_is_killed_and_started_again(node: Container) -> None:
    before = {daemon: node.show(daemon, "MainPID") for daemon in DAEMONS}
    cursor = node.journal_cursor()
    # The drill of docs/operations.md: the agent stands still, and a person is told in seconds.
    node.command("systemctl", "kill", "--kill-who=main", "--signal=STOP", AGENT)
    node.wait("the incident", lambda: _open_faults(node, "node.unreachable") != [])
    node.command("systemctl", "kill", "--kill-who=main", "--signal=STOP", WATCHDOG)
    for daemon in DAEMONS:
        node.wait(f"{daemon} again", lambda d=daemon: _is_another(node, d, before[d]))  # type: ignore[misc]
        _wait_for_words(node, daemon, "Watchdog timeout (limit 20s)!", cursor)
    _wait_until_connected(node)
    node.wait("the incident's end", lambda: _open_faults(node, "node.unreachable") == [])


def test_reload_takes_a_right_configuration(node: Container) -> None:
    node.wait("a scan of the host", lambda: _checks(node)["host"] == "ok")
    pids = {daemon: node.show(daemon, "MainPID") for daemon in DAEMONS}
    cursor = node.journal_cursor()
    node.write("/etc/chipmedic/agent.toml", AGENT_TOML + "[collectors.host]\nenabled = false\n")
    node.write("/etc/chipmedic/watchdog.toml", "[liveness]\nsilence_seconds = 3.0\n")
    for daemon in DAEMONS:
        node.command("systemctl", "reload", daemon)
    _wait_for_words(node, AGENT, "configuration read again: changed=collectors", cursor)
    _wait_for_words(node, WATCHDOG, "reloaded: needs_restart=nothing", cursor)
    assert pids == {daemon: node.show(daemon, "MainPID") for daemon in DAEMONS}
    node.wait("the host's collector off", lambda: _checks(node)["host"] == "unknown")
    assert all(node.is_active(daemon) for daemon in DAEMONS)


def test_reload_keeps_the_old_configuration_when_the_new_one_is_wrong(node: Container) -> None:
    pids = {daemon: node.show(daemon, "MainPID") for daemon in DAEMONS}
    cursor = node.journal_cursor()
    node.write("/etc/chipmedic/agent.toml", 'watchdgos = ["127.0.0.1:7443"]\n')
    node.write("/etc/chipmedic/watchdog.toml", "[liveness]\nsilence_seconds = -1\n")
    for daemon in DAEMONS:
        assert node.run("systemctl", "reload", daemon).code == 1
    _wait_for_words(node, AGENT, "configuration kept as it was, the new one is wrong", cursor)
    _wait_for_words(node, AGENT, "watchdgos: unknown key; did you mean watchdogs?", cursor)
    _wait_for_words(node, WATCHDOG, "the old configuration stays in force", cursor)
    _wait_for_words(node, WATCHDOG, "liveness.silence_seconds: -1 is less than 0", cursor)
    assert pids == {daemon: node.show(daemon, "MainPID") for daemon in DAEMONS}
    assert all(node.is_active(daemon) for daemon in DAEMONS)
    health = node.get(f"{AGENT_URL}/healthz")
    assert health["uplink"]["watchdog"] == "127.0.0.1:7443"
    assert health["configuration"]["is_successful"] is False
    assert _node_state(node) == "connected"


def test_a_wrong_configuration_at_the_start_is_not_tried_again(node: Container) -> None:
    node.write("/etc/chipmedic/agent.toml", "[spool]\nbytes_max = 1\n")
    node.write("/etc/chipmedic/watchdog.toml", "[strem]\n")
    for daemon in DAEMONS:
        assert node.run("systemctl", "restart", daemon).code == 1
        assert node.show(daemon, "ActiveState") == "failed"
        assert node.show(daemon, "NRestarts") == "0"


def test_stop_is_clean_and_no_alarm(node: Container) -> None:
    cursor = node.journal_cursor()
    node.command("systemctl", "stop", AGENT)
    assert _end_of(node, AGENT) == ("success", "0")
    _wait_for_words(node, AGENT, "stopping: reason=SIGTERM", cursor)
    assert node.run("test", "-e", "/run/chipmedic/progress.sock").code == 1
    assert node.run("test", "-d", "/run/chipmedic").code == 0  # containers have it mounted
    node.wait("the goodbye", lambda: _node_state(node) == "stopped")
    time.sleep(3.5)  # longer than `silence_seconds`: a goodbye is no silence
    assert _node_state(node) == "stopped"
    assert _open_faults(node, "node.unreachable") == []
    node.command("systemctl", "stop", WATCHDOG)
    assert _end_of(node, WATCHDOG) == ("success", "0")


def test_the_agent_sees_what_it_must_and_can_change_nothing(node: Container) -> None:
    agent, watchdog = _probe(node)
    assert agent["read the kernel log"] == "yes"
    assert agent["read a stranger's environment"] == "yes"
    assert agent["write to its state"] == "yes"
    assert int(agent["CapEff"], 16) == int(agent["CapBnd"], 16) == CAPABILITIES_OF_AGENT
    for name in (
        "write to /etc",
        "write to /opt",
        "write to a kernel setting",
        "trace a stranger",
        "read a stranger's memory",
        "write a stranger's memory",
        "stop a stranger",
        "become root",
        "make a user namespace",
        "mount",
        "open a packet socket",
    ):
        assert agent[name] in {"EPERM", "EACCES", "EROFS", "EAFNOSUPPORT"}, name
    assert (agent["NoNewPrivs"], agent["Seccomp"]) == ("1", "2")
    assert "kmsg" in agent["devices"].split()

    assert watchdog.pop("write to its state") == "yes"
    assert int(watchdog.pop("CapEff"), 16) == int(watchdog.pop("CapBnd"), 16) == 0
    assert (watchdog.pop("NoNewPrivs"), watchdog.pop("Seccomp")) == ("1", "2")
    assert "kmsg" not in watchdog.pop("devices").split()
    refusals = {"EPERM", "EACCES", "EROFS", "ENOENT", "ESRCH", "EAFNOSUPPORT"}
    assert {name: how for name, how in watchdog.items() if how not in refusals} == {}


def test_a_line_of_the_kernel_reaches_the_watchdog(node: Container) -> None:
    """A process that dies in libnccl is named by the kernel, in a record that no user can write."""
    name = f"rank-{secrets.token_hex(4)}"  # the kernel log is the machine's: earlier runs are in it
    node.write("/tmp/dies.py", DIES_IN_NCCL)
    assert node.run("/usr/bin/python3", "/tmp/dies.py", name).code == -11

    def lines() -> list[str]:
        faults = _open_faults(node, "job.crashed", "app.fault")
        return [line for fault in faults for line in fault["evidence"] if name in line]

    node.wait("the fault", lambda: lines() != [])
    assert "segfault at 0" in lines()[0]
    assert "libnccl.so.2" in lines()[0]


def test_a_vendors_tool_runs_inside_the_sandbox(node: Container) -> None:
    """`npu-smi` lies where Huawei's driver puts it, and answers from a file as a chip would."""
    node.command(PYTHON, "-c", SIMULATE_ASCEND)
    _drop_in(node, AGENT, "Environment=CHIPMEDIC_SIMULATOR_STATE=/etc/chipmedic/ascend.json")
    node.command("systemctl", "restart", AGENT)
    node.wait("the chips", lambda: _health(node)["chips"]["known"] == 2)
    node.wait("its verdict", lambda: _checks(node).get("ascend") == "ok")
    node.command("rm", "-r", "/usr/local/Ascend")


def test_a_job_of_any_user_says_that_it_moves(node: Container) -> None:
    node.command(
        "systemd-run", "--uid=65534", "--unit=job", "--setenv=CHIPMEDIC_JOB=llm-7b",
        PYTHON, "-c", BEATS,
    )  # fmt: skip
    node.wait("the job", lambda: "local:llm-7b" in _health(node)["jobs"])
    node.command("systemctl", "stop", "job")


DIES_IN_NCCL = """
import ctypes, os, pathlib, sys
libc = ctypes.CDLL(None)
libc.prctl(15, sys.argv[1].encode())  # PR_SET_NAME
library = pathlib.Path("/tmp/libnccl.so.2")
# x86-64: xor eax, eax; mov [rax], eax. ARM64: mov x0, 0; str w0, [x0].
code = {"x86_64": "31c08900", "aarch64": "000080d2000000b9"}[os.uname().machine]
library.write_bytes(bytes.fromhex(code).ljust(4096, b"\\0"))
libc.mmap.restype = ctypes.c_void_p
with library.open("rb") as file:
    address = libc.mmap(None, ctypes.c_size_t(4096), 5, 2, file.fileno(), ctypes.c_long(0))
ctypes.CFUNCTYPE(None)(address)()
"""
SIMULATE_ASCEND = """
from pathlib import Path
from chipmedic_simulator.ascend_tools import AscendHost, install, save
state = Path("/etc/chipmedic/ascend.json")
save(AscendHost.simulated(2), state)
state.chmod(0o644)
install(Path("/usr/local/Ascend/driver/tools"))
"""
BEATS = """
import time
from chipmedic.beat import beat
for step in range(600):
    assert beat(step=step, phase="train")
    time.sleep(0.1)
"""


def _probe(node: Container) -> tuple[dict[str, str], dict[str, str]]:
    """Let systemd run the probe in both sandboxes, beside the daemons."""
    node.command("systemd-run", "--unit=stranger", "--uid=65534", "sleep", "600")
    stranger = node.show("stranger", "MainPID")
    node.write("/etc/chipmedic/probe.py", (Path(__file__).parent / "probe.py").read_text())
    answers = []
    for daemon in DAEMONS:
        file = f"/var/lib/chipmedic/{daemon.removeprefix('chipmedic-')}/probe.json"
        command = f"{PYTHON} /etc/chipmedic/probe.py {file} {stranger}"
        _drop_in(node, daemon, f"ExecStartPost={command}")
        node.command("systemctl", "restart", daemon)
        answers.append(json.loads(node.read(file)))
    node.command("systemctl", "stop", "stranger")
    return answers[0], answers[1]


def _drop_in(node: Container, daemon: str, line: str) -> None:
    folder = f"/etc/systemd/system/{daemon}.service.d"
    node.command("mkdir", "-p", folder)
    node.write(f"{folder}/test.conf", f"[Service]\n{line}\n")
    node.command("systemctl", "daemon-reload")


def _wait_for_words(node: Container, daemon: str, words: str, cursor: str) -> None:
    """Wait, because the journal may take in what a daemon wrote after what systemd says later."""
    node.wait(f"{daemon}: {words}", lambda: words in node.journal(daemon, cursor))


def _is_another(node: Container, daemon: str, pid: str) -> bool:
    return node.is_active(daemon) and node.show(daemon, "MainPID") not in {"0", pid}


def _end_of(node: Container, daemon: str) -> tuple[str, str]:
    return node.show(daemon, "Result"), node.show(daemon, "ExecMainStatus")


def _checks(node: Container) -> dict[str, Any]:
    return {check["check"]: check["verdict"] for check in _health(node)["checks"]}


def _node_state(node: Container) -> str:
    nodes = node.get(f"{WATCHDOG_URL}/api/v1/nodes")
    return str(nodes["items"][0]["state"]) if nodes and nodes["items"] else ""


def _open_faults(node: Container, *kinds: str) -> list[dict[str, Any]]:
    items = node.get(f"{WATCHDOG_URL}/api/v1/faults")["items"]
    return [fault for fault in items if fault["state"] != "cleared" and fault["kind"] in kinds]


def _wait_until_connected(node: Container) -> None:
    for daemon in DAEMONS:
        node.wait(f"{daemon} is ready", lambda d=daemon: node.is_active(d))  # type: ignore[misc]
    # A watchdog that was started again shows what it knew before until the agent has come back.
    node.wait("the agent's stream", lambda: _uplink(node)["watchdog"] is not None)
    node.wait("the stream", lambda: _node_state(node) == "connected")


def _uplink(node: Container) -> dict[str, Any]:
    return dict(_health(node)["uplink"])


def _health(node: Container) -> dict[str, Any]:
    """What the agent says of itself, once it answers."""
    node.wait("the agent's page", lambda: node.get(f"{AGENT_URL}/healthz") is not None)
    return dict(node.get(f"{AGENT_URL}/healthz"))
