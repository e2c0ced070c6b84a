"""The node's certificate: what the daemon does with what it finds, and when it asks for one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from chipmedic.errors import StoreError, ToolBlocked
from chipmedic.host import Answer, LinuxHost
from chipmedic_agent import credentials
from chipmedic_agent.config import AgentSettings, TlsSettings
from chipmedic_agent.credentials import Credentials
from chipmedic_agent.enrol import NotJoined, fingerprint, with_port
from chipmedic_agent.membership import Membership, NoCertificate


def some(*, obtained: float = 0.0, life: float = 3000.0, node: str = "n1") -> Credentials:
    at = time.time() + obtained
    return Credentials(
        node=node, key="key", certificate=f"certificate-{at}", authority="authority",
        obtained_at=at, expires_at=at + life,
    )  # fmt: skip


class Children(LinuxHost):
    """Starts nothing; writes down what would be started, and does what the test says."""

    def __init__(self, folder: Path, result: Credentials | Answer | Exception) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self._folder = folder
        self._result = result

    def run(self, argv: Sequence[str], **_: object) -> Answer:
        self.calls.append(list(argv))
        if isinstance(self._result, Exception):
            raise self._result
        if isinstance(self._result, Answer):
            return self._result
        credentials.save(self._folder, self._result)
        return Answer(stdout="", stderr="", exit_code=0)


def refused(words: str) -> Answer:
    return Answer(stdout="", stderr=f"{words}\n", exit_code=1)


def make(
    folder: Path, result: Credentials | Answer | Exception, *, tls: TlsSettings | None = None
) -> tuple[Membership, Children, list[str]]:
    settings = AgentSettings(
        node="n1", watchdogs=("w1:7443", "w2:7443"), state_directory=str(folder),
        tls=tls or TlsSettings(),
    )  # fmt: skip
    host, changes = Children(folder, result), []
    return Membership(settings, host, changes.append), host, changes


TOKEN = TlsSettings(token_file="/etc/token")


@pytest.mark.parametrize(
    ("present", "tls", "act"),
    [
        (None, TlsSettings(), ""),
        (None, TOKEN, "join"),
        ({}, TOKEN, ""),
        ({"obtained": -1900.0}, TlsSettings(), ""),
        ({"obtained": -2100.0}, TlsSettings(), "renew"),
        ({"obtained": -3100.0}, TlsSettings(), ""),
        ({"obtained": -3100.0}, TOKEN, "join"),
        ({"node": "another"}, TlsSettings(), ""),
        ({"node": "another"}, TOKEN, "join"),
    ],
)
async def test_it_asks_when_it_is_due(tmp_path: Path, present, tls, act: str) -> None:
    if present is not None:  # made here: the test may run long after it was collected
        credentials.save(tmp_path, some(**present))
    membership, host, _ = make(tmp_path, some(), tls=tls)
    await membership.look()
    assert [call[3] for call in host.calls] == ([act] if act else [])
    if act == "join":
        assert host.calls[0][-2:] == ["--", "w1:7444"]
    if act == "renew":
        assert host.calls[0][-3:] == ["--", "w1:7443", "w2:7443"]


async def test_a_new_certificate_opens_the_stream_anew_once(tmp_path: Path) -> None:
    credentials.save(tmp_path, some(obtained=-2100.0))
    membership, _, changes = make(tmp_path, some())
    await membership.look()
    await membership.look()
    assert changes == ["joined", "the certificate was renewed"]
    assert membership.trouble == ""


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (refused("w1:7443: permission_denied: was revoked"), "renew: w1:7443: permission_denied"),
        (ToolBlocked("python: no answer in 60 s"), "renew: python: no answer in 60 s"),
    ],
)
async def test_a_renewal_that_fails_keeps_the_old_one_and_waits(
    tmp_path: Path, result, words: str, caplog
) -> None:
    credentials.save(tmp_path, some(obtained=-2100.0))
    membership, host, _ = make(tmp_path, result)
    for _ in range(3):
        await membership.look()
    assert len(host.calls) == 1
    assert words in membership.trouble
    assert caplog.text.count("certificate: renew") == 1
    assert await membership.shown() is not None


async def test_without_the_certificate_that_it_should_have_nothing_is_said_in_the_clear(
    tmp_path: Path,
) -> None:
    membership, _, _ = make(tmp_path, refused("the token has expired"), tls=TOKEN)
    await membership.look()
    with pytest.raises(NoCertificate, match="the token has expired"):
        await membership.shown()
    (tmp_path / credentials.FILE).write_text("{}")
    damaged, _, _ = make(tmp_path, refused("x"))
    await damaged.look()
    with pytest.raises(NoCertificate, match="join again"):
        await damaged.shown()


async def test_where_none_is_wanted_none_is_shown(tmp_path: Path) -> None:
    membership, host, _ = make(tmp_path, refused("x"))
    await membership.look()
    assert await membership.shown() is None
    assert host.calls == []


async def test_one_that_has_expired_says_what_to_do(tmp_path: Path) -> None:
    credentials.save(tmp_path, some(obtained=-3100.0))
    membership, _, _ = make(tmp_path, refused("x"))
    await membership.look()
    assert "run chipmedic agent join" in membership.trouble


class TestFile:
    def test_it_comes_back_as_it_was(self, tmp_path: Path) -> None:
        assert credentials.load(tmp_path) is None
        written = some()
        credentials.save(tmp_path, written)
        credentials.save(tmp_path, replace(written, key="another"))
        assert credentials.load(tmp_path) == replace(written, key="another")
        assert (tmp_path / credentials.FILE).stat().st_mode & 0o777 == 0o600
        assert [p.name for p in tmp_path.iterdir()] == [credentials.FILE]

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", "{", '{"node": "n1"}',
                 json.dumps(asdict(some()) | {"key": None}),
                 json.dumps(asdict(some()) | {"expires_at": "soon"}),
                 json.dumps(asdict(some()) | {"more": 1})]
    )  # fmt: skip
    def test_a_damaged_one_is_one_line(self, tmp_path: Path, text: str) -> None:
        (tmp_path / credentials.FILE).write_text(text)
        with pytest.raises(StoreError, match="join again"):
            credentials.load(tmp_path)


def test_the_fingerprint_of_a_token() -> None:
    assert fingerprint("cmj.id.secret.abc") == "abc"
    for wrong in ("", "cmj", "cmj.id.secret", "cmo.id.secret", "cmj.id.secret.abc.more"):
        with pytest.raises(NotJoined, match="no join token"):
            fingerprint(wrong)


@pytest.mark.parametrize(
    ("given", "address"),
    [("w1", "w1:7444"), ("w1:17444", "w1:17444"), ("10.0.0.1", "10.0.0.1:7444"),
     ("[::1]", "[::1]:7444"), ("[::1]:80", "[::1]:80")],
)  # fmt: skip
def test_where_to_join(given: str, address: str) -> None:
    assert with_port(given) == address
