"""What a caller of the HTTP interface may do, and who that is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each may do all that the ones before it may."""

    VIEW = 1
    """Read everything that is shown."""
    OPERATE = 2
    """Answer recoveries, take incidents, give nodes back."""
    ADMIN = 3
    """Give and take access: tokens, nodes."""

    @property
    def word(self) -> str:
        """As it is written in files and commands."""
        return self.name.lower()


ROLES = {role.word: role for role in Role}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a request."""

    role: Role
    via: str
    """What has proven it: `token:<id>`, `token_file` (one secret for many) or `loopback`."""
    name: str | None = None
    """Of a token; None: nothing but the caller's own word says who it is."""

    @property
    def title(self) -> str:
        """Who that is, for the text of a refusal."""
        if self.name is not None:
            return f"the token of {self.name}"
        return "whoever calls from this machine" if self.via == "loopback" else "this token"
