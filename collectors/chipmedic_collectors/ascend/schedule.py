"""When the slow questions are due; they are spread over scans, oldest first."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)


class Schedule(Generic[Question]):
    """Questions that are asked again and again, each with its own rest between."""

    def __init__(self) -> None:
        self._due_at: dict[Question, float] = {}
        self._never: set[Question] = set()

    def add(self, questions: Iterable[Question]) -> None:
        """Make questions known; new ones are due at once."""
        for question in questions:
            self._due_at.setdefault(question, 0.0)

    def due(self, at: float) -> list[Question]:
        """Return what is due, longest waiting first."""
        waiting = ((due, i) for i, due in enumerate(self._due_at.values()) if due <= at)
        questions = list(self._due_at)
        return [questions[i] for _, i in sorted(waiting) if questions[i] not in self._never]

    def rest(self, question: Question, until: float) -> None:
        """Ask again at `until`."""
        self._due_at[question] = until

    def never(self, question: Question) -> None:
        """Do not ask again: this chip or driver does not support it."""
        self._never.add(question)
