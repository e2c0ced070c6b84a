"""Log lines inside JSON: `journalctl -o json`, container runtimes, log shippers.

Only a line that is a whole object with words in it is unwrapped; any other is a line as it stands.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from chipmedic.faults.prefix import Stripped, strip_prefix

_TEXTS = ("MESSAGE", "message", "log", "msg")
_HOSTS = ("_HOSTNAME", "hostname", "host", "node")
_PROGRAMS = ("SYSLOG_IDENTIFIER", "ident")
_STAMPS = ("time", "timestamp", "@timestamp", "ts")


def strip_line(line: str) -> Stripped:
    """Return a line without prefix and wrapping, and what both said; any text is a valid line."""
    record = _record(line) if line.startswith("{") else None
    text = _first(record, _TEXTS) if record else ""
    if record is None or not text:
        return strip_prefix(line)
    stripped = strip_prefix(text)
    stripped.host = stripped.host or _first(record, _HOSTS) or None
    stripped.program = stripped.program or _first(record, _PROGRAMS) or None
    stripped.stamp = stripped.stamp or _stamp(record)
    return stripped


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _first(record: dict[str, Any], keys: tuple[str, ...]) -> str:
    return next((v for key in keys if isinstance(v := record.get(key), str) and v), "")


def _stamp(record: dict[str, Any]) -> str:
    """Return when, as the record says; the journal counts microseconds since 1970."""
    microseconds = record.get("__REALTIME_TIMESTAMP")
    if isinstance(microseconds, str) and microseconds.isdecimal() and len(microseconds) < 18:
        when = datetime.fromtimestamp(int(microseconds) / 1e6, UTC)
        return when.isoformat(timespec="seconds")
    return _first(record, _STAMPS)
