"""A generic webhook: JSON by POST, signed so that the receiver knows who sent it and when.

The signature is HMAC-SHA256 over `<timestamp>.<body>` with the shared key, in hexadecimal:

    X-Chipmedic-Timestamp: 1764000000
    X-Chipmedic-Signature: sha256=…
    X-Chipmedic-Notice-Id: inc-000001/opened-1/desk

A receiver checks the signature, refuses old timestamps, and drops an id that it has seen: a notice
that was delivered and not recorded comes again.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from chipmedic.errors import ConfigError, DeliveryFailed
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.channels import post
from chipmedic_watchdog.notify.settings import ChannelSettings


class Webhook:
    """One address."""

    def __init__(self, name: str, settings: ChannelSettings) -> None:
        self.name = name
        self._settings = settings
        self._client = post.client(settings.timeout_seconds)

    def deliver(self, notice: Notice) -> str:
        """Post; see `Notifier.deliver`."""
        try:
            url, key = self._settings.read_url(), self._settings.read_secret()
        except ConfigError as e:
            raise DeliveryFailed(str(e)) from e
        body = encode(notice)
        timestamp = f"{time.time():.0f}"
        headers = {
            "X-Chipmedic-Timestamp": timestamp,
            "X-Chipmedic-Signature": sign(key, timestamp, body),
            "X-Chipmedic-Notice-Id": notice.id,
        }
        return f"HTTP {post.post(self._client, url, body, headers).status_code}"


def encode(notice: Notice) -> bytes:
    """Return the body of the request."""
    content = {
        "id": notice.id,
        "incident": notice.incident,
        "severity": notice.severity,
        "is_resolved": notice.is_resolved,
        "title": notice.title,
        "body": notice.body,
        "data": notice.data,
    }
    return post.encode(content)


def sign(key: bytes, timestamp: str, body: bytes) -> str:
    """Return the value of `X-Chipmedic-Signature`."""
    digest = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"
