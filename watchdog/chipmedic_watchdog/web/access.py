"""Who may ask: this machine, or whoever has the token.

A page in a browser on this machine can reach loopback too. Its requests are told apart by the Host
header (a name that was rebound to 127.0.0.1) and by the content type, which a foreign page cannot
set to JSON without being asked first.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus

from starlette.requests import Request

from chipmedic_watchdog.config import is_loopback
from chipmedic_watchdog.web.problem import Problem

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def authorize(request: Request, token: str | None) -> None:
    """Let the request pass, or refuse it.

    Raises:
        Problem: 401 without the token, 403 from a foreign page.
    """
    given = request.headers.get("authorization", "")
    scheme, _, value = given.partition(" ")
    if given:
        is_right = token is not None and hmac.compare_digest(value.encode(), token.encode())
        if scheme.lower() == "bearer" and is_right:
            return
        raise Problem(HTTPStatus.UNAUTHORIZED, "the bearer token is not the one of http.token_file")
    is_direct = not any(name in request.headers for name in FORWARDED)
    if request.client is None or not is_loopback(request.client.host) or not is_direct:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "from another machine a bearer token is needed (http.token_file)",
        )
    if not is_loopback(request.url.hostname or ""):
        raise Problem(HTTPStatus.FORBIDDEN, f"Host {request.url.hostname!r} is not this machine")


def require_json(request: Request) -> None:
    """Refuse a body that a foreign page could have sent.

    Raises:
        Problem: the content type is not JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"content-type is {kind!r}, not application/json"
        )
