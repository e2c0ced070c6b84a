"""The HTTP application: a table of endpoints over the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic_watchdog.access.authority import Authority
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.incidents.rules import RuleSet, builtin
from chipmedic_watchdog.intake.orders import collect_now
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.lead.leader import Lead
from chipmedic_watchdog.lead.person import begin_act
from chipmedic_watchdog.ledger.figures import LedgerReader
from chipmedic_watchdog.ledger.text import LANGUAGES
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.store import audit
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.store_figures import StoreFigures
from chipmedic_watchdog.version import own_version
from chipmedic_watchdog.web import acts, details, route_trial, silences, trial
from chipmedic_watchdog.web.access import Doors, authorize, require_json, require_role
from chipmedic_watchdog.web.access_api import AccessApi
from chipmedic_watchdog.web.endpoint import (
    PAGING,
    Endpoint,
    Handler,
    Parameter,
    Query,
    read_body,
    read_query,
)
from chipmedic_watchdog.web.figures import read_figures
from chipmedic_watchdog.web.links import LinkPages
from chipmedic_watchdog.web.listing import Listing
from chipmedic_watchdog.web.openapi import openapi
from chipmedic_watchdog.web.page import StatusPage
from chipmedic_watchdog.web.problem import Problem, on_http_exception, on_problem, on_store_error
from chipmedic_watchdog.web.report_page import HEADERS as REPORT_HEADERS
from chipmedic_watchdog.web.report_page import ReportPage
from chipmedic_watchdog.web.tables import INCIDENTS, SILENCES, TABLES

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REPORT_SECONDS = 30 * 86_400.0
WHO = "Who does this, for the audit; the name of the caller's token counts before it."
WHY = "Why, for the audit and for the others."


@dataclass(slots=True)
class Api:
    """What the handlers need."""

    database: Database
    metrics: Metrics
    health: Health
    doors: Doors = field(default_factory=Doors)
    sessions: Sessions | None = None
    """The live streams, for what is asked of an agent."""
    notify: NotifySettings = field(default_factory=NotifySettings)
    """The present ones: the key of the links, and the channels."""
    lead: Lead | None = None
    """Which watchdog leads."""
    rules: Callable[[], RuleSet] = builtin
    """Those of the correlation, for their words."""
    clock: Clock = field(default_factory=Clock)
    authority: Authority | None = None
    """Signs the certificates of nodes; None: they do not join here."""
    dry_run: Callable[[str], Awaitable[dict[str, Any] | None]] | None = None
    """Says what would be done about an incident."""
    on_act: Callable[[], None] = lambda: None
    """Called when a person has changed something."""
    on_revoked: Callable[[], None] = lambda: None
    """Called when a node's certificates were revoked."""

    def application(self) -> Starlette:
        """Return the ASGI application."""
        endpoints = self.endpoints()
        document = openapi(endpoints, own_version())

        async def describe(_: Request) -> Response:
            return JSONResponse(document)

        self_description = Endpoint(
            path="/api/v1/openapi.json", name="openapi", words="This document.", handler=describe
        )
        document["paths"] |= openapi([self_description], own_version())["paths"]
        routes = [
            Route(e.path, self._guarded(e), methods=[e.method], name=e.name)
            for e in (*endpoints, self_description)
        ]
        return Starlette(
            routes=routes,
            exception_handlers={
                Problem: on_problem,
                StoreError: on_store_error,
                HTTPException: on_http_exception,
            },
        )

    def endpoints(self) -> list[Endpoint]:
        """Return every endpoint of the interface."""
        links = LinkPages(
            self.database, lambda: self.notify, self.clock, on_act=lambda: self.on_act()
        )
        access = AccessApi(
            self.database, self.clock, self.authority, on_revoked=lambda: self.on_revoked()
        )
        own = [*self._pages(), *self._lists(), *self._details(), *self._acts()]
        return own + links.endpoints() + access.endpoints()

    def _guarded(self, endpoint: Endpoint) -> Handler:
        async def guarded(request: Request) -> Response:
            if not endpoint.is_open:
                caller = await authorize(request, self.database, self.doors, self.clock.now())
                require_role(caller, endpoint.needed_role)
                request.state.caller = caller
                audit.VIA.set(caller.via)
            if endpoint.method == "POST" and not endpoint.is_open:
                require_json(request)
            return await endpoint.handler(request)

        return guarded

    def _pages(self) -> list[Endpoint]:
        page = StatusPage(own_version())
        ledger = LedgerReader()

        async def status(_: Request) -> Response:
            now = self.clock.now()
            text = await self.database.read(lambda c: page.render(c, self.health, self.notify, now))
            return HTMLResponse(text)

        async def metrics(_: Request) -> Response:
            figures = StoreFigures()
            if self.lead is None or self.lead.is_held:
                figures = await self.database.read(lambda c: read_figures(c, ledger))
            return Response(self.metrics.render(figures), media_type=METRICS_TYPE)

        async def healthz(_: Request) -> Response:
            status_code = HTTPStatus.SERVICE_UNAVAILABLE if self.health.problems else HTTPStatus.OK
            return JSONResponse(
                {
                    "status": self.health.status,
                    "problems": self.health.problems,
                    "warnings": self.health.warnings,
                    "lead": self._lead_now(),
                    "version": own_version(),
                },
                status_code=status_code,
            )

        return [
            Endpoint(path="/", name="page", words="What is wrong now, as a page.",
                     handler=status, answer="text/html"),
            self._report_page(),
            Endpoint(path="/metrics", name="metrics", words="Metrics for Prometheus.",
                     handler=metrics, answer="text/plain", is_open=True),
            Endpoint(path="/healthz", name="healthz",
                     words="200 when all works, 503 with the reasons when not.", handler=healthz,
                     is_open=True),
        ]  # fmt: skip

    def _report_page(self) -> Endpoint:
        page = ReportPage(own_version())
        parameters = (
            Parameter(name="since", words="UNIX seconds; default: 30 days ago."),
            Parameter(name="job", words="One job instead of all, with its whole life."),
            Parameter(name="language", words="Of the page.", choices=LANGUAGES),
        )

        async def handler(request: Request) -> Response:
            query = read_query(request, parameters)
            language = query.get("language", "en")
            since = details.read_since(query, self.clock.now() - REPORT_SECONDS)
            text = await self.database.read(
                lambda c: (
                    page.of_job(c, query["job"], language)
                    if "job" in query
                    else page.of_all(c, since, language)
                )
            )
            return HTMLResponse(text, headers=REPORT_HEADERS)

        return Endpoint(path="/report", name="report_page",
                        words="Where the time went, as one page to read, send or print.",
                        handler=handler, parameters=parameters, answer="text/html")  # fmt: skip

    def _lead_now(self) -> dict[str, Any]:
        """Return who leads, as this watchdog knows it."""
        lead = self.lead
        if lead is None:
            return {}
        return {"is_leader": lead.is_held, "leader": lead.leader, "token": lead.token}

    def _lists(self) -> list[Endpoint]:
        endpoints = [
            self._reading(f"/api/v1/{name}", name, words, f"list:{answer}", listing.parameters,
                          _page_of(listing))
            for name, answer, words, listing in TABLES
        ]  # fmt: skip
        silenced = self._reading(
            "/api/v1/silences", "silences", "Silences and maintenance windows, newest first.",
            "list:Silence", SILENCES.parameters,
            lambda c, q, _: silences.page(c, SILENCES, q, self.clock.now()),
        )  # fmt: skip
        job_parameters = (
            Parameter(name="state", words="Only jobs in this state.", choices=("running",)),
            Parameter(name="node", words="Node."),
            *PAGING,
        )
        jobs = self._reading("/api/v1/jobs", "jobs", "Jobs, by name.", "list:Job", job_parameters,
                             lambda c, q, _: details.jobs(c, q))  # fmt: skip
        watchdogs = self._reading("/api/v1/watchdogs", "watchdogs",
                                  "The watchdogs of this store, and which of them leads.",
                                  "list:Watchdog", PAGING,
                                  lambda c, q, _: details.watchdogs(c, q))  # fmt: skip
        channels = self._reading(
            "/api/v1/channels", "channels", "The channels, and which do not deliver.",
            "list:Channel", PAGING,
            lambda c, q, _: details.channels(c, self.notify.channels, q),
        )  # fmt: skip
        way = self._reading(
            "/api/v1/notices/route", "try_route", "Where an incident with such labels would go.",
            "object", (route_trial.LABELS,), lambda _, q, __: route_trial.try_out(self.notify, q),
        )  # fmt: skip
        return [*endpoints, silenced, way, channels, jobs, watchdogs]

    def _details(self) -> list[Endpoint]:
        return [
            self._reading("/api/v1/nodes/{node}", "node",
                          "One node with chips, checks, jobs and open faults.", "Node", (),
                          lambda c, _, p: details.node(c, p["node"])),
            self._reading("/api/v1/incidents/{incident}", "incident",
                          "One incident with faults, notices and recoveries.", "Incident", (),
                          lambda c, _, p: details.incident(c, p["incident"], self.rules())),
            self._reading("/api/v1/recoveries/{recovery}", "recovery",
                          "One recovery with its steps.", "Recovery", (),
                          lambda c, _, p: details.recovery(c, p["recovery"])),
            self._reading("/api/v1/safety", "safety",
                          "Hold, breaker, and the nodes that chipmedic holds isolated.", "Safety",
                          (), lambda c, *_: details.safety(c)),
            self._reading("/api/v1/report", "report",
                          "Where the time of all jobs went that moved since then.", "Report",
                          (Parameter(name="since", words="UNIX seconds; default: ever."),),
                          lambda c, q, _: details.accounts(c, q)),
            # A job's name may hold a slash.
            self._reading("/api/v1/jobs/{job:path}/ledger", "job_ledger",
                          "Where the time of one job went.", "JobLedger",
                          (Parameter(name="language", words="Of the text.", choices=LANGUAGES),),
                          lambda c, q, p: details.account(c, p["job"], q)),
            self._reading("/api/v1/jobs/{job:path}", "job",
                          "One job with nodes, progress and lost time.", "Job", (),
                          lambda c, _, p: details.job(c, p["job"])),
        ]  # fmt: skip

    def _acts(self) -> list[Endpoint]:
        who, why = {"who": WHO}, {"who": WHO, "why": WHY}
        endpoints = [
            self._act("/api/v1/incidents/{incident}/acknowledge", "acknowledge",
                      "Say who looks after an incident.", "Incident", {"who": WHO, "why?": WHY},
                      lambda c, p, b, at: acts.acknowledge(c, p["incident"], b, at)),
            self._act("/api/v1/incidents/{incident}/resolve", "resolve",
                      "Close an incident by hand.", "Incident", why,
                      lambda c, p, b, at: acts.resolve(c, p["incident"], b, at)),
            self._act("/api/v1/nodes/{node}/give-back", "give_back",
                      "Give a node back that chipmedic has isolated.", "Recovery", why,
                      lambda c, p, b, at: acts.give_back(c, p["node"], b, at)),
        ]  # fmt: skip
        endpoints += [
            self._act(f"/api/v1/safety/{act}", act.replace("-", "_"), words, "Switch", why,
                      _turn_with(act.replace("-", "_")))
            for act, words in (
                ("hold", "The big red switch: nothing begins but what a person asks for."),
                ("release", "End the hold; what waited for it goes on."),
                ("reset-breaker", "Let the open breaker try one isolation."),
            )
        ]  # fmt: skip
        endpoints += [
            self._act("/api/v1/silences", "add_silence",
                      "Keep people from being told of some incidents for a time.", "Silence",
                      silences.BODY, lambda c, _, b, at: silences.add(c, b, at)),
            self._act("/api/v1/silences/{silence}/expire", "expire_silence",
                      "End a silence or a maintenance window now.", "Silence", who,
                      lambda c, p, b, at: silences.expire(c, p["silence"], b, at)),
            self._act("/api/v1/notices/test", "test_notice",
                      "Send a test notice to one channel.", "Notice",
                      {"channel": "Its name.", "who": WHO},
                      lambda c, _, b, at: trial.send(c, self.notify, b, at)),
        ]  # fmt: skip
        endpoints += [self._collect(), self._plan()]
        for act, words, body in (
            ("approve", "Let a proposed recovery begin.", who),
            ("retry", "Let a held recovery go on.", who),
            ("decline", "Answer a proposal with no.", why),
            ("stop", "End a recovery before its next step.", why),
        ):
            endpoints.append(
                self._act(f"/api/v1/recoveries/{{recovery}}/{act}", f"{act}_recovery", words,
                          "Recovery", body, _answer_with(act))
            )  # fmt: skip
        return endpoints

    def _plan(self) -> Endpoint:
        async def handler(request: Request) -> Response:
            read_query(request, ())
            incident = request.path_params["incident"]
            found = None if self.dry_run is None else await self.dry_run(incident)
            if found is None:
                problem = f"there is no open incident {incident!r}"
                raise Problem(HTTPStatus.NOT_FOUND, problem)
            return JSONResponse(found)

        return Endpoint(path="/api/v1/incidents/{incident}/plan", name="plan",
                        words="What would be done about an open incident now, with the exact "
                        "commands; nothing is done.", handler=handler)  # fmt: skip

    def _collect(self) -> Endpoint:
        body = {"who": WHO, "checks?": "Names of checks with commas between; none: all."}

        async def handler(request: Request) -> Response:
            given = await read_body(request, body)
            node = request.path_params["node"]
            checks = [name.strip() for name in given["checks"].split(",") if name.strip()]
            if self.sessions is None or node not in self.sessions.live:
                where = await self.database.read(lambda c: details.whereabouts(c, node))
                raise Problem(HTTPStatus.CONFLICT, f"{node} is {where}")
            now = self.clock.now()
            await self.database.write(lambda c: acts.note_collect(c, node, given, now))
            try:
                result = await collect_now(
                    self.sessions,
                    node,
                    checks,
                    fencing_token=0 if self.lead is None else self.lead.token,
                )
            except DeliveryFailed as e:
                raise Problem(HTTPStatus.GATEWAY_TIMEOUT, str(e)) from e
            return JSONResponse({"node": node, "ok": result.ok, "detail": result.detail})

        return Endpoint(path="/api/v1/nodes/{node}/collect", name="collect_now",
                        words="Let an agent run its checks now.", handler=handler, body=body,
                        method="POST")  # fmt: skip

    def _reading(
        self,
        path: str,
        name: str,
        words: str,
        answer: str,
        parameters: tuple[Parameter, ...],
        read: Read,
    ) -> Endpoint:
        async def handler(request: Request) -> Response:
            query = read_query(request, parameters)
            found = await self.database.read(lambda c: read(c, query, request.path_params))
            return JSONResponse(found)

        return Endpoint(path=path, name=name, words=words, answer=answer, parameters=parameters,
                        handler=handler)  # fmt: skip

    def _act(
        self,
        path: str,
        name: str,
        words: str,
        answer: str,
        body: dict[str, str],
        write: Write,
    ) -> Endpoint:
        async def handler(request: Request) -> Response:
            read_query(request, ())
            given = await read_body(request, body)
            now = self.clock.now()

            def act(connection: Connection) -> dict[str, Any]:
                begin_act(connection)
                return write(connection, request.path_params, given, now)

            found = await self.database.write(act)
            self.on_act()
            return JSONResponse(found)

        return Endpoint(path=path, name=name, words=words, answer=answer, body=body,
                        handler=handler, method="POST")  # fmt: skip


Read = Callable[[Connection, Query, dict[str, str]], dict[str, Any]]
Write = Callable[[Connection, dict[str, str], dict[str, str], float], dict[str, Any]]


def _incidents(connection: Connection, query: Query, _: dict[str, str]) -> dict[str, Any]:
    found = INCIDENTS.page(connection, query)
    return found | {"items": silences.with_holds(connection, found["items"])}


def _page_of(listing: Listing) -> Read:
    if listing is INCIDENTS:
        return _incidents
    return lambda connection, query, _: listing.page(connection, query)


def _turn_with(act: str) -> Write:
    return lambda connection, _, body, at: acts.turn_switch(connection, act, body, at)


def _answer_with(act: str) -> Write:
    return lambda connection, path, body, at: acts.answer_recovery(
        connection, path["recovery"], act, body, at
    )
