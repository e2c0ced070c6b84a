"""TOML files decoded into frozen dataclasses, with every problem of a file in one report.

An unknown key is an error with the nearest known name, because a typo that silently keeps a default
can run for months. A secret is named by the path of a file (`*_file`) or by an environment
variable, and never stands in the configuration itself.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from cattrs import BaseValidationError, Converter, transform_error

from chipmedic.errors import ConfigError
from chipmedic.section import Check, SectionRefused, judged

Settings = TypeVar("Settings")

CONVERTER = Converter(forbid_extra_keys=False, detailed_validation=True)


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _exactly(kind: type, words: str) -> Any:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is not {words}")
        return value

    return structure


def _strings(value: Any, _: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{value!r} is not a list of texts")
    return tuple(value)


CONVERTER.register_structure_hook(float, _number)
for _kind, _name in ((str, "a text"), (int, "a whole number"), (bool, "true or false")):
    CONVERTER.register_structure_hook(_kind, _exactly(_kind, _name))
# A StrEnum is a str as well: without a hook of its own any word would pass for a member.
for _names in (StrEnum, IntEnum):
    CONVERTER.register_structure_hook(_names, lambda value, kind: kind(value))
# A text where a list belongs ("cmd --all" for ["cmd", "--all"]) would become a list of letters.
CONVERTER.register_structure_hook_func(lambda kind: kind == tuple[str, ...], _strings)


def load(path: Path | str, settings: type[Settings], *, further: Iterable[Check] = ()) -> Settings:
    """Read a configuration file.

    `further` are checks of the whole file, by what its own dataclasses cannot know: installed
    parts, other files.

    Raises:
        ConfigError: it cannot be read, or any key is wrong; all problems at once.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(str(path), [unreadable(e)]) from e
    return loads(text, settings, path=str(path), further=further)


def loads(
    text: str,
    settings: type[Settings],
    *,
    path: str = "configuration",
    further: Iterable[Check] = (),
) -> Settings:
    """Decode the text of a configuration file; see `load`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(path, [f"not TOML: {e}"]) from e
    return structured(data, settings, path=path, further=further)


def structured(
    data: Mapping[str, Any],
    settings: type[Settings],
    *,
    path: str,
    further: Iterable[Check] = (),
) -> Settings:
    """Turn a table that is read already into a dataclass; see `load`."""
    problems = list(_unknown_keys(data, settings, ""))
    value: Any
    try:
        value = CONVERTER.structure(data, settings)
    except (BaseValidationError, ValueError, TypeError, KeyError):
        value = _part(data, settings, "", problems)
    for check in further:
        problems += judged(check, value)
    if problems:
        raise ConfigError(path, problems)
    return cast("Settings", value)


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Say why a file gave no text, without its name."""
    if isinstance(error, UnicodeDecodeError):
        return f"cannot be read: at byte {error.start} it is no text in UTF-8"
    if isinstance(error, PermissionError):
        return "cannot be read by this user: give it to who runs the daemon, or check as that user"
    return f"cannot be read: {error.strerror or error}"


def read_secret(key: str, path: str) -> str:
    """Return a secret that is named by its file.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(path, [f"{key}: {unreadable(e)}"]) from e
    if not secret:
        raise ConfigError(path, [f"{key}: is empty: the secret belongs into its first line"])
    return secret


WRONG = object()
"""Stands for a value that the file gives and that cannot be used."""


def _part(value: Any, hint: Any, place: str, problems: list[str]) -> Any:
    """Return what is right of a value, or WRONG, and add what is wrong of it."""
    inner = _dataclass_in(hint)
    if inner is None:
        return _leaf(value, hint, place, problems)
    if get_origin(hint) is dict and isinstance(value, Mapping):
        key_hint = get_args(hint)[0]
        rows = {
            _leaf(key, key_hint, place, problems): _part(item, inner, f"{place}.{key}", problems)
            for key, item in value.items()
        }
        return {key: row for key, row in rows.items() if key is not WRONG}
    if get_origin(hint) is tuple and isinstance(value, list):
        numbered = enumerate(value)
        return tuple(_part(row, inner, f"{place}[{n}]", problems) for n, row in numbered)
    if get_origin(hint) in (dict, tuple):
        wanted = "table of tables" if get_origin(hint) is dict else "list of tables"
        problems.append(f"{place}: {value!r} is not a {wanted}")
        return WRONG
    return _section(value, inner, place, problems)


def _section(data: Any, settings: Any, place: str, problems: list[str]) -> Any:
    """Return a section whose wrong fields are not set, after its own checks of the others."""
    section = object.__new__(settings)
    if not isinstance(data, Mapping):
        problems.append(f"{place}: {data!r} is not a table")
        return section
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        where = f"{place}.{field.name}" if place else field.name
        if field.name in data:
            value = _part(data[field.name], hints[field.name], where, problems)
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            problems.append(f"{where}: required, and missing")
            continue
        if value is not WRONG:
            object.__setattr__(section, field.name, value)
    problems += [_placed(place, words) for words in _own_problems(section)]
    return section


def _own_problems(section: Any) -> tuple[str, ...]:
    """Return what a section says of the values that it has."""

    def check(section: Any) -> tuple[str, ...]:
        try:
            getattr(section, "__post_init__", lambda: None)()
        except SectionRefused as e:
            return e.problems
        except (ValueError, TypeError) as e:
            return (str(e),)
        return ()

    return tuple(judged(check, section))


def _leaf(value: Any, hint: Any, place: str, problems: list[str]) -> Any:
    try:
        return CONVERTER.structure(value, hint)
    except (BaseValidationError, ValueError, TypeError, KeyError) as e:
        lines = transform_error(
            e, path=f"$.{place}", format_exception=lambda error, kind: _words(error, kind or hint)
        )
        problems += [_cleaned(line) for line in lines]
        return WRONG


KEY_FIRST = re.compile(r"[a-z_][\w.\[\]]*: ")


def _placed(place: str, problem: str) -> str:
    """Put a section's place before a problem of it: one path of keys where it names one."""
    if not place:
        return problem
    return f"{place}.{problem}" if KEY_FIRST.match(problem) else f"{place}: {problem}"


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
