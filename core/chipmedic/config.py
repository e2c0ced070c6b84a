"""TOML files decoded into frozen dataclasses, with every problem of a file in one report.

An unknown key is an error with the nearest known name, because a typo that silently keeps a default
can run for months. A secret is named by the path of a file (`*_file`) or by an environment
variable, and never stands in the configuration itself.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cattrs import BaseValidationError, Converter, transform_error

from chipmedic.errors import ConfigError

Settings = TypeVar("Settings")

CONVERTER = Converter(forbid_extra_keys=False, detailed_validation=True)


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _exactly(kind: type) -> Any:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is not a value of type {kind.__name__}")
        return value

    return structure


def _strings(value: Any, _: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{value!r} is not a list of texts")
    return tuple(value)


CONVERTER.register_structure_hook(float, _number)
for _kind in (str, int, bool):
    CONVERTER.register_structure_hook(_kind, _exactly(_kind))
# A StrEnum is a str as well: without a hook of its own any word would pass for a member.
for _names in (StrEnum, IntEnum):
    CONVERTER.register_structure_hook(_names, lambda value, kind: kind(value))
# A text where a list belongs ("cmd --all" for ["cmd", "--all"]) would become a list of letters.
CONVERTER.register_structure_hook_func(lambda kind: kind == tuple[str, ...], _strings)


def load(path: Path | str, settings: type[Settings]) -> Settings:
    """Read a configuration file.

    Raises:
        ConfigError: it cannot be read, or any key is wrong; all problems at once.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(str(path), [f"cannot be read: {e}"]) from e
    return loads(text, settings, path=str(path))


def loads(text: str, settings: type[Settings], *, path: str = "configuration") -> Settings:
    """Decode the text of a configuration file; see `load`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(path, [f"not TOML: {e}"]) from e
    return structured(data, settings, path=path)


def structured(data: Mapping[str, Any], settings: type[Settings], *, path: str) -> Settings:
    """Turn a table that is read already into a dataclass; see `load`."""
    problems = list(_unknown_keys(data, settings, ""))
    try:
        value = CONVERTER.structure(data, settings)
    except (BaseValidationError, ValueError, TypeError, KeyError) as e:
        problems += [_cleaned(line) for line in transform_error(e, format_exception=_words)]
        raise ConfigError(path, problems) from e
    if problems:
        raise ConfigError(path, problems)
    return value


def _unknown_keys(data: Mapping[str, Any], settings: Any, where: str) -> Iterator[str]:
    """Yield a line for each key that no field has, at every depth."""
    hints = get_type_hints(settings)
    known = {field.name for field in dataclasses.fields(settings)}
    for key, value in data.items():
        name = f"{where}{key}"
        if key not in known:
            from difflib import get_close_matches  # only where something is wrong

            near = get_close_matches(key, known, n=1)
            yield f"{name}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
            continue
        inner = _dataclass_in(hints[key])
        if inner is None:
            continue
        if get_origin(hints[key]) is dict and isinstance(value, dict):
            for label, item in value.items():
                if isinstance(item, dict):
                    yield from _unknown_keys(item, inner, f"{name}.{label}.")
        elif isinstance(value, dict):
            yield from _unknown_keys(value, inner, f"{name}.")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _unknown_keys(item, inner, f"{name}[{number}].")


def _dataclass_in(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return hint
    return next((d for d in map(_dataclass_in, get_args(hint)) if d is not None), None)


def _words(error: BaseException, kind: type | None) -> str:
    """Say what was wrong with one value, and what is allowed."""
    if isinstance(error, KeyError):
        return "required, and missing"
    if isinstance(error, ValueError) and isinstance(kind, type) and issubclass(kind, Enum):
        allowed = ", ".join(str(member.value) for member in kind)
        return f"{error.args[0].split(' is not')[0]} is not one of: {allowed}"
    if isinstance(error, ValueError | TypeError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _cleaned(line: str) -> str:
    """Turn cattrs' `text @ $.a.b` into `a.b: text`."""
    text, _, place = line.rpartition(" @ $")
    place = place.lstrip(".")
    return f"{place}: {text}" if place else text
