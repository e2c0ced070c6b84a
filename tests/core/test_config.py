"""Configuration: every problem at once, each with key, what is wrong and what is allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.config import load, loads
from chipmedic.errors import ConfigError


class Mode(StrEnum):
    OBSERVE = "observe"
    ACT = "act"


@dataclass(frozen=True)
class Channel:
    url: str
    retries: int = 3


@dataclass(frozen=True)
class Settings:
    watchdog: str = "127.0.0.1:7443"
    period_seconds: float = 5.0
    mode: Mode = Mode.OBSERVE
    is_on: bool = True
    channels: tuple[Channel, ...] = ()
    named: dict[str, Channel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.period_seconds <= 0:
            raise ValueError(f"period_seconds: {self.period_seconds:g} is not positive")


def test_defaults_and_values() -> None:
    text = 'period_seconds = 2\nmode = "act"\n[[channels]]\nurl = "a"\n[named.x]\nurl = "b"'
    assert loads(text, Settings) == Settings(
        period_seconds=2.0, mode=Mode.ACT, channels=(Channel("a"),), named={"x": Channel("b")}
    )
    assert loads("", Settings) == Settings()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('watchdgo = "x"', "watchdgo: unknown key; did you mean watchdog?"),
        ("period_seconds = -1", "period_seconds: -1 is not positive"),
        ('period_seconds = "5"', "period_seconds: '5' is not a number"),
        ("period_seconds = true", "period_seconds: True is not a number"),
        ('mode = "off"', "mode: 'off' is not one of: observe, act"),
        ("is_on = 1", "is_on: 1 is not true or false"),
        ("[[channels]]\nretries = 1", "channels[0].url: required, and missing"),
        ('[[channels]]\nurl = "a"\nretry = 1', "channels[0].retry: unknown key"),
        ('[named.x]\nurl = "a"\nurll = "b"', "named.x.urll: unknown key; did you mean url?"),
        ("= 1", "not TOML"),
    ],
)
def test_a_wrong_file_says_what_where_and_what_is_allowed(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, Settings, path="agent.toml")
    assert str(caught.value).startswith("agent.toml: ")
    assert str(caught.value).count("agent.toml: ") == len(caught.value.problems)
    assert any(line.startswith(problem) for line in caught.value.problems)


def test_every_problem_comes_in_one_report() -> None:
    text = 'watchdgo = "x"\nmode = "off"\nis_on = 3\n[[channels]]\nretries = "many"'
    with pytest.raises(ConfigError) as caught:
        loads(text, Settings)
    keys = sorted(re.split("[:]", line)[0] for line in caught.value.problems)
    assert keys == ["channels[0].retries", "channels[0].url", "is_on", "mode", "watchdgo"]


def test_a_missing_file_is_one_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.toml", Settings)


@given(st.text(max_size=200))
def test_any_input_is_settings_or_a_report(text: str) -> None:
    caught: ConfigError | None = None
    try:
        assert isinstance(loads(text, Settings, path="agent.toml"), Settings)
    except ConfigError as e:
        caught = e
    if caught is not None:
        assert caught.problems, "what is refused is refused for a reason"
        assert str(caught).startswith("agent.toml: ")
        return
    with pytest.raises(ConfigError, match="unknown key"):
        loads(f"none_of_ours = 1\n{text}", Settings)
