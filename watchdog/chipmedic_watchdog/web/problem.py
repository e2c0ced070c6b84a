"""Errors of the HTTP interface as RFC 9457 problem documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chipmedic.errors import ChipmedicError


class Problem(ChipmedicError):
    """A request that is refused: status and one line for a person."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


def problem_response(status: int, detail: str, path: str) -> Response:
    """Return the problem document."""
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": int(status),
            "detail": detail,
            "instance": path,
        },
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )


async def on_problem(request: Request, error: Any) -> Response:
    """Answer a refusal of our own."""
    return problem_response(error.status, error.detail, request.url.path)


async def on_store_error(request: Request, error: Any) -> Response:
    """Answer while the store refuses."""
    return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error), request.url.path)


async def on_http_exception(request: Request, error: Any) -> Response:
    """Answer what the framework refuses: no such path, no such method."""
    response = problem_response(error.status_code, error.detail, request.url.path)
    response.headers.update(error.headers or {})
    return response
