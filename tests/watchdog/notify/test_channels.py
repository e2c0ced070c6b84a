"""Each channel against a real receiver: what arrives, what is signed, and what a failure says."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.channels import make
from chipmedic_watchdog.notify.channels.chat import blot_out
from chipmedic_watchdog.notify.channels.retry import RetryLater
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings
from waiting import PATIENCE_SECONDS
from watchdog.notify.receivers import HttpReceiver, Mailbox, unused_port

# A library that apprise imports uses a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOTICE = Notice(
    id="inc-000042/opened-1/desk",
    incident="inc-000042",
    severity="critical",
    is_resolved=False,
    title="CRITICAL: chip lost on node gpu-017",
    body="Where: node gpu-017\n位置：节点 gpu-017",
    data={"kind": "chip.lost", "nodes": ["gpu-017"]},
)
KEY = "s3cr3t-hmac-key"


def webhook(url: str, folder: Path, **values: object) -> ChannelSettings:
    (folder / "key").write_text(KEY + "\n")
    whole = ChannelSettings(
        kind=ChannelKind.WEBHOOK, url=url, secret_file=str(folder / "key"), timeout_seconds=2
    )
    return replace(whole, **values)  # type: ignore[arg-type]


def test_a_webhook_is_signed_over_time_and_body(tmp_path: Path) -> None:
    with HttpReceiver() as receiver:
        receipt = make("desk", webhook(receiver.url, tmp_path)).deliver(NOTICE)
    assert receipt == "HTTP 200"
    (request,) = receiver.requests
    stamp = request.headers["X-Chipmedic-Timestamp"]
    digest = hmac.new(KEY.encode(), stamp.encode() + b"." + request.body, hashlib.sha256)
    assert request.headers["X-Chipmedic-Signature"] == f"sha256={digest.hexdigest()}"
    assert abs(float(stamp) - time.time()) < 60
    assert request.headers["X-Chipmedic-Notice-Id"] == NOTICE.id
    content = json.loads(request.body)
    assert content["title"] == NOTICE.title
    assert "位置：节点 gpu-017" in content["body"]
    assert content["data"] == NOTICE.data


@pytest.mark.parametrize(
    ("status", "is_permanent"),
    [(500, False), (503, False), (429, False), (408, False), (400, True), (404, True), (301, True)],
)
def test_a_refusal_is_for_good_only_where_a_second_try_cannot_help(
    tmp_path: Path, status: int, is_permanent: bool
) -> None:
    with (
        HttpReceiver(answers=[(status, {})]) as receiver,
        pytest.raises(DeliveryFailed, match=f"HTTP {status}") as failed,
    ):
        make("desk", webhook(receiver.url, tmp_path)).deliver(NOTICE)
    assert failed.value.is_permanent == is_permanent


def test_the_receivers_wish_to_wait_is_heard(tmp_path: Path) -> None:
    with (
        HttpReceiver(answers=[(503, {"Retry-After": "17"})]) as receiver,
        pytest.raises(RetryLater) as failed,
    ):
        make("desk", webhook(receiver.url, tmp_path)).deliver(NOTICE)
    assert failed.value.after_seconds == 17


def test_nobody_there_and_a_slow_one_are_failures_that_pass(tmp_path: Path) -> None:
    gone = make("desk", webhook(f"http://127.0.0.1:{unused_port()}/x", tmp_path))
    with pytest.raises(DeliveryFailed, match="no answer: ConnectError") as failed:
        gone.deliver(NOTICE)
    assert not failed.value.is_permanent
    given_up = threading.Event()
    with HttpReceiver(before_answer=lambda: given_up.wait(PATIENCE_SECONDS)) as receiver:
        slow = make("desk", webhook(receiver.url, tmp_path, timeout_seconds=0.2))
        try:
            with pytest.raises(DeliveryFailed, match="no answer: ReadTimeout"):
                slow.deliver(NOTICE)
        finally:
            given_up.set()


def test_a_secret_is_read_anew_and_its_absence_is_said(tmp_path: Path) -> None:
    with HttpReceiver() as receiver:
        channel = make("desk", webhook(receiver.url, tmp_path))
        (tmp_path / "key").unlink()
        with pytest.raises(DeliveryFailed, match="secret_file: cannot be read"):
            channel.deliver(NOTICE)
        (tmp_path / "key").write_text("rotated")
        assert channel.deliver(NOTICE) == "HTTP 200"


def test_no_address_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpReceiver() as receiver:
        url = f"{receiver.url}?token=T0kenOfTheHook"
        make("desk", webhook(url, tmp_path)).deliver(NOTICE)
    assert "T0kenOfTheHook" not in caplog.text
    assert KEY not in caplog.text


def mail(port: int, monkeypatch: pytest.MonkeyPatch) -> ChannelSettings:
    people = "from=watch@example.org&to=ops@example.org"
    monkeypatch.setenv("OPS_MAIL", f"mailto://127.0.0.1:{port}/?{people}&mode=insecure")
    return ChannelSettings(kind=ChannelKind.APPRISE, url_env="OPS_MAIL", timeout_seconds=4)


def test_a_mail_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    with Mailbox() as mailbox:
        receipt = make("mail", mail(mailbox.port, monkeypatch)).deliver(NOTICE)
    assert "accepted" in receipt
    (one,) = mailbox.mails
    assert one["To"] == "ops@example.org"
    assert str(make_header(decode_header(one["Subject"]))) == NOTICE.title
    payload = one.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert "位置：节点 gpu-017" in payload.decode()


class PickyMailbox(Mailbox):
    """Refuses the mails of some, as long as they are in `refused`."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self.refused = set(refused)
        self.accepted: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refused & set(envelope.rcpt_tos):
            return "452 try later"
        self.accepted += envelope.rcpt_tos
        return await super().handle_DATA(server, session, envelope)


