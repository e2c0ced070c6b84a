"""One POST of JSON, and what its answer means for a second try."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import httpx

from chipmedic.errors import DeliveryFailed
from chipmedic_watchdog.notify.channels.retry import RetryLater

TRY_AGAIN = frozenset({408, 409, 421, 423, 425, 429})
"""Client errors that pass; every other 4xx says that the request itself is wrong."""
ANSWER_LETTERS = 200
RETRY_AFTER_SECONDS_MAX = 3_600.0


def client(timeout_seconds: float) -> httpx.Client:
    """Return a client for one receiver."""
    for library in ("httpx", "httpcore"):  # they log every address, secrets in it included
        logging.getLogger(library).setLevel(logging.WARNING)
    # One client, because reading the certificate authorities costs more than the delivery; no
    # kept connection, because one that the receiver has closed looks like a failed delivery.
    return httpx.Client(timeout=timeout_seconds, limits=httpx.Limits(max_keepalive_connections=0))


def encode(content: Any) -> bytes:
    """Return JSON that is the same for the same content."""
    return json.dumps(content, ensure_ascii=False, sort_keys=True).encode()


def post(
    http: httpx.Client,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Post JSON; return an answer that says yes.

    Raises:
        DeliveryFailed: no answer, or one that says no; `RetryLater` where it says when.
    """
    whole = {"Content-Type": "application/json", "User-Agent": "chipmedic", **headers}
    try:
        answer = http.post(url, content=body, headers=whole, params=params)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as e:
        raise DeliveryFailed("the address is no http(s) URL", is_permanent=True) from e
    except httpx.HTTPError as e:
        # Not its text: that may hold the address, which may hold a secret.
        raise DeliveryFailed(f"no answer: {type(e).__name__}") from e
    _judge(answer)
    return answer


def _judge(answer: httpx.Response) -> None:
    status = answer.status_code
    if answer.is_success:
        return
    said = " ".join(answer.text.split())[:ANSWER_LETTERS]
    words = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    wait = answer.headers.get("Retry-After", "")
    if wait.isdecimal() and (status in TRY_AGAIN or status >= 500):
        raise RetryLater(words, after_seconds=min(float(wait), RETRY_AFTER_SECONDS_MAX))
    raise DeliveryFailed(words, is_permanent=300 <= status < 500 and status not in TRY_AGAIN)


def json_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; empty where it is none."""
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
