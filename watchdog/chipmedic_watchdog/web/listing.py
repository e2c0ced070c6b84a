"""Pages of rows of one table, with filters, newest first unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sqlalchemy import Column, Connection, Table, select

from chipmedic.model import Severity
from chipmedic_watchdog.web.endpoint import PAGING, Parameter, Query, read_limit
from chipmedic_watchdog.web.problem import Problem

Condition = Callable[[Column[Any], str], Any]
SEVERITIES = {severity.name.lower(): severity for severity in Severity}


def equals(column: Column[Any], value: str) -> Any:
    """The column is this text."""
    return column == value


def is_severity(column: Column[Any], value: str) -> Any:
    """The column is this severity, given as a word."""
    return column == int(SEVERITIES[value])


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A query parameter and the column that it looks at."""

    parameter: Parameter
    column: str
    condition: Condition = equals


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One table as pages."""

    table: Table
    key: str
    is_descending: bool = True
    is_integer_key: bool = False
    filters: tuple[Filter, ...] = field(default=())

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What the query may hold."""
        return (*(f.parameter for f in self.filters), *PAGING)

    def page(self, connection: Connection, query: Query) -> dict[str, Any]:
        """Return one page: `items`, and `next` where there are more.

        Raises:
            Problem: a limit or a cursor that is none.
        """
        limit = read_limit(query)
        key = self.table.c[self.key]
        statement = select(self.table).order_by(key.desc() if self.is_descending else key)
        for item in self.filters:
            value = query.get(item.parameter.name)
            if value is not None:
                column = self.table.c[item.column]
                statement = statement.where(item.condition(column, value))
        if "after" in query:
            after = self._cursor(query["after"])
            statement = statement.where(key < after if self.is_descending else key > after)
        rows = connection.execute(statement.limit(limit + 1)).mappings().all()
        items = [as_json(row) for row in rows[:limit]]
        return {"items": items, "next": str(items[-1][self.key]) if len(rows) > limit else None}

    def _cursor(self, text: str) -> str | int:
        if not self.is_integer_key:
            return text
        if not text.isascii() or not text.isdecimal() or len(text) > 18:
            raise Problem(HTTPStatus.BAD_REQUEST, f"after: {text!r} is not the next of a page")
        return int(text)


def as_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row for programs: a severity is a word."""
    item = dict(row)
    if isinstance(item.get("severity"), int):
        item["severity"] = severity_word(item["severity"])
    return item


def severity_word(value: int) -> str:
    """Return `info`, `warning` or `critical`; a number that is none of them as it is."""
    try:
        return Severity(value).name.lower()
    except ValueError:
        return str(value)
