"""The pages behind the links of notices: one that asks, one that says what was done.

They carry no token, as a phone has none: the link itself is the authority. A GET shows the button
and changes nothing; only the POST acts, once, within the link's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from jinja2 import Environment, PackageLoader, select_autoescape
from sqlalchemy import Connection, delete, insert, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from chipmedic.errors import ConfigError
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.lead.person import begin_act
from chipmedic_watchdog.notify.links import Link, LinkAct, LinkRefused, read
from chipmedic_watchdog.notify.settings import Language, NotifySettings
from chipmedic_watchdog.notify.words import words
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web import acts
from chipmedic_watchdog.web.endpoint import Endpoint
from chipmedic_watchdog.web.problem import Problem

FORM_BYTES_MAX = 4_096
NAME_LETTERS_MAX = 60
COOKIE = "chipmedic_name"
COOKIE_SECONDS = 365 * 86_400
REMEMBERED_SECONDS = 30 * 86_400.0
"""More than any link lives: it stays used."""
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    ),
}
STATUS = {
    "wrong": HTTPStatus.FORBIDDEN,
    "expired": HTTPStatus.GONE,
    "used": HTTPStatus.CONFLICT,
    "refused": HTTPStatus.CONFLICT,
}


@dataclass(frozen=True, slots=True)
class LinkPages:
    """Makes the routes."""

    database: Database
    settings: Callable[[], NotifySettings]
    clock: Clock
    on_act: Callable[[], None]

    def endpoints(self) -> list[Endpoint]:
        """Return the page that asks and the one that acts."""
        return [
            Endpoint(path="/act/{token}", name="ask", words="What a link of a notice would do.",
                     handler=self._answer, answer="text/html", is_open=True),
            Endpoint(path="/act/{token}", name="act", words="Do what a link says, once.",
                     handler=self._answer, answer="text/html", is_open=True, method="POST"),
        ]  # fmt: skip

    async def _answer(self, request: Request) -> Response:
        settings, now = self.settings(), self.clock.now()
        try:
            link = read(request.path_params["token"], settings.links.read_key(), now)
        except (LinkRefused, ConfigError) as e:
            reason = e.reason if isinstance(e, LinkRefused) else "wrong"
            return _page(settings.language, {"problem": reason}, STATUS[reason])
        language = Language(link.language)
        if used := await self.database.read(lambda c: _use_of(c, link)):
            return _page(language, {"problem": "used", **used}, STATUS["used"])
        if request.method != "POST":
            name = unquote(request.cookies.get(COOKIE, ""))[:NAME_LETTERS_MAX]
            return _page(language, _question(link, name))
        return await self._act(link, language, await _name(request), now)

    async def _act(self, link: Link, language: Language, name: str, now: float) -> Response:
        who = f"{name or 'nobody named'} (by link)"
        audit.VIA.set("link")
        try:
            await self.database.write(lambda c: _do(c, link, who, now))
        except LinkRefused:  # somebody was quicker
            used = await self.database.read(lambda c: _use_of(c, link))
            return _page(language, {"problem": "used", **(used or {})}, STATUS["used"])
        except Problem as e:
            return _page(language, {"problem": "refused", "why": e.detail}, STATUS["refused"])
        self.on_act()
        done = {"done": link.act.value, "who": who, "target": link.target}
        answer = _page(language, done)
        answer.set_cookie(COOKIE, quote(name), max_age=COOKIE_SECONDS, path="/act",
                          httponly=True, samesite="lax")  # fmt: skip
        return answer


def _do(connection: Connection, link: Link, who: str, now: float) -> None:
    """Use the link and do what it says, both or neither."""
    begin_act(connection)
    if _use_of(connection, link):
        raise LinkRefused("used")
    table = schema.used_links
    connection.execute(delete(table).where(table.c.at < now - REMEMBERED_SECONDS))
    values = {"id": link.id, "at": now, "who": who, "act": link.act.value, "target": link.target}
    connection.execute(insert(table).values(**values))
    if link.act is LinkAct.ACKNOWLEDGE:
        acts.acknowledge(connection, link.target, {"who": who, "why": ""}, now)
    else:
        acts.answer_recovery(connection, link.target, "approve", {"who": who}, now)


def _use_of(connection: Connection, link: Link) -> dict[str, Any] | None:
    table = schema.used_links
    row = connection.execute(select(table).where(table.c.id == link.id)).first()
    return None if row is None else {"who": row.who, "time": _moment(row.at)}


def _question(link: Link, name: str) -> dict[str, Any]:
    return {
        "act": link.act.value,
        "target": link.target,
        "time": _moment(link.expires_at),
        "given": name,
    }


async def _name(request: Request) -> str:
    """Return the name of the form: printable and short, whatever was sent."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > FORM_BYTES_MAX:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the form is over 4 KiB")
    given = parse_qs(data.decode(errors="replace")).get("who", [""])[0]
    return "".join(letter for letter in given if letter.isprintable()).strip()[:NAME_LETTERS_MAX]


def _page(
    language: Language, values: dict[str, Any], status: HTTPStatus = HTTPStatus.OK
) -> Response:
    environment = Environment(
        loader=PackageLoader("chipmedic_watchdog.web"), autoescape=select_autoescape()
    )
    said = words(language)
    text = environment.get_template("act.html").render(
        language=language.value, say=lambda key: said.say("page", key, **values), **values
    )
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
