"""Slack by a bot's token: the first notice of an incident opens a thread, all others go into it.

An incoming webhook (`slack://` through apprise) cannot do that, as Slack does not tell it where its
message is. The bot needs the scope `chat:write` and has to be a member of the channel. What a
person must know at once (the end, a question) is shown in the channel as well as in the thread.
"""

from __future__ import annotations

import re

from chipmedic.errors import ConfigError, DeliveryFailed
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.channels import post
from chipmedic_watchdog.notify.occasions import NEEDS_NOW
from chipmedic_watchdog.notify.settings import ChannelSettings

API = "https://slack.com/api"
TEXT_LETTERS_MAX = 12_000
"""Slack cuts a message at 40,000 letters; a person reads less."""
PERMANENT = frozenset({"msg_too_long", "no_text", "invalid_arguments"})
"""Errors of this very message; a token or a membership can be mended meanwhile."""
RECEIPT = re.compile(r"message ([0-9.]+) in (\S+)")


class Slack:
    """One channel of a workspace."""

    def __init__(self, name: str, settings: ChannelSettings) -> None:
        self.name = name
        self._settings = settings
        self._client = post.client(settings.timeout_seconds)

    def deliver(self, notice: Notice) -> str:
        """Post into the incident's thread; see `Notifier.deliver`."""
        try:
            token = self._settings.read_secret().decode()
        except ConfigError as e:
            raise DeliveryFailed(str(e)) from e
        content = message(notice, self._settings.room)
        url = f"{(self._settings.url or API).rstrip('/')}/chat.postMessage"
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json; charset=utf-8",
        }
        answer = post.json_of(post.post(self._client, url, post.encode(content), headers))
        if answer.get("ok") is not True:
            why = str(answer.get("error", "no JSON in the answer"))
            raise DeliveryFailed(f"Slack: {why}", is_permanent=why in PERMANENT)
        return f"message {answer.get('ts')} in {answer.get('channel')}"


def message(notice: Notice, room: str) -> dict[str, object]:
    """Return the arguments of chat.postMessage."""
    text = f"*{_escaped(notice.title)}*\n{_escaped(notice.body)}"
    content: dict[str, object] = {
        "channel": room,
        "text": text[:TEXT_LETTERS_MAX],
        "unfurl_links": False,
        "unfurl_media": False,
    }
    place = RECEIPT.fullmatch(notice.earlier.first_receipt) if notice.earlier else None
    if place is not None:
        content["thread_ts"] = place[1]
        is_for_all = notice.is_resolved or notice.data.get("occasion") in NEEDS_NOW
        content["reply_broadcast"] = is_for_all
    return content


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
