"""The error tree. The type is what the caller does about it.

    ChipmedicError                 one line for a person: what, where, what to do
    ├── ConfigError                a file is wrong: every problem of it in one report
    ├── CollectError               foreseen: nothing at all is known this time; go on
    │   ├── ToolMissing            the vendor is not on this host
    │   ├── ToolFailed             the tool is there and answered with nothing to read
    │   └── ToolBlocked            no answer within the deadline; do not start it again while stuck
    ├── StoreError                 the store cannot be written or read
    └── DeliveryFailed             a notice or an action did not arrive; try again later
        └── JobGone                the scheduler does not know the job any more

Anything else is a defect.
"""

from __future__ import annotations

from collections.abc import Sequence


class ChipmedicError(Exception):
    """The root; its text is one line for a person."""


class ConfigError(ChipmedicError):
    """A configuration file is wrong.

    `problems` holds one line for each wrong key: which, what was wrong, what is allowed.
    """

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}: {problem}" for problem in self.problems))


def told(program: str, error: ChipmedicError) -> str:
    """Return an error as a program writes it: its own name before each line."""
    return "\n".join(f"{program}: {line}" for line in str(error).splitlines())


class CollectError(ChipmedicError):
    """A collector learnt nothing at all this time, for a foreseen reason."""


class ToolMissing(CollectError):
    """The tool or library is not installed here."""


class ToolFailed(CollectError):
    """The tool or library is here and gave nothing that can be read."""


class ToolBlocked(CollectError):
    """No answer within the deadline; whatever was started has been abandoned.

    `abandoned_pid` names a process that even SIGKILL did not end (D state): start nothing of the
    same vendor while it is there.
    """

    def __init__(self, message: str, *, abandoned_pid: int | None = None) -> None:
        self.abandoned_pid = abandoned_pid
        super().__init__(message)


class StoreError(ChipmedicError):
    """The store or the spool cannot be written or read."""


class DeliveryFailed(ChipmedicError):
    """A notice or an action did not arrive; the caller tries again later."""

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        self.is_permanent = is_permanent
        super().__init__(message)


class JobGone(DeliveryFailed):
    """The scheduler does not know the job (any more): there is nothing to restart."""

    def __init__(self, message: str) -> None:
        super().__init__(message, is_permanent=True)
