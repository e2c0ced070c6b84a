"""Durations and moments as people type them."""

from __future__ import annotations

from datetime import datetime

import pytest
import typer

from chipmedic_cli.times import moment_of, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("1h30m", 5400), ("2d", 172_800), ("1.5h", 5400), ("45s", 45), ("1w", 604_800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "h", "1h30", "-1h", "1 h", "0m", "1y"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no"):
        seconds_of(text)


def test_moments() -> None:
    assert moment_of("+30m", 1000.0) == 2800
    assert moment_of("2026-12-01T08:00:00+00:00", 0.0) == 1_796_112_000
    local = datetime(2026, 12, 1, 8).astimezone().timestamp()
    assert moment_of("2026-12-01 08:00", 0.0) == local
    with pytest.raises(typer.BadParameter, match="is no moment"):
        moment_of("tomorrow", 0.0)
