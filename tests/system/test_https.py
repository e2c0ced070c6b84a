"""The HTTP side over TLS: who proves what to whom, and what is said where the proof is missing."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agent_rig import certificates
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

CHIPMEDIC = Path(sys.executable).with_name("chipmedic")
OWN = """http.own_certificate = true
http.loopback_role = "none"
http.token_file = "{folder}/secret"
[join]
listen = "127.0.0.1:0"
directory = "{folder}/authority"
"""
FILES = """http.certificate_file = "{folder}/watchdog.pem"
http.key_file = "{folder}/watchdog.key"
"""


def started(folder: Path, config: str) -> WatchdogProcess:
    (folder / "secret").write_text("the-sites-one-secret")
    watchdog = WatchdogProcess(folder / "watchdog", config.format(folder=folder))
    watchdog.start()
    watchdog.http = watchdog.http.replace("http://", "https://")
    return watchdog


@pytest.fixture
def own(tmp_path: Path) -> Iterator[WatchdogProcess]:
    watchdog = started(tmp_path, OWN)
    yield watchdog
    watchdog.close()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[WatchdogProcess]:
    certificates(tmp_path)
    watchdog = started(tmp_path, FILES)
    yield watchdog
    watchdog.close()


def chipmedic(
    watchdog: WatchdogProcess, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHIPMEDIC, *words],
        env={**os.environ, "CHIPMEDIC_WATCHDOG": watchdog.http, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_people_come_in_with_the_watchdogs_own_authority_and_a_token(
    own: WatchdogProcess, tmp_path: Path
) -> None:
    trusted = {"CHIPMEDIC_CA": f"{tmp_path}/authority/ca.pem"}
    admin = {**trusted, "CHIPMEDIC_TOKEN_FILE": f"{tmp_path}/secret"}
    create = ("watchdog", "token", "create", "--role", "view", "--name", "mei")
    made = chipmedic(own, *create, "--json", **admin)
    assert made.returncode == 0, made.stderr
    token = str(json.loads(made.stdout)["token"])
    assert chipmedic(own, "status", CHIPMEDIC_TOKEN=token, **trusted).returncode == 0
    for refused, words in (
        (chipmedic(own, *create, CHIPMEDIC_TOKEN=token, **trusted), "admin"),
        (chipmedic(own, "status", **trusted), "token"),
        (chipmedic(own, "status", CHIPMEDIC_TOKEN=token), "name its authority with --ca"),
    ):
        assert refused.returncode != 0
        assert refused.stderr.count("\n") == 1, refused.stderr
        assert words in refused.stderr
        assert token not in refused.stderr


def test_words_in_the_clear_are_not_answered(own: WatchdogProcess) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(own.http.replace("https://", "http://") + "/healthz", timeout=30)


def test_a_certificate_of_the_sites_own(files: WatchdogProcess, tmp_path: Path) -> None:
    """Exchanged while it listens: tests/watchdog/test_certificates.py."""
    trust = ssl.create_default_context(cafile=f"{tmp_path}/ca.pem")
    answer = httpx.get(files.http + "/healthz", verify=trust, timeout=60)
    assert (answer.status_code, answer.json()["warnings"]) == (200, {})
