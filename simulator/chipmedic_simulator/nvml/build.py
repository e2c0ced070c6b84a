"""Compiles the fake `libnvidia-ml.so.1` into a cache folder, once per version of its source."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from chipmedic.errors import ToolFailed, ToolMissing

SONAME = "libnvidia-ml.so.1"
SOURCES = ("fake_nvml.c", "fake_state.h")
COMPILERS = ("cc", "gcc", "clang")
TIMEOUT_SECONDS = 120.0


def compiler() -> str | None:
    """Return the path of a C compiler, or None; `$CC` goes first."""
    names = (os.environ.get("CC", ""), *COMPILERS)
    return next((path for name in names if name and (path := shutil.which(name))), None)


def default_cache() -> Path:
    """Return where compiled libraries are kept; a folder of this user, as it is loaded as code."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "chipmedic" / "simulator"


def build(cache: Path | None = None) -> Path:
    """Return the path of the library; compiles it when this version is not in the cache yet.

    Raises:
        ToolMissing: there is no C compiler here.
        ToolFailed: the compiler gave no library, or the cache folder cannot be written.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join((here / name).read_bytes() for name in SOURCES)).hexdigest()
    folder = (cache or default_cache()) / digest[:16]
    library = folder / SONAME
    if library.exists():
        return library
    program = compiler()
    if program is None:
        raise ToolMissing("no C compiler here (cc, gcc or clang): the fake NVML library needs one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _compile(program, here / SOURCES[0], library)
    except OSError as e:
        raise ToolFailed(f"{folder}: the fake NVML library cannot be written: {e.strerror}") from e
    return library


def _compile(program: str, source: Path, library: Path) -> None:
    """Compile beside the target and rename: two who build at once never see half a library."""
    handle, name = tempfile.mkstemp(dir=library.parent, suffix=".so")
    os.close(handle)
    argv = [program, "-std=c11", "-O2", "-Wall", "-fPIC", "-shared", "-Wl,-soname," + SONAME]
    try:
        done = subprocess.run(
            [*argv, "-o", name, str(source)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ToolFailed(f"{program}: {done.stderr.strip() or 'no reason given'}")
        Path(name).rename(library)
    except subprocess.TimeoutExpired as e:
        raise ToolFailed(f"{program}: no library in {TIMEOUT_SECONDS:g} s") from e
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
