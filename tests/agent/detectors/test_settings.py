"""Section `[detectors]`: what is read, and every wrong number in one report."""

from __future__ import annotations

import pytest

from chipmedic.config import loads
from chipmedic.errors import ConfigError
from chipmedic_agent.detectors import DetectorSettings, builtin_detectors
from chipmedic_agent.detectors.settings import PageLimits

TEXT = """
corrected_per_hour = 500
flap_count = 3
[page_limits.ascend]
worn = 8
spent = 32
[hang]
floor_seconds = 20
"""


def test_thresholds_are_read_and_the_rest_stays() -> None:
    settings = loads(TEXT, DetectorSettings)
    assert settings.corrected_per_hour == 500
    assert settings.page_limits == {"ascend": PageLimits(worn=8, spent=32)}
    assert settings.hang.floor_seconds == 20
    assert settings.hang.median_factor == DetectorSettings().hang.median_factor
    assert len(builtin_detectors(settings)) > 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flap_cuont = 3", "did you mean flap_count?"),
        ("expiry_seconds = -1\nflap_count = 0", "flap_count: 0 is not a positive number"),
        ("[hang]\nfloor_seconds = 0", "floor_seconds: 0 is not a positive number"),
        ("[page_limits.ascend]\nworn = 8\nspend = 9", "did you mean spent?"),
        ("nic_down_seconds = nan", "nic_down_seconds: nan is not a positive number"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, DetectorSettings)
    assert words in str(caught.value)
