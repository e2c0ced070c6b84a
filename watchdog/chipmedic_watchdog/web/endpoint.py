"""One endpoint as data: it makes the route, reads the query and writes the OpenAPI page."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from chipmedic_watchdog.access.roles import Role
from chipmedic_watchdog.web.problem import Problem

LIMIT_DEFAULT, LIMIT_MAX = 100, 1000
TEXT_MAX = 300

Handler = Callable[[Request], Awaitable[Response]]
Query = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter."""

    name: str
    words: str
    choices: tuple[str, ...] = ()
    is_integer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path and method."""

    path: str
    """As starlette writes it; `:path` is left out in the OpenAPI page."""
    name: str
    words: str
    handler: Handler
    method: str = "GET"
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, str] | None = None
    """Keys of the JSON body with their meaning; one that ends in `?` may be missing."""
    answer: str = "object"
    """Name of the schema, `list:<name>` for a page of them, or a media type."""
    role: Role | None = None
    """The least that its caller must be; None: view to read, operate for the rest."""
    is_open: bool = False
    """Whoever can reach it may ask: it says nothing that harms, or checks by itself who asks."""

    @property
    def needed_role(self) -> Role:
        """The least that its caller must be."""
        if self.role is not None:
            return self.role
        return Role.VIEW if self.method == "GET" else Role.OPERATE


PAGING = (
    Parameter(name="limit", words=f"Rows of one page, 1 to {LIMIT_MAX}.", is_integer=True),
    Parameter(name="after", words="The `next` of the page before."),
)


def read_query(request: Request, parameters: tuple[Parameter, ...]) -> Query:
    """Return the query, held to what the endpoint knows.

    Raises:
        Problem: an unknown parameter, or a value that is not allowed.
    """
    known = {parameter.name: parameter for parameter in parameters}
    query: Query = {}
    for name, value in request.query_params.multi_items():
        parameter = known.get(name)
        if parameter is None:
            allowed = ", ".join(sorted(known)) or "none"
            raise Problem(
                HTTPStatus.BAD_REQUEST, f"{name}: unknown parameter; there are: {allowed}"
            )
        if parameter.choices and value not in parameter.choices:
            allowed = ", ".join(parameter.choices)
            raise Problem(HTTPStatus.BAD_REQUEST, f"{name}: {value!r} is not one of: {allowed}")
        if len(value) > TEXT_MAX or "\0" in value:
            raise Problem(HTTPStatus.BAD_REQUEST, f"{name}: not a usable text")
        query[name] = value
    return query


def read_limit(query: Query) -> int:
    """Return the rows of a page.

    Raises:
        Problem: no number, or out of range.
    """
    text = query.get("limit", str(LIMIT_DEFAULT))
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise Problem(HTTPStatus.BAD_REQUEST, f"limit: {text!r} is not a number 1 to {LIMIT_MAX}")
    return int(text)


async def read_body(request: Request, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the JSON body: texts under the keys that the endpoint knows.

    `who` is the name of the caller's token, whatever the body says: nobody can act as another. Only
    who has no token of a name is taken at its word.

    Raises:
        Problem: no JSON object, an unknown or missing key, or no text.
    """
    data = await _json(request)
    caller = getattr(request.state, "caller", None)
    if "who" in keys and caller is not None and caller.name is not None:
        data["who"] = caller.name
    known = {key.removesuffix("?") for key in keys}
    for key, value in data.items():
        if key not in known:
            raise Problem(HTTPStatus.BAD_REQUEST, f"{key}: unknown key; there are: {sorted(known)}")
        if not isinstance(value, str) or len(value) > BODY_TEXT_MAX or "\0" in value:
            raise Problem(HTTPStatus.BAD_REQUEST, f"{key}: not a text of up to {BODY_TEXT_MAX}")
    for key in keys:
        if not key.endswith("?") and not str(data.get(key, "")).strip():
            raise Problem(HTTPStatus.BAD_REQUEST, f"{key}: required ({keys[key]})")
    return {key: str(data.get(key, "")).strip() for key in known}


BODY_TEXT_MAX = 2000
BODY_MAX_BYTES = 1 << 16


async def _json(request: Request) -> dict[str, Any]:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > BODY_MAX_BYTES:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is over 64 KiB")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "the body is not a JSON object")
    return value
