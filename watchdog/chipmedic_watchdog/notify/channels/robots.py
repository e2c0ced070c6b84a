"""The robots of DingTalk and WeCom, which refuse with status 200 and an error code in the body.

apprise reads their URLs (`dingtalk://`, `wecombot://`) and would take every 200 for a delivery: a
missing keyword, a wrong signature or too many messages in a minute would be recorded as delivered
and reach nobody. So these two are posted here, and only `errcode` 0 is a delivery.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from chipmedic.errors import DeliveryFailed
from chipmedic_watchdog.notify.channels import post
from chipmedic_watchdog.notify.channels.retry import RetryLater

TOO_MANY = frozenset({130101, 130102, 45009, 45033})
"""Codes of both for: too many messages in this minute."""
TOO_MANY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Robot:
    """How one of them is spoken to; `target` is what apprise has read from the URL."""

    bytes_max: int
    """Of one message's text."""
    url: Callable[[Any], str]
    params: Callable[[Any], dict[str, str]]
    content: Callable[[Any, str], dict[str, Any]]


def _signature(target: Any) -> dict[str, str]:
    if not target.secret:
        return {}
    stamp = str(round(time.time() * 1000))
    text = f"{stamp}\n{target.secret}".encode()
    digest = hmac.new(target.secret.encode(), text, hashlib.sha256).digest()
    return {"timestamp": stamp, "sign": base64.b64encode(digest).decode()}


ROBOTS = {
    "NotifyDingTalk": Robot(
        bytes_max=18_000,
        url=lambda target: str(target.notify_url).format(token=target.token),
        params=_signature,
        content=lambda target, text: {
            "msgtype": "text",
            "text": {"content": text},
            "at": {"atMobiles": list(target.targets), "isAtAll": False},
        },
    ),
    "NotifyWeComBot": Robot(
        bytes_max=2_000,
        url=lambda target: str(target.notify_url).format(key=target.key),
        params=lambda _: {},
        content=lambda _, text: {"msgtype": "text", "text": {"content": text}},
    ),
}
"""By the name of apprise's class. Limits: DingTalk takes 20,000 bytes, WeCom 2,048."""


def robot_of(target: object) -> Robot | None:
    """Return how to speak to a target of apprise; None: apprise does it."""
    return ROBOTS.get(type(target).__name__)


def send(robot: Robot, target: Any, text: str, *, timeout_seconds: float) -> str:
    """Send a text, in several messages where it is too long for one; return a receipt.

    Raises:
        DeliveryFailed: the robot said no; with its own words.
    """
    url = httpx.URL(robot.url(target))
    parts = list(split(text, robot.bytes_max))
    with post.client(timeout_seconds) as http:
        for part in parts:
            params = dict(url.params) | robot.params(target)
            body = post.encode(robot.content(target, part))
            answer = post.json_of(post.post(http, str(url), body, {}, params))
            _judge(answer)
    return f"accepted by {target.service_name}: errcode 0"


def _judge(answer: dict[str, Any]) -> None:
    code = answer.get("errcode")
    if code == 0:
        return
    words = f"errcode {code}: {str(answer.get('errmsg', 'no JSON in the answer'))[:200]}"
    if code in TOO_MANY:
        raise RetryLater(words, after_seconds=TOO_MANY_SECONDS)
    raise DeliveryFailed(words)


def split(text: str, bytes_max: int) -> Iterator[str]:
    """Cut a text between its lines, a longer line between its letters."""
    part = ""
    for line in text.splitlines():
        while len(line.encode()) > bytes_max:
            head = line.encode()[:bytes_max].decode(errors="ignore")
            if part:
                yield part
                part = ""
            yield head
            line = line[len(head) :]
        joined = f"{part}\n{line}" if part else line
        if len(joined.encode()) > bytes_max:
            yield part
            joined = line
        part = joined
    if part:
        yield part
