"""Where nodes join: a small HTTPS application on a port of its own.

The stream's port lets nobody in without a certificate, so what has none yet comes here. `/ca.pem`
is public; the agent compares it with the fingerprint in its token before it sends the token.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from chipmedic.errors import StoreError
from chipmedic_watchdog.access import enrolment, tokens
from chipmedic_watchdog.access.authority import Authority
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.intake.bucket import Bucket
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import audit
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.problem import problem_response

log = logging.getLogger(__name__)

BODY_MAX_BYTES = 1 << 15
KEYS = ("token", "node", "csr")
REFUSALS_PER_SECOND, REFUSALS_BURST = 1.0, 50.0
"""Of one address; a fleet behind one address whose token has expired gets its clear answer."""
ADDRESSES_MAX = 10_000


class Malformed(ValueError):
    """The request is none."""


@dataclass(slots=True)
class JoinApp:
    """What the handlers need."""

    database: Database
    authority: Authority
    metrics: Metrics
    lifetime_seconds: float
    clock: Clock = field(default_factory=Clock)
    _refusals: dict[str, Bucket] = field(default_factory=dict)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("GET", "/ca.pem", self._authority),
            ("POST", "/join", self._join),
        ]
        return Starlette(routes=[Route(path, work, methods=[verb]) for verb, path, work in routes])

    async def _authority(self, _: Request) -> Response:
        return PlainTextResponse(self.authority.pem)

    async def _join(self, request: Request) -> Response:
        peer = request.client.host if request.client is not None else "unknown"
        if self._is_over_its_limit(peer):
            return self._refuse(request, HTTPStatus.TOO_MANY_REQUESTS, "too many refused requests")
        try:
            given = await _read(request)
            wanted = enrolment.Request(node=given["node"], csr=given["csr"])
        except ValueError as e:
            return self._refuse(request, HTTPStatus.BAD_REQUEST, str(e))
        try:
            issued = await self._write(given["token"], wanted)
        except (tokens.TokenRefused, enrolment.NotEnrolled) as e:
            return self._refuse(request, HTTPStatus.FORBIDDEN, str(e), given["node"])
        except StoreError as e:
            return self._refuse(request, HTTPStatus.SERVICE_UNAVAILABLE, str(e), given["node"])
        self.metrics.certificates_issued.labels("join").inc()
        log.info("node joined: node=%s peer=%s serial=%s", wanted.node, peer, issued.serial)
        return JSONResponse({"certificate": issued.pem, "authority": self.authority.pem})

    async def _write(self, token: str, wanted: enrolment.Request) -> Any:
        now = self.clock.now()
        audit.VIA.set(f"token:{token.split('.')[1]}" if token.count(".") > 1 else "")
        return await self.database.write(
            lambda c: enrolment.join(
                c,
                self.authority,
                wanted,
                token=token,
                lifetime_seconds=self.lifetime_seconds,
                now=now,
            )
        )

    def _is_over_its_limit(self, peer: str) -> bool:
        """Whether this address was refused too often: then it must wait for one more try."""
        bucket = self._refusals.get(peer)
        return bucket is not None and not bucket.has(1.0, time.monotonic())

    def _refuse(self, request: Request, status: HTTPStatus, why: str, node: str = "") -> Response:
        peer = request.client.host if request.client is not None else "unknown"
        self.metrics.certificates_refused.labels("join").inc()
        if len(self._refusals) >= ADDRESSES_MAX:
            self._refusals.clear()
        bucket = self._refusals.setdefault(
            peer, Bucket(REFUSALS_PER_SECOND, REFUSALS_BURST, time.monotonic())
        )
        if not bucket.take(1.0, time.monotonic()):
            log.warning("node not joined: node=%r peer=%s why=%s", node[:253], peer, why)
        return problem_response(status, why, request.url.path)


async def _read(request: Request) -> dict[str, str]:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > BODY_MAX_BYTES:
            raise Malformed(f"the request is over {BODY_MAX_BYTES} bytes")
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise Malformed(f"the request is not JSON: {e}") from e
    if not isinstance(given, dict) or set(given) != set(KEYS):
        raise Malformed(f"the request is not an object of: {', '.join(KEYS)}")
    if not all(isinstance(value, str) and "\0" not in value for value in given.values()):
        raise Malformed("a value of the request is no text")
    return given
