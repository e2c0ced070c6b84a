"""Runs inside a daemon's own sandbox and writes down what it may do there, as JSON.

It is copied into the container and started by systemd beside the daemon (`ExecStartPost=`), with
the daemon's user, capabilities, mounts and filter of system calls. The arguments: the file to
write, and the pid of a process of another user.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PTRACE_SEIZE = 0x4206
SYSLOG_SIZE_BUFFER = 10

libc = ctypes.CDLL(None, use_errno=True)
out, stranger = Path(sys.argv[1]), int(sys.argv[2])


def checked(result: int) -> None:
    """Turn a C function's -1 into its error."""
    if result == -1:
        raise OSError(ctypes.get_errno(), "")


def read_kernel_log() -> None:
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.read(log, 8192)
    os.close(log)


def read_memory() -> None:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    here = ctypes.create_string_buffer(8)
    local, remote = Vector(ctypes.addressof(here), 8), Vector(0, 8)
    checked(libc.process_vm_readv(stranger, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))


def write_memory() -> None:
    with Path(f"/proc/{stranger}/mem").open("r+b"):
        pass


def map_executable() -> None:
    # As ctypes: mmap.mmap of Python names its own errors.
    libc.mmap.restype = ctypes.c_ssize_t
    prot = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    checked(libc.mmap(None, 4096, prot, flags, -1, 0))


PROBES: dict[str, Callable[[], object]] = {
    "read the kernel log": read_kernel_log,
    "read a stranger's environment": Path(f"/proc/{stranger}/environ").read_bytes,
    "write to /etc": lambda: Path("/etc/probe").write_text(""),
    "write to /opt": lambda: Path("/opt/chipmedic/probe").write_text(""),
    "write to its state": lambda: Path(os.environ["STATE_DIRECTORY"], "probe").write_text(""),
    "write to a kernel setting": lambda: Path("/proc/sys/kernel/panic").write_text("0"),
    "see the homes": lambda: list(Path("/root").iterdir()),
    "trace a stranger": lambda: checked(libc.ptrace(PTRACE_SEIZE, stranger, None, None)),
    "read a stranger's memory": read_memory,
    "write a stranger's memory": write_memory,
    "stop a stranger": lambda: os.kill(stranger, 19),
    "become root": lambda: os.setuid(0),
    "make a user namespace": lambda: checked(libc.unshare(CLONE_NEWUSER)),
    "mount": lambda: checked(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "map memory that can be written and executed": map_executable,
}


def answer(probe: Callable[[], object]) -> str:
    try:
        probe()
    except OSError as e:
        return errno.errorcode.get(e.errno or 0, str(e))
    return "yes"


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


answers = {name: answer(probe) for name, probe in PROBES.items()}
answers |= {name: status(name) for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
answers["devices"] = " ".join(path.name for path in Path("/dev").iterdir())
out.write_text(json.dumps(answers))
