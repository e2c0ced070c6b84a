"""Chat and mail through apprise: Slack, Teams, Feishu, DingTalk, WeCom, mail, a hundred more.

An apprise URL holds tokens and passwords. It is never logged, and what apprise itself says about a
failure is passed on only after every part of the URL that may be secret has been blotted out.

Mail is threaded: every mail of an incident refers to one message id, so that mail programs show
them together. The chats that apprise reaches have no threads for what comes by their webhooks.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from chipmedic.errors import ConfigError, DeliveryFailed
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.channels.retry import RetryLater
from chipmedic_watchdog.notify.channels.robots import Robot, robot_of, send
from chipmedic_watchdog.notify.settings import ChannelSettings

OWNER_FIELD = "{job_owner}"
OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
SECRET_LETTERS_MIN = 4
"""Shorter parts of a URL are words like `to` or a port, not secrets."""
NOT_SECRET = re.compile(r"[a-z]+|[0-9]{1,5}|localhost|127\.0\.0\.1|yes|no", re.IGNORECASE)


class Chat:
    """One apprise URL."""

    def __init__(self, name: str, settings: ChannelSettings) -> None:
        self.name = name
        self._settings = settings
        self._has_it: dict[str, list[str]] = {}
        """Of notices to job owners that have failed in part: who has them."""

    def deliver(self, notice: Notice) -> str:
        """Send by apprise; see `Notifier.deliver`."""
        try:
            url = self._settings.read_url()
        except ConfigError as e:
            raise DeliveryFailed(str(e)) from e
        if not self._settings.to_job_owner:
            return self._send(notice, url)
        return self._send_to_owners(notice, url)

    def _send_to_owners(self, notice: Notice, template: str) -> str:
        """Send to each owner; whoever has it gets it no second time when another one's fails."""
        if OWNER_FIELD not in template:
            words = f"to_job_owner: the address does not hold {OWNER_FIELD}"
            raise DeliveryFailed(words, is_permanent=True)
        has_it = self._has_it.setdefault(notice.id, [])
        failures = []
        for owner in owners_of(notice):
            if owner not in has_it:
                try:
                    self._send(notice, template.replace(OWNER_FIELD, owner))
                    has_it.append(owner)
                except DeliveryFailed as e:
                    failures.append((owner, e))
        if failures:
            owner, error = failures[0]
            raise DeliveryFailed(f"{owner}: {error}") from error
        del self._has_it[notice.id]
        if not has_it:
            raise DeliveryFailed("no job's owner has a name for an address", is_permanent=True)
        return f"accepted for {', '.join(has_it)}"

    def _send(self, notice: Notice, url: str) -> str:
        import apprise  # half a second and many megabytes: only where it is used

        with _said_in_this_thread() as lines:
            target = apprise.Apprise.instantiate(url, suppress_exceptions=True)
            if target is None:
                raise DeliveryFailed("the URL is none that apprise knows", is_permanent=True)
            if robot := robot_of(target):
                return self._send_by_robot(robot, target, notice, url)
            self._prepare(target, notice)
            is_delivered = target.notify(
                title=notice.title,
                body=notice.body,
                notify_type=_type(notice),
                body_format=apprise.NotifyFormat.TEXT,
            )
        if not is_delivered:
            said = blot_out("; ".join(lines[-3:]), url) or "apprise gave no reason"
            raise DeliveryFailed(said)
        return f"accepted by {target.service_name}"

    def _prepare(self, target: Any, notice: Notice) -> None:
        """Set what the URL does not: time limits, the thread of a mail, long texts in parts."""
        target.socket_connect_timeout = self._settings.timeout_seconds / 2
        target.socket_read_timeout = self._settings.timeout_seconds / 2
        import apprise

        if target.overflow_mode == apprise.OverflowMode.UPSTREAM:  # a long one may be refused
            target.overflow_mode = apprise.OverflowMode.SPLIT
        if type(target).__name__ == "NotifyEmail" and notice.incident:
            target.headers = thread_headers(notice.incident) | target.headers

    def _send_by_robot(self, robot: Robot, target: Any, notice: Notice, url: str) -> str:
        text = f"{notice.title}\n{notice.body}"
        try:
            return send(robot, target, text, timeout_seconds=self._settings.timeout_seconds / 2)
        except RetryLater as e:
            raise RetryLater(blot_out(str(e), url), after_seconds=e.after_seconds) from e
        except DeliveryFailed as e:
            raise DeliveryFailed(blot_out(str(e), url), is_permanent=e.is_permanent) from e


def owners_of(notice: Notice) -> list[str]:
    """Return the users of the jobs that a notice is about, as far as they can stand in an address.

    Names come from nodes: one that could change the meaning of the address is left out.
    """
    users = [str(job.get("user") or "") for job in notice.data.get("jobs", ())]
    return [user for user in dict.fromkeys(users) if OWNER.fullmatch(user)]


def thread_headers(incident: str) -> dict[str, str]:
    """Return the headers by which mail programs put the mails of an incident together (RFC 5322).

    They all refer to one message that was never sent: no state has to be kept.
    """
    root = f"<{incident}@chipmedic.invalid>"
    return {"In-Reply-To": root, "References": root}


def _type(notice: Notice) -> str:
    if notice.is_resolved:
        return "success"
    return {"critical": "failure", "warning": "warning"}.get(notice.severity, "info")


def blot_out(text: str, url: str) -> str:
    """Return the text without the URL and without any part of it that may be a secret."""
    parts = {url, unquote(url)}
    for piece in re.split(r"[/:@?&=#,]+", url):
        for spelling in (piece, unquote(piece)):
            if len(spelling) >= SECRET_LETTERS_MIN and not NOT_SECRET.fullmatch(spelling):
                parts.add(spelling)
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "***")
    return text


@contextmanager
def _said_in_this_thread() -> Iterator[list[str]]:
    """Collect what apprise logs while this thread delivers: its only way to give a reason."""
    lines: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread and record.levelno >= logging.WARNING:
                lines.append(record.getMessage())

    logger = logging.getLogger("apprise")
    handler = Collector()
    logger.addHandler(handler)
    # Its own words may hold the URL: nothing of them reaches the watchdog's log.
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
