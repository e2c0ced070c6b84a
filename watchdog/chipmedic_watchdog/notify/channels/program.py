"""A program that gets the notice: the text on its standard input, the facts in its environment.

Exit status 0 is delivered; anything else has failed and is tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess

from chipmedic.errors import DeliveryFailed
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.settings import ChannelSettings

SAID_LETTERS = 200
VARIABLE_BYTES_MAX = 100_000
"""Of one environment variable; Linux starts nothing with more than 128 KiB in one (execve(2))."""


class Program:
    """One command."""

    def __init__(self, name: str, settings: ChannelSettings) -> None:
        self.name = name
        self._settings = settings

    def deliver(self, notice: Notice) -> str:
        """Run the program; see `Notifier.deliver`."""
        argv = list(self._settings.argv)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(notice),
                start_new_session=True,
            )
        except OSError as e:
            raise DeliveryFailed(f"{argv[0]}: cannot be started: {e.strerror}") from e
        text = f"{notice.title}\n\n{notice.body}\n".encode()
        try:
            output, _ = process.communicate(text, timeout=self._settings.timeout_seconds)
        except subprocess.TimeoutExpired as e:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise DeliveryFailed(
                f"{argv[0]}: no end in {self._settings.timeout_seconds:g} s; killed"
            ) from e
        said = " ".join(output.decode(errors="replace").split())[-SAID_LETTERS:]
        if process.returncode != 0:
            raise DeliveryFailed(f"{argv[0]} ended with {process.returncode}: {said or 'silent'}")
        return said or f"{argv[0]} ended with 0"


def _environment(notice: Notice) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    return env | {
        "CHIPMEDIC_NOTICE_ID": notice.id,
        "CHIPMEDIC_INCIDENT": notice.incident,
        "CHIPMEDIC_SEVERITY": notice.severity,
        "CHIPMEDIC_IS_RESOLVED": str(int(notice.is_resolved)),
        "CHIPMEDIC_TITLE": notice.title,
        "CHIPMEDIC_DATA": _data(notice),
    }


def _data(notice: Notice) -> str:
    """Return the facts; more than a program can be started with becomes a word that says so."""
    data = json.dumps(notice.data, ensure_ascii=False)
    if len(data.encode()) <= VARIABLE_BYTES_MAX:
        return data
    return json.dumps({"incident": notice.incident, "is_cut": True})
