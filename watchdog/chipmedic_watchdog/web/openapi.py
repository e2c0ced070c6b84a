"""The OpenAPI page, made from the endpoints and the tables, so that it cannot lie about them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import JSON, Boolean, Float, Integer, Table

from chipmedic_watchdog.store import schema
from chipmedic_watchdog.web import access_api
from chipmedic_watchdog.web.endpoint import LIMIT_MAX, Endpoint, Parameter

PROBLEM = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
    },
}
TABLES = {
    "Node": schema.nodes,
    "Fault": schema.faults,
    "Incident": schema.incidents,
    "Notice": schema.notices,
    "Recovery": schema.recoveries,
    "LedgerEntry": schema.ledger,
    "Silence": schema.silences,
    "Token": schema.tokens,
    "Certificate": schema.certificates,
    "AuditEntry": schema.audit,
    "Isolation": schema.isolations,
    "Switch": schema.recovery_switches,
}
NEVER_SHOWN = frozenset({"secret_hash"})
JOB = {
    "type": "object",
    "description": "A job as the sum of what its nodes report.",
    "properties": {
        "job": {"type": "string", "examples": ["slurm:1234"]},
        "name": {"type": ["string", "null"]},
        "user": {"type": ["string", "null"]},
        "state": {"type": "string", "enum": ["running", "ended"]},
        "attempt": {"type": "integer"},
        "step": {"type": ["integer", "null"]},
        "checkpoint_step": {"type": ["integer", "null"]},
        "phase": {"type": ["string", "null"]},
        "nodes": {"type": "array", "items": {"type": "string"}},
        "chips": {"type": "integer"},
        "received_at": {"type": "number"},
    },
}
WATCHDOG = {
    "type": "object",
    "description": "One process of the store; a new one at each start.",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string", "examples": ["head-1:7443"]},
        "http": {"type": "string"},
        "version": {"type": "string"},
        "started_at": {"type": "number"},
        "seen_at": {"type": "number"},
        "is_alive": {"type": "boolean"},
        "is_leader": {"type": "boolean"},
        "token": {"type": ["integer", "null"], "description": "The leader's fencing token."},
        "led_for_seconds": {"type": ["number", "null"], "description": "Of the leader."},
        "lease_age_seconds": {
            "type": ["number", "null"],
            "description": "Since it was renewed; where one watchdog is alone, since its start.",
        },
    },
}
CHANNEL = {
    "type": "object",
    "properties": {
        "channel": {"type": "string"},
        "kind": {"type": "string", "examples": ["slack"]},
        "pending": {"type": "integer", "description": "Notices that wait, digests included."},
        "failing": {"type": "integer", "description": "Of these, tried and not arrived."},
        "failing_since": {"type": ["number", "null"]},
        "last_error": {"type": "string"},
    },
}

SAFETY = {
    "type": "object",
    "properties": {
        "hold": {"$ref": "#/components/schemas/Switch"},
        "breaker": {"$ref": "#/components/schemas/Switch"},
        "isolations": {"type": "array", "items": {"$ref": "#/components/schemas/Isolation"}},
    },
}
SECONDS_BY_PHASE = {
    "type": "object",
    "description": "Every phase; they sum up to wall_seconds exactly.",
    "additionalProperties": {"type": "number"},
}
INCIDENTS_BY_ID = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "properties": {"kind": {"type": "string"}, "title": {"type": "string"}},
    },
}
STAGE = {
    "type": "object",
    "properties": {
        "phase": {"type": "string"},
        "start_at": {"type": "number"},
        "end_at": {"type": ["number", "null"], "description": "null: it goes on."},
        "seconds": {"type": "number"},
        "detail": {"type": "string"},
    },
}
LOSS = {
    "type": "object",
    "description": "One wait, with the steps that were made again for it.",
    "properties": {
        "incident": {"type": ["string", "null"], "description": "null: nothing explains it."},
        "start_at": {"type": "number"},
        "end_at": {"type": ["number", "null"], "description": "null: it goes on."},
        "seconds": {"type": "number"},
        "stages": {"type": "array", "items": STAGE},
    },
}
CAUSE = {
    "type": "object",
    "properties": {
        "grouped": {
            "type": "object",
            "description": "Of one incident: why its faults are one, by language (en, zh).",
        },
        "cause": {
            "type": "string",
            "description": "Kind of the incidents; unexplained: none tells why; forgotten: they "
            "are no longer stored.",
        },
        "interruptions": {"type": "integer"},
        "lost_seconds": {"type": "number"},
        "seconds": SECONDS_BY_PHASE,
    },
}
VENDOR = {
    "type": "object",
    "properties": {
        "vendor": {"type": "string", "description": "Of the jobs' chips; mixed: of several."},
        "jobs": {"type": "integer"},
        "wall_seconds": {"type": "number"},
        "lost_seconds": {"type": "number"},
        "effective_ratio": {"type": ["number", "null"]},
        "seconds": SECONDS_BY_PHASE,
    },
}
JOB_LEDGER = {
    "type": "object",
    "description": "Where the time of a job went, from its first sight to its end or to now.",
    "properties": {
        "job": {"type": "string"},
        "vendor": {"type": "string", "description": "Of its chips; mixed: of several."},
        "began_at": {"type": "number"},
        "end_at": {"type": "number"},
        "is_over": {"type": "boolean"},
        "is_archived": {"type": "boolean", "description": "Only the sums are still stored."},
        "wall_seconds": {"type": "number"},
        "effective_ratio": {
            "type": ["number", "null"],
            "description": "Productive time / wall time; null: the job tells no steps.",
        },
        "lost_seconds": {"type": "number"},
        "mean_lost_seconds": {"type": ["number", "null"]},
        "starts": {"type": "integer"},
        "highest_step": {"type": ["integer", "null"]},
        "seconds": SECONDS_BY_PHASE,
        "losses": {"type": "array", "items": LOSS},
        "incidents": INCIDENTS_BY_ID,
        "text": {"type": "string", "description": "The same for a person."},
    },
}
REPORT = {
    "type": "object",
    "description": "Where the time of all jobs went in a span: of a job that is older, what lies "
    "in it. The sums are over the jobs that tell their steps, the causes add up to the lost time, "
    "the vendors to the whole.",
    "properties": {
        "since": {"type": "number"},
        "until": {"type": "number"},
        "jobs": {"type": "array", "items": {"$ref": "#/components/schemas/JobLedger"}},
        "jobs_not_listed": {"type": "integer", "description": "Counted in the sums alone."},
        "wall_seconds": {"type": "number"},
        "lost_seconds": {"type": "number"},
        "seconds": SECONDS_BY_PHASE,
        "effective_ratio": {"type": ["number", "null"]},
        "jobs_without_steps": {"type": "integer"},
        "jobs_archived": {
            "type": "integer",
            "description": "Of which only the sums are left; counted with their whole life.",
        },
        "causes": {"type": "array", "items": CAUSE},
        "vendors": {"type": "array", "items": VENDOR},
        "incidents": INCIDENTS_BY_ID,
    },
}


def openapi(endpoints: Iterable[Endpoint], version: str) -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = endpoint.path.replace(":path}", "}")
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, path)
    schemas: dict[str, Any] = {name: _table(table) for name, table in TABLES.items()}
    schemas |= {
        "Job": JOB,
        "Watchdog": WATCHDOG,
        "Channel": CHANNEL,
        "JobLedger": JOB_LEDGER,
        "Report": REPORT,
        "Safety": SAFETY,
        "Problem": PROBLEM,
    }
    schemas |= access_api.SCHEMAS
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chipmedic watchdog",
            "version": version,
            "description": "Times are UNIX seconds. From another machine a bearer token is needed; "
            "what a role may do, those above it may, too: view, operate, admin.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(endpoint: Endpoint, path: str) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.words,
        "description": "Open to all."
        if endpoint.is_open
        else f"Needs the role {endpoint.needed_role.word}.",
        "parameters": parameters + [_parameter(p) for p in endpoint.parameters],
        "responses": {
            "200": {"description": "As asked.", "content": _content(endpoint.answer)},
            "default": {
                "description": "Refused, and why.",
                "content": {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                },
            },
        },
    }
    if endpoint.body is not None:
        operation["requestBody"] = _body(endpoint)
    return operation


def _body(endpoint: Endpoint) -> dict[str, Any]:
    keys = endpoint.body or {}
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    # `who` may be missing where the token has a name.
                    "required": [k for k in keys if not k.endswith("?") and k != "who"],
                    "properties": {
                        key.removesuffix("?"): {"type": "string", "description": words}
                        for key, words in keys.items()
                    },
                }
            }
        },
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "string"}
    if parameter.is_integer:
        kind = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}
    elif parameter.choices:
        kind["enum"] = list(parameter.choices)
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.words,
        "schema": kind,
    }


def _content(answer: str) -> dict[str, Any]:
    if "/" in answer:
        return {answer: {"schema": {"type": "string"}}}
    name = answer.removeprefix("list:")
    item: dict[str, Any] = {"type": "object"}
    if name != "object":
        item = {"$ref": f"#/components/schemas/{name}"}
    if answer.startswith("list:"):
        item = {
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": {"type": "array", "items": item},
                "next": {"type": ["string", "null"], "description": "For `after`; null: the last."},
            },
        }
    return {"application/json": {"schema": item}}


def _table(table: Table) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for column in table.columns:
        kind: Any = "string"
        if column.name in NEVER_SHOWN:
            continue
        if isinstance(column.type, JSON):
            properties[column.name] = {}
            continue
        if column.name == "severity":
            properties[column.name] = {"type": "string", "enum": ["info", "warning", "critical"]}
            continue
        if isinstance(column.type, Boolean):
            kind = "boolean"
        elif isinstance(column.type, Integer):
            kind = "integer"
        elif isinstance(column.type, Float):
            kind = "number"
        properties[column.name] = {"type": [kind, "null"] if column.nullable else kind}
    return {"type": "object", "properties": properties}
