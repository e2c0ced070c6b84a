"""Chats as their servers behave: refusals with status 200, limits of length, threads.

The receivers take the addresses of the vendors: apprise has those in its classes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from apprise.plugins.dingtalk import NotifyDingTalk
from apprise.plugins.feishu import NotifyFeishu
from apprise.plugins.slack import NotifySlack
from apprise.plugins.wecombot import NotifyWeComBot
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.errors import DeliveryFailed
from chipmedic.notifier import Earlier, Notice
from chipmedic_watchdog.notify.channels import make
from chipmedic_watchdog.notify.channels.retry import RetryLater
from chipmedic_watchdog.notify.channels.robots import split
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings
from watchdog.notify.receivers import HttpReceiver, Mailbox

# A library that apprise imports uses a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOTICE = Notice(
    id="inc-000042/opened-1/chat",
    incident="inc-000042",
    severity="critical",
    is_resolved=False,
    title="严重：节点 gpu-017 芯片丢失 [inc-000042]",
    body="位置：节点 gpu-017\n证据：NVRM: Xid 79 <GPU> & fallen off the bus",
    data={"occasion": "opened"},
)
TOKEN = "0f" * 32
WECOM_KEY = "c0ffee00-1111-2222-3333-444455556666"


def chat(monkeypatch: pytest.MonkeyPatch, url: str, **values: Any) -> Any:
    monkeypatch.setenv("CHAT_URL", url)
    settings = ChannelSettings(kind=ChannelKind.APPRISE, url_env="CHAT_URL", timeout_seconds=8)
    return make("chat", replace(settings, **values))


def dingtalk(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> Any:
    address = f"http://127.0.0.1:{receiver.port}/robot/send?access_token={{token}}"
    monkeypatch.setattr(NotifyDingTalk, "notify_url", address)
    return chat(monkeypatch, f"dingtalk://SEC5ecret@{TOKEN}/13800001111")


def wecom(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> Any:
    address = f"http://127.0.0.1:{receiver.port}/cgi-bin/webhook/send?key={{key}}"
    monkeypatch.setattr(NotifyWeComBot, "notify_url", address)
    return chat(monkeypatch, f"wecombot://{WECOM_KEY}")


def test_dingtalk_is_signed_and_takes_errcode_0_for_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with HttpReceiver(bodies=[b'{"errcode":0,"errmsg":"ok"}']) as receiver:
        receipt = dingtalk(receiver, monkeypatch).deliver(NOTICE)
    assert receipt == "accepted by DingTalk: errcode 0"
    (request,) = receiver.requests
    query = parse_qs(urlsplit(request.path).query)
    assert query["access_token"] == [TOKEN]
    text = f"{query['timestamp'][0]}\nSEC5ecret".encode()
    expected = base64.b64encode(hmac.new(b"SEC5ecret", text, hashlib.sha256).digest()).decode()
    assert query["sign"] == [expected]
    content = json.loads(request.body)
    assert content["text"]["content"] == f"{NOTICE.title}\n{NOTICE.body}"
    assert content["at"]["atMobiles"] == ["13800001111"]


@pytest.mark.parametrize("robot", [dingtalk, wecom])
@pytest.mark.parametrize(
    ("body", "words", "is_later"),
    [
        (b'{"errcode":310000,"errmsg":"keywords not in content"}', "310000: keywords not", False),
        (b'{"errcode":93000,"errmsg":"invalid webhook url"}', "93000: invalid webhook", False),
        (b'{"errcode":130101,"errmsg":"send too fast"}', "130101: send too fast", True),
        (b'{"errcode":45009,"errmsg":"api freq out of limit"}', "45009: api freq", True),
        (b"<html>a proxy's page</html>", "no JSON in the answer", False),
    ],
)
def test_a_refusal_with_status_200_is_no_delivery(
    monkeypatch: pytest.MonkeyPatch, robot: Any, body: bytes, words: str, is_later: bool
) -> None:
    with (
        HttpReceiver(bodies=[body]) as receiver,
        pytest.raises(DeliveryFailed, match=words) as failed,
    ):
        robot(receiver, monkeypatch).deliver(NOTICE)
    assert isinstance(failed.value, RetryLater) == is_later
    assert not failed.value.is_permanent
    assert TOKEN not in str(failed.value)


def test_wecom_gets_a_long_notice_in_parts_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(NOTICE, body="\n".join(f"证据第 {n} 行：" + "码" * 60 for n in range(40)))
    with HttpReceiver(bodies=[b'{"errcode":0}'] * 9) as receiver:
        wecom(receiver, monkeypatch).deliver(long)
    parts = [json.loads(request.body)["text"]["content"] for request in receiver.requests]
    assert len(parts) > 3
    assert all(len(part.encode()) <= 2048 for part in parts)
    assert "\n".join(parts) == f"{long.title}\n{long.body}"


@given(st.text(max_size=300), st.integers(4, 60))
def test_parts_hold_all_lines_in_order_and_none_is_too_long(text: str, bytes_max: int) -> None:
    parts = list(split(text, bytes_max))
    assert all(0 < len(part.encode()) <= bytes_max for part in parts)
    letters = "".join("".join(part.splitlines()) for part in parts)
    assert letters == "".join(text.splitlines())


@pytest.mark.parametrize(
    ("body", "is_delivered"),
    [(b'{"code":0,"msg":"success"}', True), (b'{"code":19024,"msg":"Key Words Not Found"}', False)],
)
def test_feishu(monkeypatch: pytest.MonkeyPatch, body: bytes, is_delivered: bool) -> None:
    with HttpReceiver(bodies=[body]) as receiver:
        address = f"http://127.0.0.1:{receiver.port}/hook/{{token}}/"
        monkeypatch.setattr(NotifyFeishu, "notify_url", address)
        channel = chat(monkeypatch, "feishu://abcdef0123456789abcdef0123456789")
        if is_delivered:
            assert channel.deliver(NOTICE) == "accepted by Feishu"
        else:
            with pytest.raises(DeliveryFailed, match="19024"):
                channel.deliver(NOTICE)
    assert "gpu-017" in json.loads(receiver.requests[0].body)["content"]["text"]


def test_an_incoming_webhook_of_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpReceiver() as receiver:
        address = f"http://127.0.0.1:{receiver.port}/services"
        monkeypatch.setattr(NotifySlack, "webhook_url", address)
        channel = chat(monkeypatch, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops")
        assert channel.deliver(NOTICE) == "accepted by Slack"
    assert "gpu-017" in receiver.requests[0].body.decode("unicode_escape")


def slack(receiver: HttpReceiver, folder: Path) -> Any:
    (folder / "token").write_text("xoxb-1-2-secret\n")
    settings = ChannelSettings(
        kind=ChannelKind.SLACK,
        url=f"http://127.0.0.1:{receiver.port}/api",
        secret_file=str(folder / "token"),
        room="C0123456789",
    )
    return make("chat", settings)


def test_slack_puts_an_incident_into_one_thread(tmp_path: Path) -> None:
    answers = [b'{"ok":true,"channel":"C0123456789","ts":"1900000000.000%d"}' % n for n in range(3)]
    with HttpReceiver(bodies=answers) as receiver:
        channel = slack(receiver, tmp_path)
        receipt = channel.deliver(NOTICE)
        earlier = Earlier(receipt, {})
        channel.deliver(replace(NOTICE, earlier=earlier, data={"occasion": "recovering"}))
        channel.deliver(replace(NOTICE, earlier=earlier, is_resolved=True))
    assert receipt == "message 1900000000.0000 in C0123456789"
    first, second, last = (json.loads(request.body) for request in receiver.requests)
    assert receiver.requests[0].path == "/api/chat.postMessage"
    assert receiver.requests[0].headers["Authorization"] == "Bearer xoxb-1-2-secret"
    assert "thread_ts" not in first
    assert "&lt;GPU&gt; &amp; fallen" in first["text"]
    assert (second["thread_ts"], second["reply_broadcast"]) == ("1900000000.0000", False)
    assert (last["thread_ts"], last["reply_broadcast"]) == ("1900000000.0000", True)


@pytest.mark.parametrize(
    ("answer", "body", "words", "is_permanent"),
    [
        ((200, {}), b'{"ok":false,"error":"not_in_channel"}', "Slack: not_in_channel", False),
        ((200, {}), b'{"ok":false,"error":"msg_too_long"}', "Slack: msg_too_long", True),
        ((200, {}), b"<html>", "Slack: no JSON", False),
        ((429, {"Retry-After": "30"}), b"", "HTTP 429", False),
    ],
)
def test_slack_refuses(
    tmp_path: Path, answer: Any, body: bytes, words: str, is_permanent: bool
) -> None:
    with (
        HttpReceiver(answers=[answer], bodies=[body]) as receiver,
        pytest.raises(DeliveryFailed, match=words) as failed,
    ):
        slack(receiver, tmp_path).deliver(NOTICE)
    assert failed.value.is_permanent == is_permanent
    assert "xoxb" not in str(failed.value)


def test_mails_of_an_incident_are_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    people = "from=watch@example.org&to=ops@example.org"
    with Mailbox() as mailbox:
        url = f"mailto://127.0.0.1:{mailbox.port}/?{people}&mode=insecure"
        channel = chat(monkeypatch, url)
        channel.deliver(NOTICE)
        channel.deliver(replace(NOTICE, is_resolved=True, title="Resolved"))
        channel.deliver(replace(NOTICE, incident="", title="A digest"))
    first, last, digest = mailbox.mails
    assert [one["References"] for one in (first, last)] == ["<inc-000042@chipmedic.invalid>"] * 2
    assert first["In-Reply-To"] == last["In-Reply-To"] == "<inc-000042@chipmedic.invalid>"
    assert first["Message-ID"] != last["Message-ID"]
    assert digest["References"] is None
    assert _text(first).startswith("位置：节点 gpu-017")


def _text(mail: Message) -> str:
    payload = mail.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()
