"""The published interface of Kubernetes, read out of the official client that is generated from it.

Each method of the client holds the verb, the path, the parameters of the query, the media types and
the models of one operation of the OpenAPI document; the models refuse unknown and wrong fields.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from kubernetes import client
from kubernetes.client.api import apps_v1_api, batch_v1_api, core_v1_api, custom_objects_api
from pydantic import BaseModel, ValidationError

MODULES = (core_v1_api, batch_v1_api, apps_v1_api, custom_objects_api)
METHOD = "\n    def "
VERB, PATH = re.compile(r"method='(\w+)'"), re.compile(r"resource_path='([^']+)'")
QUERY = re.compile(r"_query_params\.append\(\('(\w+)'")
MEDIA = re.compile(r"'(application/[\w.+-]*(?:json|yaml|cbor)[\w+]*)'")
BODY = re.compile(r"^        body: (?:Annotated\[)?(?:Optional\[)?(\w+)", re.MULTILINE)
ANSWER = re.compile(r"'20[0-2]': \"(\w+)\"")


class Violation(Exception):
    """A request or an answer that the published interface does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: a verb on a path."""

    name: str
    verb: str
    path: str
    query: frozenset[str]
    media: frozenset[str]
    """Media types of the body."""
    body: str
    """Model of the body; empty: any object."""
    answer: str
    """Model of the answer; empty: any object."""

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters of a path, or None: it is not of this operation."""
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        found = re.fullmatch(pattern, path)
        return None if found is None else found.groupdict()


def find(verb: str, path: str) -> tuple[Operation, dict[str, str]]:
    """Return the operation of a request; the one that is spelt out goes before placeholders."""
    found = [
        (op, told)
        for op in operations()
        if op.verb == verb and (told := op.match(path)) is not None
    ]
    if not found:
        raise Violation(f"{verb} {path}: there is no such operation")
    return min(found, key=lambda pair: len(pair[1]))


def check_request(op: Operation, query: Mapping[str, str], media: str, body: Any) -> None:
    """Hold a request against its operation."""
    if unknown := query.keys() - op.query:
        raise Violation(f"{op.name}: it has no parameter {', '.join(sorted(unknown))}")
    if body is None:
        return
    if op.media and media not in op.media:
        raise Violation(f"{op.name}: it takes no {media}")
    model = op.body or (op.answer if op.verb == "PATCH" else "")
    check(model, _without_nulls(body) if op.verb == "PATCH" else body, op.name)


def check(model: str, value: Any, what: str) -> None:
    """Hold an object against a model."""
    found = getattr(client, model, None)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        return
    if bad := [key for key in _keys(value) if "_" in key]:
        raise Violation(f"{what}: {bad} is not how a field is spelt")
    try:
        found.model_validate(value)
    except ValidationError as e:
        raise Violation(f"{what}: {e}") from e


def _keys(value: Any, where: str = "") -> list[str]:
    """Return the names of all fields; the keys of labels and annotations are no fields."""
    if isinstance(value, list):
        return [key for item in value for key in _keys(item, where)]
    if not isinstance(value, Mapping) or where in ("labels", "annotations", "fieldsV1"):
        return []
    return [*value, *(key for name, item in value.items() for key in _keys(item, name))]


def _without_nulls(value: Any) -> Any:
    """Return a merge patch without what it takes away."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


@cache
def operations() -> tuple[Operation, ...]:
    """Return all operations of the parts that matter here."""
    return tuple(op for module in MODULES for op in _read(inspect.getsource(module)))


def _read(source: str) -> list[Operation]:
    """Take the generated code of one part apart, method by method."""
    methods = {
        text.partition("(")[0]: text for text in source.replace("@validate_call", "").split(METHOD)
    }
    return [
        _operation(name.removeprefix("_").removesuffix("_serialize"), text, methods)
        for name, text in methods.items()
        if name.startswith("_") and name.endswith("_serialize")
    ]


def _operation(name: str, text: str, methods: Mapping[str, str]) -> Operation:
    verb, path = VERB.search(text), PATH.search(text)
    assert verb is not None, name
    assert path is not None, name
    signature, _, rest = methods[name].partition(") ->")
    answer, body = ANSWER.search(rest), BODY.search(signature)
    return Operation(
        name=name,
        verb=verb[1],
        path=path[1],
        query=frozenset(QUERY.findall(text)),
        media=frozenset(MEDIA.findall(text.partition("`Content-Type`")[2])),
        body=body[1] if body and body[1].startswith("V") else "",
        answer=answer[1] if answer else "",
    )
