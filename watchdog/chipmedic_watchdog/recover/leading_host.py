"""The door to the machine for adapters: it is open only while this watchdog leads.

An adapter may be amid a step of several commands when the process is stopped, and go on long after
another watchdog has taken over; a scheduler knows no fencing token. So it is asked before each one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from chipmedic.errors import StoreError, ToolFailed
from chipmedic.host import Answer, Host


class LeadingHost:
    """A host whose tools are run by the leader alone."""

    def __init__(self, host: Host, assert_leading: Callable[[], None]) -> None:
        self._host = host
        self._assert_leading = assert_leading

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        """Run a tool; see `Host.run`.

        Raises:
            ToolFailed: also where this watchdog does not lead: nothing was started.
        """
        try:
            self._assert_leading()
        except StoreError as e:
            raise ToolFailed(f"{argv[0]}: not started: {e}") from e
        return self._host.run(argv, timeout_seconds=timeout_seconds, env=env)

    def which(self, program: str) -> str | None:
        """Return the path of a program, or None."""
        return self._host.which(program)

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return self._host.read(path)

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern."""
        return self._host.glob(pattern)

    def path(self, path: str) -> str:
        """Return where a path really is."""
        return self._host.path(path)

    def now(self) -> float:
        """Return UNIX seconds."""
        return self._host.now()
