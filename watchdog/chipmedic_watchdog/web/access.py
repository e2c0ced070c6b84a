"""Who may ask: this machine, or whoever has a token.

A page in a browser on this machine can reach loopback too. Its requests are told apart by the Host
header (a name that was rebound to 127.0.0.1) and by the content type, which a foreign page cannot
set to JSON without being asked first.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request

from chipmedic.address import is_loopback
from chipmedic_watchdog.access.roles import Caller, Role
from chipmedic_watchdog.access.tokens import TokenRefused, find_operator
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.problem import Problem

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@dataclass(frozen=True, slots=True)
class Doors:
    """The ways in that need no token of the store."""

    token: str | None = None
    """One secret for many, of `http.token_file`; whoever has it is admin."""
    loopback_role: Role | None = Role.ADMIN
    """What a caller from this machine is without a token; None: it needs one."""


async def authorize(request: Request, database: Database, doors: Doors, now: float) -> Caller:
    """Return who sends the request.

    Raises:
        Problem: 401 without a token that is in force, 403 from a foreign page.
    """
    given = request.headers.get("authorization", "")
    if given:
        return await _by_token(given, database, doors, now)
    is_direct = not any(name in request.headers for name in FORWARDED)
    if request.client is None or not is_loopback(request.client.host) or not is_direct:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "from another machine a bearer token is needed: "
            "chipmedic watchdog token create --role ROLE --name NAME",
        )
    if not is_loopback(request.url.hostname or ""):
        raise Problem(HTTPStatus.FORBIDDEN, f"Host {request.url.hostname!r} is not this machine")
    if doors.loopback_role is None:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "a bearer token is needed on this machine, too (http.loopback_role is none)",
        )
    return Caller(doors.loopback_role, "loopback")


async def _by_token(given: str, database: Database, doors: Doors, now: float) -> Caller:
    scheme, _, value = given.partition(" ")
    if scheme.lower() != "bearer":
        raise Problem(HTTPStatus.UNAUTHORIZED, "the authorization is not of the kind Bearer")
    if doors.token is not None and hmac.compare_digest(value.encode(), doors.token.encode()):
        return Caller(Role.ADMIN, "token_file")
    try:
        return await database.read(lambda c: find_operator(c, value, now))
    except TokenRefused as e:
        raise Problem(HTTPStatus.UNAUTHORIZED, str(e)) from e


def require_role(caller: Caller, needed: Role) -> None:
    """Refuse who may not do this.

    Raises:
        Problem: 403, with the role that it takes.
    """
    if caller.role < needed:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"{caller.title} has the role {caller.role.word}; this needs {needed.word}",
        )


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
