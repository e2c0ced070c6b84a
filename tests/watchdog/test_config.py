"""The configuration file: defaults, refusals, secrets by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.address import is_loopback, split_address
from chipmedic.errors import ConfigError
from chipmedic_watchdog.config import WatchdogSettings, load_settings
from chipmedic_watchdog.main import EXIT_CONFIG, EXIT_OK, main
from chipmedic_watchdog.startup import read_token, store_url


def load(tmp_path: Path, text: str) -> WatchdogSettings:
    path = tmp_path / "watchdog.toml"
    path.write_text(text)
    return load_settings(path)


def test_defaults_stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/here:/var/lib/there")
    settings = WatchdogSettings()
    assert not settings.stream.is_exposed
    assert store_url(settings) == "sqlite:////var/lib/here/watchdog.db"


def test_every_problem_is_in_one_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(
            tmp_path,
            "[stream]\nlisten = 'everywhere'\n[liveness]\nsilence_seconds = -1\n"
            "[incidents]\nrule_file = 'x'\n[notify]\nlanguage = 'la'\n"
            "[store]\nurl = 'mysql://db/x'\n",
        )
    report = str(refusal.value)
    for words in ("'everywhere' is not host:port", "silence_seconds", "did you mean rules_file",
                  "notify.language", "store.url: allowed are sqlite:///FILE"):  # fmt: skip
        assert words in report


@pytest.mark.parametrize(
    ("listen", "is_exposed"),
    [("127.0.0.1:7443", False), ("[::1]:7443", False), ("localhost:7443", False),
     ("0.0.0.0:7443", True), ("[::]:7443", True), ("watchdog.example.org:7443", True)],
)  # fmt: skip
def test_an_open_port_without_tls_is_known(tmp_path: Path, listen: str, is_exposed: bool) -> None:
    settings = load(tmp_path, f"[stream]\nlisten = '{listen}'\n")
    assert settings.stream.is_exposed is is_exposed


def test_addresses() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert is_loopback("127.8.8.8")
    assert not is_loopback("example.org")
    for wrong in ("", ":80", "host", "host:http", "host:99999"):
        with pytest.raises(ValueError, match="is not host:port"):
            split_address(wrong)


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql+psycopg://me:secret@db/chipmedic\n")
    (tmp_path / "token").write_text("a-token\n")
    settings = load(
        tmp_path,
        f"store.url_file = '{tmp_path}/url'\nhttp.token_file = '{tmp_path}/token'\n"
        "http.listen = '0.0.0.0:7480'\n",
    )
    assert store_url(settings).startswith("postgresql+psycopg://me:secret@")
    assert read_token(settings) == "a-token"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_token(settings)
    (tmp_path / "url").unlink()
    with pytest.raises(ConfigError, match="url_file"):
        store_url(settings)


def test_check_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.toml"
    path.write_text("[http]\nlisten = '127.0.0.1:1'\n")
    assert main(["--config", str(path), "--check-config"]) == EXIT_OK
    path.write_text("[htpt]\n")
    assert main(["--config", str(path), "--check-config"]) == EXIT_CONFIG
    assert "did you mean http" in capsys.readouterr().err
    assert main(["--config", str(tmp_path / "none"), "--check-config"]) == EXIT_CONFIG
