"""A failure of which the receiver says when to come again."""

from __future__ import annotations

from chipmedic.errors import DeliveryFailed


class RetryLater(DeliveryFailed):
    """The receiver says when to come again."""

    def __init__(self, message: str, *, after_seconds: float) -> None:
        self.after_seconds = after_seconds
        super().__init__(message)
