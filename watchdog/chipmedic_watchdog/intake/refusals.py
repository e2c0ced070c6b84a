"""Why the watchdog ends a stream."""

from __future__ import annotations

import grpc

from chipmedic.errors import ChipmedicError


class Refused(ChipmedicError):
    """The stream cannot go on; `code` and the text go to the agent."""

    def __init__(self, code: grpc.StatusCode, reason: str, words: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(words)


class TooFast(ChipmedicError):
    """The agent sends more than it may."""

    def __init__(self, wait_seconds: float, what: str = "events") -> None:
        self.wait_seconds = wait_seconds
        super().__init__(f"too many {what}: come back in {wait_seconds:.1f} s")
