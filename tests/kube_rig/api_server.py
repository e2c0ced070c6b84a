"""A stand-in for the API server: real HTTP, real versions and conflicts, and no cluster behind.

Each request and each answer is held against the published interface (`published`); what it does not
have is answered with 400 and kept in `violations`, which a test's fixture looks at. What real
servers do to clients can be switched on: refusals, slowness, conflicts, forgotten versions.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kube_rig import published
from kube_rig.store import Object, Store, chosen, merged, merged_conditions, stamp

TOKEN = "the-token-of-chipmedic"
VERBS = {"PATCH": "patch", "POST": "create", "DELETE": "delete"}
MODELS = {"nodes": "V1Node", "pods": "V1Pod", "jobs.batch": "V1Job"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, as the rules of access see it."""

    verb: str
    group: str
    resource: str
    """With its subresource: `pods/eviction`."""
    namespace: str
    name: str
    query: dict[str, str]
    body: Any


@dataclass
class Trouble:
    """What the server does to the next calls of one kind."""

    pattern: str
    """Over `verb resource`: `patch nodes`."""
    status: int = 0
    """0: the call is answered as ever."""
    times: int = 1
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None
    """What happens in the moment between the client's decision and the server's answer."""
    delay_seconds: float = 0.0
    cuts: bool = False
    """The connection breaks before the request is heard."""
    loses_answer: bool = False
    """The request is done, and the connection breaks before the answer."""


class Answer(Exception):
    """An answer that is no object."""

    def __init__(self, status: int, body: Object, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


def refusal(status: int, message: str, reason: str, **details: Any) -> Answer:
    """Return a `Status` as the API server answers with."""
    body = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    }  # fmt: skip
    return Answer(status, body | ({"details": details} if details else {}))


