"""What is wrong with the watchdog itself, in words; read by `/healthz`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """Troubles under way and standing warnings, each under a key."""

    problems: dict[str, str] = field(default_factory=dict)
    """Something does not work now: `status` is degraded."""
    warnings: dict[str, str] = field(default_factory=dict)
    """It works, and an operator should know this (an open port without TLS)."""

    def begin(self, key: str, words: str) -> bool:
        """Note a trouble; True when it is new or its words have changed."""
        is_news = self.problems.get(key) != words
        self.problems[key] = words
        return is_news

    def end(self, key: str) -> bool:
        """Note that a trouble is over; True when it was there."""
        return self.problems.pop(key, None) is not None

    @property
    def status(self) -> str:
        """`ok` or `degraded`."""
        return "degraded" if self.problems else "ok"
