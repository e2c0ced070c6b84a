"""What the container needs and what costs time to make: the root and the wheels to install from.

Both are made once and kept outside the repository (`CHIPMEDIC_TEST_CACHE`, by default
`/var/cache/chipmedic-test`); only the wheel of chipmedic itself is built anew for each run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from system.systemd.container import Container

CACHE = Path(os.environ.get("CHIPMEDIC_TEST_CACHE", "/var/cache/chipmedic-test"))
REPOSITORY = Path(__file__).parents[3]
INSTALL = "/mnt/chipmedic/systemd/install.sh"
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv"
ROOT_SECONDS = 600
WHEELS_SECONDS = 600


@dataclass(frozen=True)
class Supplies:
    """All that a boot needs."""

    root: Path
    wheels: Path
    wheel: Path

    @contextlib.contextmanager
    def boot(self, console: Path) -> Iterator[Container]:
        """Run a container with the checkout and the wheels below `/mnt`; nothing is left of it."""
        binds = {
            REPOSITORY / "systemd": "/mnt/chipmedic/systemd",
            REPOSITORY / "docs": "/mnt/chipmedic/docs",
            self.wheels: "/mnt/wheels",
            self.wheel.parent: "/mnt/wheel",
        }
        container = Container(self.root, console, binds)
        try:
            container.start()
            yield container
        finally:
            container.stop()

    @property
    def install(self) -> tuple[str, ...]:
        """The documented command, as an offline host uses it; the daemons' names follow."""
        source = f"/mnt/wheel/{self.wheel.name}"
        return (INSTALL, "--from", source, "--find-links", "/mnt/wheels")


def gather(folder: Path) -> Supplies:
    """Make or find everything; the wheel of chipmedic goes into the folder."""
    base = root()
    wheels = wheelhouse(python_of(base))
    return Supplies(base, wheels, build_wheel(wheels, folder))


def root() -> Path:
    """Return a Debian root that boots; it is built when the cache has none."""
    with _alone("root"):
        target = CACHE / "root"
        if not (target / "usr/lib/systemd/systemd").exists():
            with _unfinished(target) as folder:
                _run(
                    ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, folder],
                    seconds=ROOT_SECONDS,
                )
        return target


def python_of(root: Path) -> str:
    """Return the version of the root's Python, `3.11`."""
    return (root / "usr/bin/python3").readlink().name.removeprefix("python")


def wheelhouse(python: str) -> Path:
    """Return a folder with every wheel that an installation of both daemons needs offline."""
    needs = _requirements()
    key = hashlib.sha256("\n".join([python, *needs]).encode()).hexdigest()[:12]
    with _alone("wheels"):
        target = CACHE / f"wheels-{python}-{key}"
        if not target.exists():
            with _unfinished(target) as folder:
                _run(
                    [
                        *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder),
                        *("--only-binary=:all:", f"--python-version={python}", *needs),
                    ],
                    seconds=WHEELS_SECONDS,
                )
        return target


def build_wheel(wheels: Path, target: Path) -> Path:
    """Build the wheel of this checkout, with nothing from the network."""
    _run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
            *(f"--find-links={wheels}", f"--wheel-dir={target}", str(REPOSITORY)),
        ],
        seconds=120,
    )
    return next(target.glob("chipmedic-*.whl"))


def _requirements() -> list[str]:
    """Read what both daemons, the command line and the build ask for."""
    data = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project = data["project"]
    extras = project["optional-dependencies"]
    return sorted(
        {*project["dependencies"], *extras["cli"], *extras["watchdog"]}
        | set(data["build-system"]["requires"])
    )


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Let one test run at a time make a thing of the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _unfinished(target: Path) -> Iterator[str]:
    """Give a folder that gets the name of the target when all went well, and is removed else."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    folder.chmod(0o755)
    try:
        yield str(folder)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _run(argv: list[str], *, seconds: float) -> None:
    ended = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(argv)}\n{ended.stdout[-3000:]}"
