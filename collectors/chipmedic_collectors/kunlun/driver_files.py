"""What the Kunlunxin driver tells of its devices in /proc/xpu, without any tool."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chipmedic import Host

_FOLDER = re.compile(r"/proc/xpu/dev(\d{1,4})/state$")
_WORDS_MAX = 400


@dataclass(frozen=True, slots=True)
class Device:
    """One device, /dev/xpuN."""

    state: str
    """RUNNING or NORMAL is good, ERROR is not."""
    resets: int | None
    words: str
    """What the driver says of its last error, for evidence."""


def read_devices(host: Host) -> dict[int, Device]:
    """Return the devices that the driver shows, by number; none where the driver has no files."""
    devices = {}
    for path in host.glob("/proc/xpu/dev*/state"):
        number = _FOLDER.search(path)
        state = _text(host, path)
        if number is None or not state:
            continue
        folder = path.rpartition("/")[0]
        details = (_text(host, f"{folder}/{name}") for name in ("errinfo", "errtask"))
        words = "; ".join(" ".join(text.split()) for text in details if text)
        count = _text(host, f"{folder}/reset_count")
        devices[int(number[1])] = Device(
            state.split()[-1].upper(),
            int(count) if count.isdecimal() and len(count) < 10 else None,
            f"/proc/xpu/dev{number[1]}/state is {state}; {words}"[:_WORDS_MAX].rstrip("; "),
        )
    return devices


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path).strip()
    except OSError:
        return ""  # not offered by this driver, or the device went away
