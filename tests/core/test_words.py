"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from chipmedic.words import counted


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [
        (1, "time", "1 time"),
        (2, "time", "2 times"),
        (0, "entry", "0 entries"),
        (1, "entry", "1 entry"),
    ],
)
def test_a_number_with_its_noun(count: int, noun: str, words: str) -> None:
    assert counted(count, noun) == words
