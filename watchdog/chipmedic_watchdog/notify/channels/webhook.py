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
import json
import logging
import time

import httpx

from chipmedic.errors import ConfigError, DeliveryFailed
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.channels.retry import RetryLater
from chipmedic_watchdog.notify.settings import ChannelSettings

TRY_AGAIN = frozenset({408, 409, 421, 423, 425, 429})
"""Client errors that pass; every other 4xx says that the request itself is wrong."""
ANSWER_LETTERS = 200
RETRY_AFTER_SECONDS_MAX = 3_600.0


class Webhook:
    """One address."""

    def __init__(self, name: str, settings: ChannelSettings) -> None:
        self.name = name
        self._settings = settings
        for library in ("httpx", "httpcore"):  # they log every address, secrets in it included
            logging.getLogger(library).setLevel(logging.WARNING)
        # One client, because reading the certificate authorities costs more than the delivery; no
        # kept connection, because one that the receiver has closed looks like a failed delivery.
        self._client = httpx.Client(
            timeout=settings.timeout_seconds, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def deliver(self, notice: Notice) -> str:
        """Post; see `Notifier.deliver`."""
        try:
            url, key = self._settings.read_url(), self._settings.read_secret()
        except ConfigError as e:
            raise DeliveryFailed(str(e)) from e
        body = encode(notice)
        timestamp = f"{time.time():.0f}"
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "chipmedic",
            "X-Chipmedic-Timestamp": timestamp,
            "X-Chipmedic-Signature": sign(key, timestamp, body),
            "X-Chipmedic-Notice-Id": notice.id,
        }
        try:
            answer = self._client.post(url, content=body, headers=headers)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as e:
            raise DeliveryFailed("the address is no http(s) URL", is_permanent=True) from e
        except httpx.HTTPError as e:
            # Not its text: that may hold the address, which may hold a secret.
            raise DeliveryFailed(f"no answer: {type(e).__name__}") from e
        return _judge(answer)


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
    return json.dumps(content, ensure_ascii=False, sort_keys=True).encode()


def sign(key: bytes, timestamp: str, body: bytes) -> str:
    """Return the value of `X-Chipmedic-Signature`."""
    digest = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def _judge(answer: httpx.Response) -> str:
    status = answer.status_code
    if answer.is_success:
        return f"HTTP {status}"
    said = " ".join(answer.text.split())[:ANSWER_LETTERS]
    words = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    wait = answer.headers.get("Retry-After", "")
    if wait.isdecimal() and (status in TRY_AGAIN or status >= 500):
        raise RetryLater(words, after_seconds=min(float(wait), RETRY_AFTER_SECONDS_MAX))
    raise DeliveryFailed(words, is_permanent=300 <= status < 500 and status not in TRY_AGAIN)