class ApiServer:
    """Serves one `Store`."""

    def __init__(self, store: Store, tick: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self.tick = tick
        """Called after each request: what the controllers of a cluster would do meanwhile."""
        self.before_each: Callable[[], None] = lambda: None
        self.calls: list[Call] = []
        self.violations: list[str] = []
        self.troubles: list[Trouble] = []
        self.budgets: dict[str, int] = {}
        """Label `app` -> how many of its pods may be evicted yet; without an entry: all."""
        self.two_budgets: set[str] = set()
        self.raw_answers: dict[str, str] = {}
        """`verb resource` -> a text to answer with instead."""
        self.token = TOKEN
        self._http = _Server(self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.hang_up()
        self._http.server_close()
        self._thread.join()

    def kubeconfig(self, path: Path) -> str:
        """Write a kubeconfig for this server; return its path."""
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": self.url}}],
            "users": [{"name": "it", "user": {"token": self.token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }))  # fmt: skip
        return str(path)

    def calls_of(self, pattern: str) -> list[Call]:
        return [c for c in self.calls if re.fullmatch(pattern, f"{c.verb} {c.resource}")]

    def answer(
        self, verb: str, target: str, headers: Any, raw: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        """Answer one request; an answer that is a list of events is a watch."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if headers.get("authorization") != f"Bearer {self.token}":
            refused = refusal(401, "Unauthorized", "Unauthorized")
            return 401, refused.body, {}
        body = json.loads(raw) if raw else None
        try:
            op, names = published.find(verb, parts.path)
            published.check_request(op, query, headers.get("content-type", ""), body)
        except published.Violation as e:
            self.violations.append(str(e))
            return 400, refusal(400, str(e), "BadRequest").body, {}
        call = _call(verb, parts.path, names, query, body)
        try:
            self.before_each()
            self._trouble(call)
            with self.store.lock:
                self.calls.append(call)
                if (text := self.raw_answers.get(f"{call.verb} {call.resource}")) is not None:
                    return 200, text, {}
                found = self._handle(call)
                self._check(op.answer, found)
                return 200 if verb != "POST" else 201, copy.deepcopy(found), {}
        except Answer as e:
            self._check("V1Status", e.body)
            return e.status, e.body, e.headers
        finally:
            with self.store.lock:
                self.tick()

    def _check(self, model: str, found: Any) -> None:
        if isinstance(found, dict) and "metadata" in found:
            kind = "V1Status" if found.get("kind") == "Status" else model
            try:
                published.check(kind, found, f"the stand-in's own {kind}")
            except published.Violation as e:
                self.violations.append(str(e))

    def _trouble(self, call: Call) -> None:
        for trouble in self.troubles:
            if trouble.times > 0 and re.fullmatch(trouble.pattern, f"{call.verb} {call.resource}"):
                trouble.times -= 1
                if trouble.delay_seconds:
                    time.sleep(trouble.delay_seconds)
                trouble.before()
                if trouble.cuts:
                    raise ConnectionAbortedError
                if trouble.loses_answer:
                    with self.store.lock:
                        self._handle(call)
                    raise ConnectionAbortedError
                if trouble.status:
                    refused = refusal(trouble.status, trouble.body or "trouble", "Trouble")
                    raise Answer(trouble.status, refused.body, trouble.headers)
                return

    def _handle(self, call: Call) -> Any:
        match call.verb:
            case "list":
                return self._list(call)
            case "watch":
                return self._watch(call)
            case "create":
                return self._evict(call)
        present = self._present(call)
        if call.verb == "patch":
            return self._patch(call, present)
        if call.verb == "delete":
            options = call.body or {}
            return self.delete(present, options.get("gracePeriodSeconds"), options)
        return present

    def _present(self, call: Call) -> Object:
        resource = call.resource.partition("/")[0]
        found = self.store.get(resource, call.name, call.namespace)
        if found is None:
            raise refusal(404, f'{resource} "{call.name}" not found', "NotFound")
        return found

    def _list(self, call: Call) -> Object:
        labels, fields = call.query.get("labelSelector", ""), call.query.get("fieldSelector", "")
        found = [
            raw
            for raw in self.store.all(call.resource, call.namespace)
            if chosen(raw, labels, fields)
        ]
        start, version = 0, self.store.version
        if token := call.query.get("continue"):
            start, version = (int(part) for part in token.split("."))
            if version < self.store.oldest:
                raise refusal(410, "The provided continue parameter is too old", "Expired")
        limit = int(call.query.get("limit") or len(found) or 1)
        metadata: Object = {"resourceVersion": str(version)}
        if start + limit < len(found):
            metadata["continue"] = f"{start + limit}.{version}"
        kind = {"nodes": "NodeList", "pods": "PodList"}[call.resource]
        return {
            "kind": kind, "apiVersion": "v1", "metadata": metadata,
            "items": found[start : start + limit],
        }  # fmt: skip

    def _watch(self, call: Call) -> list[Object]:
        after = int(call.query["resourceVersion"])
        if after < self.store.oldest:
            gone = refusal(410, "too old resource version", "Expired").body
            return [{"type": "ERROR", "object": gone}]
        mark = {
            "kind": "Node", "apiVersion": "v1",
            "metadata": {"resourceVersion": str(self.store.version)},
        }  # fmt: skip
        return [*self.store.events(call.resource, after), {"type": "BOOKMARK", "object": mark}]

    def _patch(self, call: Call, present: Object) -> Object:
        asked = call.body.get("metadata", {}).get("resourceVersion")
        if asked is not None and asked != present["metadata"]["resourceVersion"]:
            raise refusal(
                409, "the object has been modified; please apply your changes to the latest",
                "Conflict",
            )  # fmt: skip
        if call.resource == "nodes/status":
            return self.store.put("nodes", merged_conditions(present, call.body))
        new = merged(copy.deepcopy(present), call.body)
        if new["spec"].get("unschedulable") != present["spec"].get("unschedulable"):
            own_cordon(new, call.query.get("fieldManager", "unknown"))
        return self.store.put("nodes", new)

    def _evict(self, call: Call) -> Object:
        pod = self._present(call)
        app = pod["metadata"].get("labels", {}).get("app", "")
        if app in self.two_budgets:
            raise refusal(
                500, "This pod has more than one PodDisruptionBudget, which the eviction "
                "subresource does not support.", "InternalError",
            )  # fmt: skip
        if self.budgets.get(app, 1) < 1:
            refused = refusal(
                429, "Cannot evict pod as it would violate the pod's disruption budget.",
                "TooManyRequests", retryAfterSeconds=10,
                causes=[{
                    "reason": "DisruptionBudget",
                    "message": f"The disruption budget {app} needs 4 healthy pods and has 4",
                }],
            )  # fmt: skip
            refused.headers = {"Retry-After": "10"}
            raise refused
        if app in self.budgets:
            self.budgets[app] -= 1
        options = call.body.get("deleteOptions") or {}
        self.delete(pod, options.get("gracePeriodSeconds"), options)
        return call.body

    def delete(self, pod: Object, grace_seconds: int | None, options: Object) -> Object:
        """Begin the end of a pod, or end it where there is no grace."""
        metadata = pod["metadata"]
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted is not None and wanted != metadata["uid"]:
            raise refusal(409, f"Precondition failed: UID in precondition: {wanted}", "Conflict")
        if grace_seconds is None:
            grace_seconds = pod["spec"].get("terminationGracePeriodSeconds", 30)
        if grace_seconds == 0:
            self.store.remove("pods", metadata["name"], metadata["namespace"])
            return pod
        new = copy.deepcopy(pod)
        if "deletionTimestamp" not in metadata:
            new["metadata"]["deletionTimestamp"] = stamp(grace_seconds)
            new["metadata"]["deletionGracePeriodSeconds"] = grace_seconds
        return self.store.put("pods", new)


def own_cordon(node: Object, manager: str) -> None:
    """Keep book of who wrote `spec.unschedulable`, as the server does in `managedFields`."""
    entries = [
        entry
        for entry in node["metadata"].get("managedFields", [])
        if "f:unschedulable" not in entry["fieldsV1"].get("f:spec", {})
    ]
    if node["spec"].get("unschedulable"):
        entries.append({
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": stamp(),
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:unschedulable": {}}},
        })  # fmt: skip
    node["metadata"]["managedFields"] = entries


def _call(verb: str, path: str, names: dict[str, str], query: dict[str, str], body: Any) -> Call:
    """Take a path apart as the rules of access do."""
    parts = path.strip("/").split("/")
    group = parts[1] if parts[0] == "apis" else ""
    rest = parts[3:] if group else parts[2:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = rest[0] + (f".{group}" if group else "")
    sub = f"/{rest[2]}" if len(rest) > 2 else ""
    name = rest[1] if len(rest) > 1 else ""
    reading = "get" if name else ("watch" if query.get("watch") in ("true", "True") else "list")
    return Call(
        verb=VERBS.get(verb, reading), group=group, resource=resource + sub, namespace=namespace,
        name=name, query=query, body=body,
    )  # fmt: skip


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: ApiServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api
        self.open: set[Any] = set()

    def hang_up(self) -> None:
        """Close the connections that clients keep open."""
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(2)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet: else the client's system waits with its ack
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    do_PATCH = do_POST = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            status, body, headers = self.server.api.answer(
                self.command, self.path, self.headers, raw
            )
        except ConnectionAbortedError:
            self.close_connection = True
            return
        if isinstance(body, list):
            text = "".join(json.dumps(event) + "\n" for event in body)
        else:
            text = body if isinstance(body, str) else json.dumps(body)
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
