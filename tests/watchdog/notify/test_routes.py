"""Routes: where an incident goes, in which order they are tried, and what falls through."""

from __future__ import annotations

import pytest

from chipmedic.config import loads
from chipmedic.errors import ConfigError
from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.notify.routes import EVERY_CHANNEL, RouteSettings, targets

CRITICAL = RouteSettings(matchers=('severity="critical"',), channels=("pager", "chat"))
WARNINGS = RouteSettings(
    matchers=('severity="warning"',), channels=("chat",), digest_seconds=1800.0
)
OWNER = RouteSettings(matchers=('user="mei"',), channels=("mei",), continue_matching=True)


def labels(**values: str) -> dict[str, frozenset[str]]:
    return {name: frozenset({value}) for name, value in values.items()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (labels(severity="critical"), {"pager": 0.0, "chat": 0.0}),
        (labels(severity="warning"), {"chat": 1800.0}),
        (labels(severity="critical", user="mei"), {"mei": 0.0, "pager": 0.0, "chat": 0.0}),
        (labels(severity="critical", user="lin"), {"pager": 0.0, "chat": 0.0}),
        (labels(severity="warning", user="mei"), {"mei": 0.0, "chat": 1800.0}),
    ],
)
def test_the_first_route_that_fits_decides(
    given: dict[str, frozenset[str]], expected: dict[str, float]
) -> None:
    found = targets((OWNER, CRITICAL, WARNINGS), given, ["pager", "chat", "mei"])
    assert {name: target.digest_seconds for name, target in found.items()} == expected


def test_what_no_route_takes_goes_everywhere_and_says_so() -> None:
    found = targets((CRITICAL,), labels(severity="info"), ["pager", "chat"])
    assert {target.route for target in found.values()} == {EVERY_CHANNEL}
    assert list(found) == ["pager", "chat"]


def test_without_routes_every_channel_is_told() -> None:
    assert list(targets((), labels(severity="info"), ["a", "b"])) == ["a", "b"]


def test_of_two_routes_to_a_channel_the_quicker_counts() -> None:
    slow = RouteSettings(channels=("chat",), digest_seconds=60.0, continue_matching=True)
    found = targets((slow, CRITICAL), labels(severity="critical"), ["pager", "chat"])
    assert found["chat"].digest_seconds == 0


def test_wrong_routes_are_told_all_at_once() -> None:
    text = """
        [notify.channels.desk]
        kind = "stdout"
        [[notify.routes]]
        matchers = ["severity"]
        channels = ["desk"]
        [[notify.routes]]
        channels = ["desk"]
        digest_seconds = -1
        [[notify.routes.escalations]]
        after_seconds = 0
        channels = []
    """
    with pytest.raises(ConfigError) as refused:
        loads(text, WatchdogSettings)
    words = str(refused.value)
    assert "is no matcher" in words
    assert "after_seconds: 0 is not a positive number" in words


def test_a_route_to_nowhere_names_the_channels_that_there_are() -> None:
    text = """
        [notify.channels.desk]
        kind = "stdout"
        [[notify.routes]]
        channels = ["dekc"]
    """
    with pytest.raises(ConfigError, match=r"no channel 'dekc'; there are: desk"):
        loads(text, WatchdogSettings)
