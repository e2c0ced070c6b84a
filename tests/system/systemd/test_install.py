"""systemd/install.sh and uninstall on a bare Debian: what they refuse, what they leave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from system.systemd.container import Container
from system.systemd.supplies import INSTALL, REPOSITORY, Supplies

# The first run builds the root and fetches the wheels.
pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

OF_OTHERS = ("/etc/machine-id", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-")
"""Backups that every change of a user makes."""


@pytest.fixture(scope="module")
def bare(supplies: Supplies, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A host on which nothing of chipmedic was ever installed."""
    with supplies.boot(tmp_path_factory.mktemp("boot") / "console") as container:
        yield container


def test_refuses_in_one_line(bare: Container, supplies: Supplies) -> None:
    bare.write("/tmp/python3", "#!/bin/sh\nexit 1\n")  # as old as one that knows no 3.11
    bare.write("/tmp/bare-python", '#!/bin/sh\ncase "$*" in *venv*) exit 1 ;; esac\n')
    bare.command("chmod", "0755", "/tmp/python3", "/tmp/bare-python")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for refused, words in (
        ((*nobody, *supplies.install), "must run as root: sudo"),
        ((INSTALL, "agnet"), "agnet: not a daemon and not an option (see --help)"),
        ((INSTALL, "--from"), "--from: what? (see --help)"),
        ((INSTALL, "--from", "/nowhere"), "/nowhere: neither a wheel, an sdist nor a checkout"),
        ((*supplies.install, "--find-links", "/nowhere"), "--find-links: no such folder"),
        ((*supplies.install, "--python", "/tmp/python3"), "not Python 3.11 or newer"),
        ((*supplies.install, "--python", "/tmp/bare-python"), "has no venv module; install it"),
    ):
        ended = bare.run(*refused)
        assert ended.code == 1, refused
        assert ended.output.startswith("install.sh: "), refused
        assert words in ended.output
        assert ended.output.count("\n") == 1, ended.output
    ended = bare.run("env", "PATH=/tmp:/usr/sbin:/sbin", "/bin/sh", *supplies.install)
    assert ended.code != 0
    assert "apt-get install" in ended.output or "not found" in ended.output
    assert bare.run("test", "-e", "/opt/chipmedic").code == 1
    assert bare.run("getent", "passwd", "chipmedic-agent").code == 2


def test_a_package_that_cannot_be_installed_starts_nothing(
    bare: Container, supplies: Supplies
) -> None:
    ended = bare.run(INSTALL, "--from", f"/mnt/wheel/{supplies.wheel.name}", "--find-links", "/tmp")
    assert ended.code == 1
    assert "install.sh: installing what chipmedic needs failed" in ended.output.splitlines()[-1]
    assert bare.run("test", "-e", "/etc/systemd/system/chipmedic-agent.service").code == 1
    bare.command("rm", "-r", "/opt/chipmedic")


def test_install_again_and_remove(bare: Container, supplies: Supplies) -> None:
    before = _files(bare)
    users = bare.read("/etc/passwd")

    bare.command(*supplies.install, seconds=600)
    assert bare.is_active("chipmedic-agent")
    assert bare.show("chipmedic-agent", "UnitFileState") == "enabled"
    assert bare.show("chipmedic-watchdog", "LoadState") == "not-found"
    assert bare.read("/etc/chipmedic/agent.toml") == _shipped("agent.toml")
    assert bare.command("/opt/chipmedic/bin/chipmedic", "--help")

    # A second time: the configuration of the site and the state stay, the agent is a new one.
    own = '# ours\nnode = "first"\n'
    bare.write("/etc/chipmedic/agent.toml", own)
    pid = bare.show("chipmedic-agent", "MainPID")
    bare.command(*supplies.install, "agent", seconds=600)
    assert bare.read("/etc/chipmedic/agent.toml") == own
    assert bare.show("chipmedic-agent", "MainPID") != pid
    assert bare.get("http://127.0.0.1:9480/healthz")["node"] == "first"

    # A configuration that the new version refuses: said, and the running agent is left alone.
    pid = bare.show("chipmedic-agent", "MainPID")
    bare.write("/etc/chipmedic/agent.toml", 'nod = "first"\n')
    ended = bare.run(*supplies.install, "agent", seconds=600)
    assert ended.code == 1
    assert "nod: unknown key; did you mean node?" in ended.output
    assert "chipmedic-agent was not (re)started" in ended.output.splitlines()[-1]
    assert bare.show("chipmedic-agent", "MainPID") == pid

    out = bare.command("/opt/chipmedic/uninstall")
    assert "its state stays in /var/lib/chipmedic" in out
    assert bare.show("chipmedic-agent", "LoadState") == "not-found"
    left = {path for path in _files(bare) - before if not path.startswith("/var/lib/chipmedic/")}
    assert left == {"/etc/chipmedic", "/etc/chipmedic/agent.toml", "/var/lib/chipmedic"}

    bare.command("/bin/sh", "/mnt/chipmedic/systemd/uninstall.sh", "--purge")
    assert _files(bare) - before == set()
    assert bare.read("/etc/passwd") == users
    assert not _processes(bare, "/opt/chipmedic")
    assert bare.command("systemctl", "list-units", "--all", "chipmedic*", "--no-legend") == ""


def _files(host: Container) -> set[str]:
    """Every file and folder where an installation may put something."""
    out = host.command(
        "find", "/etc", "/opt", "/usr", "/run", "/var/lib", "/root", "-xdev",
        "-not", "-path", "/run/systemd/*", "-not", "-path", "/run/log/*",
        "-not", "-path", "/var/lib/systemd/*",
    )  # fmt: skip
    return set(out.splitlines()) - set(OF_OTHERS)


def _processes(host: Container, words: str) -> str:
    """The command lines that hold these words; `grep -a` reads the zero bytes between arguments."""
    return host.run("sh", "-c", f"grep -las {words} /proc/[0-9]*/maps").output


def _shipped(name: str) -> str:
    return (REPOSITORY / "systemd" / name).read_text()