def owner_mail(port: int, monkeypatch: pytest.MonkeyPatch) -> ChannelSettings:
    people = "from=watch@example.org&to={job_owner}@example.org"
    monkeypatch.setenv("OWNER_MAIL", f"mailto://127.0.0.1:{port}/?{people}&mode=insecure")
    return ChannelSettings(
        kind=ChannelKind.APPRISE, url_env="OWNER_MAIL", timeout_seconds=4, to_job_owner=True
    )


def of_jobs(*users: str | None) -> Notice:
    return replace(NOTICE, data={"jobs": [{"job": f"slurm:{n}", "user": u}
                                          for n, u in enumerate(users)]})  # fmt: skip


def test_each_owner_of_a_hurt_job_gets_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with PickyMailbox("lin@example.org") as mailbox:
        channel = make("owners", owner_mail(mailbox.port, monkeypatch))
        notice = of_jobs("mei", "lin", "mei", None, "bob&to=everybody")
        with pytest.raises(DeliveryFailed, match=r"^lin: "):
            channel.deliver(notice)
        mailbox.refused.clear()
        assert channel.deliver(notice) == "accepted for mei, lin"
    assert mailbox.accepted == ["mei@example.org", "lin@example.org"]


@pytest.mark.parametrize("users", [(), (None,), ("-x", "a b", "m/../x", "")])
def test_a_notice_without_an_owner_that_fits_fails_for_good(
    monkeypatch: pytest.MonkeyPatch, users: tuple[str | None, ...]
) -> None:
    channel = make("owners", owner_mail(1, monkeypatch))
    with pytest.raises(DeliveryFailed, match="no job's owner") as failed:
        channel.deliver(of_jobs(*users))
    assert failed.value.is_permanent


def test_an_address_for_owners_must_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = make("owners", replace(mail(1, monkeypatch), to_job_owner=True))
    with pytest.raises(DeliveryFailed, match=r"does not hold {job_owner}"):
        channel.deliver(of_jobs("mei"))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What reaches the watchdog's own log; caplog would listen to loggers that do not."""
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith("mail.log"):  # the receiver's side
                lines.append(record.getMessage())

    root, keeper = logging.getLogger(), Keeper()
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(keeper)
    root.setLevel(level)


def test_a_mail_that_is_refused_says_why_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    with Mailbox(refusal="452 no space left") as mailbox:
        channel = make("mail", mail(mailbox.port, monkeypatch))
        with pytest.raises(DeliveryFailed) as failed:
            channel.deliver(NOTICE)
    assert not failed.value.is_permanent
    for words in (str(failed.value), *logged):
        assert "ops@example.org" not in words
        assert "mailto:" not in words


def test_an_url_that_apprise_does_not_know_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHAT", "fieshu://hush-hush-token")
    channel = make("chat", ChannelSettings(kind=ChannelKind.APPRISE, url_env="CHAT"))
    with pytest.raises(DeliveryFailed, match="none that apprise knows") as failed:
        channel.deliver(NOTICE)
    assert failed.value.is_permanent
    assert "hush" not in str(failed.value)


@pytest.mark.parametrize(
    ("said", "rest"),
    [
        ("failed: https://hooks.example.org/T1/B2/Xy9zAbc123", "failed: ***"),
        ("token Xy9zAbc123 is invalid", "token *** is invalid"),
        ("p@ss word is wrong", "*** is wrong"),
        ("timed out", "timed out"),
    ],
)
def test_secrets_are_blotted_out(said: str, rest: str) -> None:
    url = "https://hooks.example.org/T1/B2/Xy9zAbc123"
    if "word" in said:
        url = "mailto://user1:p%40ss%20word@127.0.0.1"
    assert blot_out(said, url) == rest


def test_a_program_gets_the_notice(tmp_path: Path) -> None:
    path = tmp_path / "tell"
    path.write_text(f'#!/bin/sh\ncat > {tmp_path}/got\necho "$CHIPMEDIC_NOTICE_ID" "$1"\n')
    path.chmod(0o755)
    channel = make("pager", ChannelSettings(kind=ChannelKind.COMMAND, argv=(str(path), "night")))
    assert channel.deliver(NOTICE) == f"{NOTICE.id} night"
    assert (tmp_path / "got").read_text() == f"{NOTICE.title}\n\n{NOTICE.body}\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("/bin/sh", "-c", "echo modem busy; exit 3"), "ended with 3: modem busy"),
        (("/bin/sh", "-c", "sleep 600"), "no end in 0.3 s; killed"),
        (("/nowhere/tell",), "cannot be started"),
    ],
)
def test_a_program_that_fails(argv: tuple[str, ...], words: str) -> None:
    seconds = 0.3 if "0.3 s" in words else PATIENCE_SECONDS
    channel = make(
        "pager", ChannelSettings(kind=ChannelKind.COMMAND, argv=argv, timeout_seconds=seconds)
    )
    with pytest.raises(DeliveryFailed, match=words):
        channel.deliver(NOTICE)


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    make("desk", ChannelSettings(kind=ChannelKind.STDOUT)).deliver(NOTICE)
    out = capsys.readouterr().out
    assert NOTICE.title in out
    assert NOTICE.body in out
