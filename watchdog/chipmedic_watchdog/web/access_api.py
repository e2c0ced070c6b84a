"""The endpoints of access: tokens, certificates, the audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chipmedic_watchdog.access import enrolment, tokens
from chipmedic_watchdog.access.authority import Authority
from chipmedic_watchdog.access.roles import ROLES, Role
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.endpoint import Endpoint, Parameter, read_body, read_query
from chipmedic_watchdog.web.listing import Filter, Listing
from chipmedic_watchdog.web.problem import Problem

WHO = "Who does this; the name of the caller's token counts before it."
WHY = "Why, for the audit."
TTL = "Seconds until it expires; `never` for an operator's that does not."
NEVER = "never"
OPERATOR_BODY = {
    "who": WHO,
    "name": "Whose it is; the name in the audit.",
    "role": f"One of: {', '.join(ROLES)}.",
    "ttl_seconds?": TTL,
}
JOIN_BODY = {
    "who": WHO,
    "node?": "The only node that may use it; none: any that has no certificate yet.",
    "uses?": "How many nodes may join with it; default 1.",
    "ttl_seconds?": TTL,
}
TTL_MAX_SECONDS = 10 * 365 * 86400.0
JOIN_SECONDS, OPERATOR_SECONDS = 86400.0, 90 * 86400.0
NO_STORE = {"Cache-Control": "no-store"}
"""A new token is in the answer: no proxy and no browser may keep it."""


def _equal(name: str, words: str) -> Filter:
    return Filter(parameter=Parameter(name=name, words=words), column=name)


TOKENS = Listing(
    table=schema.tokens, key="id", is_descending=False,
    filters=(_equal("role", "Role; `join` for those of nodes."), _equal("name", "Name.")),
)  # fmt: skip
CERTIFICATES = Listing(
    table=schema.certificates, key="serial", is_descending=False,
    filters=(_equal("node", "Node."),),
)  # fmt: skip
AUDIT = Listing(
    table=schema.audit, key="id", is_descending=False, is_integer_key=True,
    filters=(_equal("who", "Who."), _equal("act", "Act."), _equal("target", "Target.")),
)  # fmt: skip


@dataclass(slots=True)
class AccessApi:
    """What the handlers need."""

    database: Database
    clock: Clock
    authority: Authority | None = None
    """None: nodes do not join here."""
    on_revoked: Callable[[], None] = field(default=lambda: None)

    def endpoints(self) -> list[Endpoint]:
        """Return all of them."""
        return [
            Endpoint(path="/api/v1/whoami", name="whoami", handler=self._whoami, answer="Caller",
                     words="Who the caller is here, and what it may do."),
            self._list("/api/v1/tokens", "tokens", "Tokens without their secrets.", "Token",
                       TOKENS, Role.ADMIN),
            self._list("/api/v1/certificates", "certificates", "Certificates of nodes.",
                       "Certificate", CERTIFICATES, Role.VIEW),
            self._list("/api/v1/audit", "audit", "What was done, oldest first.", "AuditEntry",
                       AUDIT, Role.VIEW),
            Endpoint(path="/api/v1/audit/head", name="audit_head", handler=self._head,
                     answer="AuditHead",
                     words="Number and hash of the newest entry of the audit."),
            Endpoint(path="/api/v1/tokens/operator", name="create_operator_token", method="POST",
                     words="Make a token for a person or a program.", answer="NewToken",
                     body=OPERATOR_BODY,
                     handler=self._create_operator, role=Role.ADMIN),
            Endpoint(path="/api/v1/tokens/join", name="create_join_token", method="POST",
                     words="Make a token with which nodes join.", answer="NewToken",
                     body=JOIN_BODY,
                     handler=self._create_join, role=Role.ADMIN),
            Endpoint(path="/api/v1/tokens/{token}/revoke", name="revoke_token", method="POST",
                     words="Make a token worthless.", body={"who": WHO, "why?": WHY},
                     handler=self._revoke_token, role=Role.ADMIN),
            Endpoint(path="/api/v1/nodes/{node}/revoke", name="revoke_node", method="POST",
                     words="Make every certificate of a node worthless and end its stream.",
                     body={"who": WHO, "why": WHY}, handler=self._revoke_node, role=Role.ADMIN),
        ]  # fmt: skip

    def _list(
        self, path: str, name: str, words: str, answer: str, listing: Listing, role: Role
    ) -> Endpoint:
        async def handler(request: Request) -> Response:
            query = read_query(request, listing.parameters)
            page = await self.database.read(lambda c: listing.page(c, query))
            page["items"] = [tokens.shown(item) for item in page["items"]]
            return JSONResponse(page)

        return Endpoint(path=path, name=name, words=words, answer=f"list:{answer}",
                        parameters=listing.parameters, handler=handler, role=role)  # fmt: skip

    async def _whoami(self, request: Request) -> Response:
        caller = request.state.caller
        return JSONResponse({"name": caller.name, "role": caller.role.word, "via": caller.via})

    async def _head(self, _: Request) -> Response:
        head = await self.database.read(audit.read_head)
        return JSONResponse({"seq": head.seq, "hash": head.hash})

    async def _create_operator(self, request: Request) -> Response:
        given = await read_body(request, OPERATOR_BODY)
        if given["role"] not in ROLES:
            allowed = ", ".join(ROLES)
            raise Problem(
                HTTPStatus.BAD_REQUEST, f"role: {given['role']!r} is not one of: {allowed}"
            )
        return await self._create(given, given["role"], given["name"], None, OPERATOR_SECONDS)

    async def _create_join(self, request: Request) -> Response:
        given = await read_body(request, JOIN_BODY)
        if self.authority is None:
            raise Problem(
                HTTPStatus.CONFLICT, "nodes do not join here: the configuration has no [join]"
            )
        uses = _number("uses", given["uses"] or "1")
        if given["node"] and uses != 1:
            raise Problem(HTTPStatus.BAD_REQUEST, "uses: a token for one node has one use")
        return await self._create(given, tokens.JOIN_ROLE, given["node"], uses, JOIN_SECONDS)

    async def _create(
        self, given: dict[str, str], role: str, name: str, uses: int | None, seconds: float
    ) -> Response:
        now = self.clock.now()
        is_endless = given["ttl_seconds"] == NEVER and role != tokens.JOIN_ROLE
        lifetime = seconds if not given["ttl_seconds"] or is_endless else _ttl(given["ttl_seconds"])
        try:
            granted = tokens.Granted(
                role=role, name=name, uses=uses, expires_at=None if is_endless else now + lifetime
            )
        except ValueError as e:
            raise Problem(HTTPStatus.BAD_REQUEST, str(e)) from e
        fingerprint = self.authority.fingerprint if self.authority is not None else ""
        made = await self.database.write(
            lambda c: tokens.create(c, granted, who=given["who"], now=now, fingerprint=fingerprint)
        )
        return JSONResponse(made, headers=NO_STORE)

    async def _revoke_token(self, request: Request) -> Response:
        given = await read_body(request, {"who": WHO, "why?": WHY})
        identity, now = request.path_params["token"], self.clock.now()
        is_done = await self.database.write(
            lambda c: tokens.revoke(c, identity, who=given["who"], why=given["why"], now=now)
        )
        if not is_done:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no token {identity!r} in force")
        return JSONResponse({"id": identity, "revoked_at": now})

    async def _revoke_node(self, request: Request) -> Response:
        given = await read_body(request, {"who": WHO, "why": WHY})
        node, now = request.path_params["node"], self.clock.now()
        count = await self.database.write(
            lambda c: enrolment.revoke(c, node, who=given["who"], why=given["why"], now=now)
        )
        if not count:
            raise Problem(HTTPStatus.NOT_FOUND, f"{node} has no certificate of ours in force")
        self.on_revoked()
        return JSONResponse({"node": node, "certificates": count})


def _number(key: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{key}: {text!r} is not a number")
    return int(text)


def _ttl(text: str) -> float:
    seconds = float(_number("ttl_seconds", text))
    if not 1 <= seconds <= TTL_MAX_SECONDS:
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"ttl_seconds: {text} is not 1 to {TTL_MAX_SECONDS:.0f}"
        )
    return seconds


SCHEMAS: dict[str, Any] = {
    "Caller": {
        "type": "object",
        "properties": {
            "name": {"type": ["string", "null"]},
            "role": {"type": "string", "enum": list(ROLES)},
            "via": {"type": "string"},
        },
    },
    "AuditHead": {
        "type": "object",
        "properties": {"seq": {"type": "integer"}, "hash": {"type": "string"}},
    },
    "NewToken": {
        "allOf": [{"$ref": "#/components/schemas/Token"}],
        "properties": {"token": {"type": "string", "description": "Shown this once."}},
    },
}
