"""The agent's configuration: everything wrong at once, and a missing file is fine."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.address import split_address
from chipmedic.errors import ConfigError
from chipmedic_agent.config import AgentSettings, changed, load_settings

KNOWN = ("nvidia", "ascend", "kernel_log", "jobs")


def loaded(tmp_path: Path, text: str) -> AgentSettings:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_settings(path, KNOWN)


def test_a_whole_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        """
        node = "gpu-017"
        watchdogs = ["watch-1:7443", "[fd00::1]:7443"]
        labels = {rack = "r3", switch = "s1"}
        state_directory = "/tmp/x"
        [collectors.nvidia]
        period_seconds = 2
        [collectors.ascend]
        enabled = false
        [collectors.vendor_of_another_node]
        period_seconds = 9
        [spool]
        bytes_max = 2000000
        [tls]
        ca_file = "/etc/chipmedic/ca.pem"
        [inventory]
        forget = ["GPU-1"]
        """,
    )
    assert settings.node == "gpu-017"
    assert settings.for_collector("nvidia").period_seconds == 2.0
    assert not settings.for_collector("ascend").enabled
    assert settings.for_collector("kernel_log").enabled
    assert settings.inventory.forget == ("GPU-1",)


def test_a_missing_default_file_means_the_defaults() -> None:
    settings = load_settings(None)
    assert settings.watchdogs == ()
    assert settings.http.listen == "127.0.0.1:9480"


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "nothing.toml")


def test_the_state_directory_is_that_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")
    assert AgentSettings().state_directory == "/var/lib/a"


def test_every_problem_is_in_one_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as report:
        loaded(
            tmp_path,
            """
            watchdgos = ["a:1"]
            watchdogs = "a:1"
            [stream]
            heartbeat_seconds = -1
            snapshot_seconds = 0
            [spool]
            bytes_max = 5
            [http]
            listen = "9480"
            [tls]
            key_file = "/x"
            """,
        )
    text = str(report.value)
    for words in (
        "watchdgos: unknown key; did you mean watchdogs?",
        "heartbeat_seconds: -1 is not a positive number",
        "snapshot_seconds: 0 is not a positive number",
        "bytes_max: 5 is less than 1048576",
        "listen: '9480' is not host:port",
        "certificate_file and key_file: give both or none",
        "is not a list of texts",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('watchdogs = ["nowhere"]', "watchdogs: 'nowhere' is not host:port"),
        ('watchdogs = ["a:1", "a:1"]', "one is named twice"),
        ('node = ""', "node: must not be empty"),
        ("[collectors.nvida]\nenabled = false", "did you mean nvidia?"),
        ("[collectors.nvidia]\nperiod_seconds = 0", "period_seconds: 0 is not a positive number"),
        ("[collectors.nvidia]\nenabeld = true", "unknown key"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as report:
        loaded(tmp_path, text)
    assert words in str(report.value)


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:x", "a:99999", "::1"])
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        split_address(text)


def test_what_a_reload_has_to_apply(tmp_path: Path) -> None:
    old = loaded(tmp_path, "")
    new = loaded(tmp_path, 'labels = {rack = "r1"}\n[http]\nlisten = "127.0.0.1:1"')
    assert changed(old, new) == ["labels", "http"]
